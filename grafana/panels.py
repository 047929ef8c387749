"""The few kinds of panel that the boards are made of, each with a title, what it means and when to worry, and a unit."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from grafana_foundation_sdk.builders import barchart, bargauge, common, dashboard, geomap, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.runtime import UnknownDataquery
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import heatmap as heat_models
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    GridPos,
    Threshold,
    ThresholdsMode,
    VariableHide,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

Panel = barchart.Panel | bargauge.Panel | geomap.Panel | heatmap.Panel | stat.Panel | table.Panel | timeseries.Panel
P = TypeVar("P", barchart.Panel, bargauge.Panel, geomap.Panel, heatmap.Panel, stat.Panel, table.Panel, timeseries.Panel)
Steps = Mapping[float, str]
"""From which value on which colour holds; green below the first."""

WIDTH: Final = 24
SOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${source}")
LEDGER: Final = models.DataSourceRef(type_val="grafana-postgresql-datasource", uid="${ledger}")
WHOLE: Final = 'aegis_score_bucket{@, layer=~"rules|ensemble"}'
"""The score that decides: of all layers together, or of rules where there are no models."""
SELECTED: Final = 'job="$job", instance=~"$instance"'
COLOURS: Final = {"allow": "green", "review": "orange", "block": "red"}
TAG: Final = "aegis"
PER_SECOND: Final = "suffix: /s"
BESIDE: Final = ""
"""Links and switches of annotations: above the panels, where they are seen; the library would hide them in a menu."""
OBJECTIVE: Final = 0.05
"""Seconds within which 99 in 100 payments are decided."""
WAITS: Final[Steps] = {OBJECTIVE: "orange", 1.0: "red"}
ANY_IS_BAD: Final[Steps] = {1.0: "red"}


class Query(prometheus.Dataquery):
    """A query to Prometheus; `@` stands for the workers selected. `now` asks for the latest value alone."""

    def __init__(
        self, expression: str, legend: str = "", *, now: bool = False, form: PromQueryFormat = PromQueryFormat.TIME_SERIES
    ) -> None:
        super().__init__()
        self.legend = legend
        self.source = SOURCE
        self.expr(expression.replace("@", SELECTED)).legend_format(legend).format(form).datasource(SOURCE)
        if now:
            self.instant()
        else:
            self.range()


class Sql(Builder[Dataquery]):
    """A query to the ledger: rows for a table; `over_time`: values at times, of which the first column is one."""

    legend = ""
    source = LEDGER

    def __init__(self, text: str, *, over_time: bool = False) -> None:
        self._said: dict[str, Any] = {
            "datasource": LEDGER,
            "editorMode": "code",
            "format": "time_series" if over_time else "table",
            "rawQuery": True,
            "rawSql": " ".join(text.split()),
        }

    def ref_id(self, letter: str) -> Self:
        self._said["refId"] = letter
        return self

    def instant(self) -> Self:
        """What it answers is of now anyway."""
        return self

    def build(self) -> UnknownDataquery:
        return UnknownDataquery(self._said)


Asked = Query | Sql


def rate(series: str, by: str = "") -> str:
    """How fast counters grow, a second, added up."""
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


def growth(series: str, by: str = "") -> str:
    """How much counters grew in the time selected, added up."""
    return f"sum by ({by}) (increase({series}[$__range]))"


def quantile(share: float, histogram: str, by: str = "le", of: str = "@") -> str:
    """What so many of the values observed stay below; `by` has `le` in it. Nothing, and not "not a number", where none was observed."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket{{{of}}}', by)}) >= 0"


def share(part: str, whole: str, *, of_each: bool = False) -> str:
    """One in the other; nothing where the whole is 0. `of_each`: of several parts, in the one whole."""
    return f"{part} / {'on () group_left () ' if of_each else ''}({whole} > 0)"


