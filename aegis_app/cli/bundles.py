"""`aegis bundles`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from aegis_app.cli import options

if TYPE_CHECKING:
    from models.bundle import Manifest

bundle = click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
_SHOWN = ("roc_auc", "average_precision", "recall_at_fpr_0.001", "recall_at_fpr_0.005", "recall_at_fpr_0.01")


@click.group()
def bundles() -> None:
    """Trained models, as `aegis train` writes them.

    Example: aegis bundles list bundles/
    """


@bundles.command("list")
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@options.as_json
def list_(directory: Path, as_json: bool) -> None:
    """List the bundles in a directory, newest payments last.

    Example: aegis bundles list bundles/
    """
    from models.bundle import MANIFEST, read_manifest

    found = [(path.parent, read_manifest(path.parent)) for path in directory.glob(f"*/{MANIFEST}")]
    found.sort(key=lambda each: (each[1].windows[-1].end, each[0].name))
    if as_json:
        options.print_json([{"path": str(path), "version": each.version, "windows": each.windows} for path, each in found])
        return
    for path, each in found:
        figures = each.metrics.get("ensemble", {})
        precision = figures.get("average_precision")
        worth = "" if precision is None else f"  average precision {precision:.3f}"
        click.echo(f"{each.version}  {path}  {', '.join(layer.name for layer in each.layers)}  to {each.windows[-1].end:%Y-%m-%d}{worth}")
    if not found:
        click.echo(f"no bundles in {directory}; `aegis train` makes one", err=True)


@bundles.command()
@bundle
@options.as_json
def show(bundle: Path, as_json: bool) -> None:
    """Print what a bundle holds, what it was trained on, and how good it was there.

    Example: aegis bundles show bundles/march
    """
    from models.bundle import read_manifest

    manifest = read_manifest(bundle)
    if as_json:
        options.print_json(manifest)
    else:
        describe(bundle, manifest)


@bundles.command()
@bundle
def verify(bundle: Path) -> None:
    """Check every file of a bundle against its checksum, load its models and score once; exits with 1 and says what is wrong.

    Example: aegis bundles verify bundles/march
    """
    import numpy as np

    from aegis_app.cli.errors import Failure
    from models.bundle import load
    from models.scoring import Scorer

    scorer = Scorer(load(bundle))
    if failures := scorer.score(np.full((1, len(scorer.features)), np.nan, np.float32)).failures:
        raise Failure("; ".join(f"{bundle}: {layer} does not score: {error}" for layer, error in failures.items()))
    click.echo(f"{bundle}: {scorer.version} is whole, and scores")


def describe(path: Path, manifest: "Manifest") -> None:
    """Print a bundle for people."""
    click.echo(f"bundle {manifest.version} in {path}")
    for layer in manifest.layers:
        click.echo(f"  {layer.name:<17} {layer.model}, {len(layer.inputs.names)} inputs")
    for window in manifest.windows:
        days = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
        click.echo(f"  {window.name:<8} {days}  {window.payments:>9,} payments, {window.labelled:,} labelled, {window.frauds:,} frauds")
    thresholds = manifest.thresholds
    block = "never blocked" if thresholds.block is None else f"blocked from {thresholds.block:.4f}"
    click.echo(
        f"  reviewed from a score of {thresholds.review:.4f}, {block}: {thresholds.by}, {thresholds.alerts_per_day:,.1f} alerts a day"
    )
    click.echo(f"  {'':<24}{'ROC-AUC':>9}{'AP':>7}  frauds found at 0.1 %, 0.5 % and 1 % false positives")
    for name, figures in manifest.metrics.items():
        if "roc_auc" in figures:
            auc, precision, *found = (figures.get(each) or 0.0 for each in _SHOWN)
            click.echo(f"  {name:<24}{auc:>9.3f}{precision:>7.3f}  {'  '.join(f'{each:.1%}' for each in found)}")
