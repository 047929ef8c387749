"""Panels that ask the ledger, in the SQL of PostgreSQL: what was stopped one by one, and what payments turned out to be."""

from collections.abc import Mapping
from typing import Final

from grafana_foundation_sdk.builders import barchart, common, geomap, table, timeseries
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from grafana.panels import COLOURS, Sql, described, legend

MARKER: Final = "img/icons/marker/circle.svg"
COUNTS: Final = {"caught": "green", "missed": "red", "false alarms": "orange"}
"""What flags amount to. Beside each is what is so far known of days that are too young for chargebacks, in a lighter shade."""
SO_FAR: Final = " so far"


def listing(title: str, meaning: str, query: Sql, units: Mapping[str, str]) -> table.Panel:
    """Rows as they come; `units` by column."""
    panel = described(table.Panel(), title, meaning, "short", [query], None)
    for column, unit in units.items():
        panel.override_by_name(column, [DynamicConfigValue("unit", unit)])
    return panel.show_header(True).footer(common.TableFooterOptions().show(False).reducer(["sum"]))


def scatter(title: str, meaning: str, query: Sql, unit: str) -> timeseries.Panel:
    """A point for each row at its time, on a scale of powers of ten; columns are outcomes."""
    panel = described(timeseries.Panel(), title, meaning, unit, [query], None)
    panel.draw_style(models.GraphDrawStyle.POINTS).point_size(6).show_points(models.VisibilityMode.ALWAYS)
    panel.scale_distribution(common.ScaleDistributionConfig().type(models.ScaleDistribution.LOG).log(10))
    panel.legend(legend()).tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.SINGLE).sort(models.SortOrder.NONE))
    for name, colour in COLOURS.items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def places(title: str, meaning: str, query: Sql) -> geomap.Panel:
    """A mark for each row where its latitude and longitude are, the larger the amount the larger."""
    style = {
        "color": {"fixed": "dark-red"},
        "opacity": 0.5,
        "size": {"field": "amount", "fixed": 5, "max": 15, "min": 3},
        "symbol": {"fixed": MARKER, "mode": "fixed"},
    }
    where = common.FrameGeometrySource().mode(models.FrameGeometrySourceMode.COORDS).latitude("latitude").longitude("longitude")
    marks = common.MapLayerOptions().type("markers").name("Payments").config({"showLegend": False, "style": style}).location(where)
    panel = described(geomap.Panel(), title, meaning, "short", [query], None)
    panel.view(geomap.MapViewConfig().id("fit").zoom(1)).basemap(common.MapLayerOptions().type("default").name("Map"))
    return panel.layers([marks.tooltip(True)])


def weeks(title: str, meaning: str, query: Sql, unit: str) -> barchart.Panel:
    """A stacked bar for each row, by its column `week`."""
    panel = described(barchart.Panel(), title, meaning, unit, [query], None)
    panel.x_field("week").stacking(models.StackingMode.NORMAL).show_value(models.VisibilityMode.NEVER).fill_opacity(80)
    panel.legend(legend()).tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.NONE))
    for name, colour in COUNTS.items():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
        panel.override_by_name(name + SO_FAR, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": f"super-light-{colour}"})])
    return panel