def figure(
    title: str,
    meaning: str,
    query: Asked,
    unit: str,
    worry: Steps | None = None,
    *,
    decimals: int | None = None,
    by_name: bool = False,
    none: str = "none",
) -> stat.Panel:
    """One number, as it is now: the last of the time selected would stand there when nobody says it any more.

    `by_name`: its series' name instead. `none`: what stands there without data.
    """
    panel = described(stat.Panel(), title, meaning, unit, [query.instant()], worry)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.graph_mode(models.BigValueGraphMode.NONE).color_mode(
        models.BigValueColorMode.BACKGROUND if worry else models.BigValueColorMode.NONE
    )
    panel.text_mode(models.BigValueTextMode.NAME if by_name else models.BigValueTextMode.VALUE).no_value(none)
    return panel if decimals is None else panel.decimals(decimals)


def lines(
    title: str, meaning: str, queries: Sequence[Query], unit: str, worry: Steps | None = None, *, stacked: bool = False
) -> timeseries.Panel:
    """Values over time."""
    panel = described(timeseries.Panel(), title, meaning, unit, queries, worry)
    panel.legend(legend())
    panel.tooltip(common.VizTooltipOptions().mode(models.TooltipDisplayMode.MULTI).sort(models.SortOrder.DESCENDING))
    panel.line_width(1).fill_opacity(30 if stacked else 8).span_nulls(False).show_points(models.VisibilityMode.NEVER).axis_soft_min(0)
    panel.stacking(common.StackingConfig().mode(models.StackingMode.NORMAL if stacked else models.StackingMode.NONE).group("A"))
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    if worry:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(models.GraphThresholdsStyleMode.DASHED))
    for name, colour in COLOURS.items() if any(query.legend == "{{verdict}}" for query in queries) else ():
        panel.override_by_name(name, [DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    return panel


def bars(title: str, meaning: str, query: Query, unit: str, *, colour: str = "blue") -> bargauge.Panel:
    """A bar for each series, as of now."""
    panel = described(bargauge.Panel(), title, meaning, unit, [query], None)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.orientation(models.VizOrientation.HORIZONTAL).display_mode(models.BarGaugeDisplayMode.BASIC).show_unfilled(False).min(0)
    panel.legend(legend(show=False))
    return panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(colour))


def heat(title: str, meaning: str, buckets: str, unit: str) -> heatmap.Panel:
    """A histogram over time: how many fell where."""
    query = Query(f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}", form=PromQueryFormat.HEATMAP)
    panel = described(heatmap.Panel(), title, meaning, "short", [query], None)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).hide_legend().cell_gap(1)
    return panel.color(heatmap.HeatmapColorOptions().mode(heat_models.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64))


def rows(title: str, meaning: str, queries: Sequence[Query], hidden: Sequence[str] = ()) -> table.Panel:
    """Labels of series as a table; `hidden`: columns left out."""
    panel = described(table.Panel(), title, meaning, "short", queries, None)
    panel.show_header(True).footer(common.TableFooterOptions().show(False).reducer(["sum"]))
    if len(queries) > 1:
        panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    left_out = {name: True for name in ("Time", "Value", "__name__", "job", *hidden)}
    return panel.with_transformation(DataTransformerConfig(id_val="organize", options={"excludeByName": left_out}))


def legend(*, show: bool = True) -> common.VizLegendOptions:
    """The names of the series, below; everything said, because Grafana's schema wants it so."""
    options = common.VizLegendOptions().display_mode(models.LegendDisplayMode.LIST).placement(models.LegendPlacement.BOTTOM)
    return options.show_legend(show).calcs([])


def described(panel: P, title: str, meaning: str, unit: str, queries: Sequence[Asked], worry: Steps | None) -> P:
    """What every panel has. `worry`: thresholds, and colours from there on."""
    panel.title(title).description(meaning).unit(unit).datasource(queries[0].source)
    for letter, query in zip("ABCDEF", queries, strict=False):
        panel.with_target(query.ref_id(letter))
    steps = [Threshold(None, "green"), *(Threshold(value, colour) for value, colour in (worry or {}).items())]
    return panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))


class Board:
    """A dashboard under way: rows of panels that share the width, with the variables, links and annotations that all boards have."""

    def __init__(self, name: str, title: str, question: str, refresh: str = "30s") -> None:
        """`refresh`: how often it is asked anew; seldom where it asks of a quarter."""
        self.name = name
        self._panels = 0
        self._below = 0
        board = dashboard.Dashboard(title).uid(f"aegis-{name}").description(question).tags([TAG]).editable()
        board.time("now-1h", "now").refresh(refresh).timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
        for variable in _variables():
            board.with_variable(variable)
        for annotation in _annotations():
            board.annotation(annotation)
        link = dashboard.DashboardLink("Boards").type(DashboardLinkType.DASHBOARDS).tags([TAG])
        self._board = board.link(link.as_dropdown(False).placement(BESIDE).include_vars(True).keep_time(True))

    def row(self, title: str, height: int, *panels: Panel) -> "Board":
        """Panels side by side, under a title."""
        self._panels += 1
        self._board.with_row(dashboard.Row(title).id(self._panels).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=self._below)))
        self._below += 1
        for place, panel in enumerate(panels):
            self._panels += 1
            left, right = WIDTH * place // len(panels), WIDTH * (place + 1) // len(panels)
            self._board.with_panel(panel.id(self._panels).grid_pos(GridPos(h=height, w=right - left, x=left, y=self._below)))
        self._below += height
        return self

    def build(self) -> Any:
        return self._board.build()


def _variables() -> list[Any]:
    everything = VariableOption(text="All", value="$__all")
    return [
        dashboard.DatasourceVariable("source").label("Source").type("prometheus"),
        dashboard.DatasourceVariable("ledger").label("Ledger").type("grafana-postgresql-datasource"),
        dashboard.QueryVariable("job")
        .label("Deployment")
        .datasource(SOURCE)
        .query("label_values(aegis_ready, job)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED),
        dashboard.QueryVariable("instance")
        .label("Worker")
        .datasource(SOURCE)
        .query('label_values(aegis_ready{job="$job"}, instance)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything),
        dashboard.QueryVariable("currency")
        .datasource(SOURCE)
        .query('label_values(aegis_worker_info{job="$job"}, base_currency)')
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .hide(VariableHide.HIDE_VARIABLE),
    ]


def _annotations() -> list[dashboard.AnnotationQuery]:
    """What marks a moment on every panel. A version is new where it was not there a minute before, and workers were."""
    known = 'group (aegis_worker_info{{job="$job"}} offset 1m)'
    new = f'group by ({{0}}) ({{1}}{{{{job="$job"}}}}) unless group by ({{0}}) ({{1}}{{{{job="$job"}}}} offset 1m) and on () {known}'
    moved = 'sum by (instance) (increase(aegis_rebalances_total{job="$job"}[1m])) > 0'
    firing = 'group by (alertname) (ALERTS{alertstate="firing", alertname=~"Aegis.*", job="$job"})'
    return [
        _annotation("Policies", new.format("version, mode", "aegis_policy_info"), "blue", "policy {{version}}", "{{mode}}"),
        _annotation("Bundles", new.format("version", "aegis_bundle_info"), "green", "bundle {{version}}", "models"),
        _annotation("Software", new.format("version, rates", "aegis_worker_info"), "purple", "version {{version}}", "rates {{rates}}"),
        _annotation("Rebalances", moved, "yellow", "partitions move", "{{instance}}"),
        _annotation("Alerts", firing, "red", "{{alertname}}", "see docs/runbook.md"),
    ]


def _annotation(name: str, expression: str, colour: str, title: str, text: str) -> dashboard.AnnotationQuery:
    query = dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour)
    return query.placement(BESIDE).expr(expression).step("60s").title_format(title).text_format(text)
