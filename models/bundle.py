"""A bundle: the models of one training and all that serving them takes, in one directory that is never changed."""

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from aegis_app.core.features import CATALOGUE
from models.drift import Histogram
from models.ensemble import Calibration, Combination, Ranks
from models.inputs import ATTRIBUTES, Inputs

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1
"""Raised when an older reader would misread a manifest."""
_FILE: Final = re.compile(r"\w[\w.-]*", re.ASCII)
CONTRIBUTIONS: Final = "supervised.ubj"
"""The XGBoost original, which says what made a score: its own contributions."""


class BundleError(Exception):
    """A bundle cannot be served, or not be written."""


class Layer(Struct, frozen=True, kw_only=True):
    """One model: what it is given, and how its raw score is read."""

    name: Annotated[str, Meta(description="isolation_forest, autoencoder or supervised")]
    model: Annotated[str, Meta(description="what was fitted, in words")]
    file: Annotated[str, Meta(description="the ONNX graph")]
    inputs: Inputs
    ranks: Ranks | None = None
    """Of an unsupervised layer."""


class Window(Struct, frozen=True, kw_only=True):
    """Payments from `start` to before `end`, and what was known of them when they were used."""

    name: str
    start: datetime
    end: datetime
    payments: int
    labelled: int
    frauds: int


class Thresholds(Struct, frozen=True, kw_only=True):
    """From which score a payment is reviewed, and blocked; and what these were chosen by."""

    by: Annotated[str, Meta(description="what was asked for, in words")]
    review: float
    block: Annotated[float | None, Meta(description="null where no score was sure enough")] = None
    alerts_per_day: Annotated[float, Meta(description="what came of it in the window they were chosen in, rules' alerts included")]


class Cost(Struct, frozen=True, kw_only=True):
    """What outcomes cost, in minor units of the base currency: from these a payment's own thresholds follow."""

    recovery: Annotated[float, Meta(ge=0, le=1, description="share of a fraud that is got back")] = 0.0
    block_minor: Annotated[float, Meta(ge=0, description="of blocking a genuine payment, whatever its amount")] = 10_00
    block_share: Annotated[float, Meta(ge=0, description="the same, as a share of the amount")] = 0.02
    review_minor: Annotated[float, Meta(ge=0, description="of one review")] = 3_00


Figures = dict[str, float | None]
"""By name; null where it cannot be told."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What a bundle is."""

    format: int = FORMAT
    version: Annotated[str, Meta(description="hash of all that serves; equal bundles, equal versions")] = ""
    features: Annotated[tuple[str, ...], Meta(description="columns of the rows to score, in order")]
    layers: tuple[Layer, ...]
    combinations: Annotated[dict[str, Combination], Meta(description="by the layers that stand, in their order, joined by +")]
    calibration: Annotated[Calibration | None, Meta(description="of the score by all layers; null: not calibrated")] = None
    thresholds: Thresholds
    cost: Cost | None = None
    windows: tuple[Window, ...]
    metrics: Annotated[dict[str, Figures], Meta(description="by layer, in the last window")]
    left_out: Annotated[dict[str, str], Meta(description="features that no model is given, and why")] = {}
    histograms: Annotated[
        dict[str, Histogram],
        Meta(description="of features in the first window, of layers and score in the second"),
    ] = {}
    base_currency: str
    seed: int
    libraries: dict[str, str]
    checksums: Annotated[dict[str, str], Meta(description="sha256 of every other file")] = {}


class Bundle(Struct, frozen=True):
    """A bundle whose files are what its manifest says."""

    path: Path
    manifest: Manifest

    def read(self, file: str) -> bytes:
        """The bytes of a file, checked once more: a disk may have changed under a long-lived process."""
        return _checked(self.path / file, self.manifest.checksums[file])


def together(layers: Mapping[str, object] | tuple[str, ...]) -> str:
    """The key of a combination: the names of its layers, in the order of the manifest."""
    return "+".join(layers)


def load(path: Path) -> Bundle:
    """The bundle in a directory, every file of it checked. Raises `BundleError` with what is wrong."""
    manifest = read_manifest(path)
    for file, checksum in manifest.checksums.items():
        _checked(path / file, checksum)
    if unknown := [name for name in manifest.features if name not in CATALOGUE and not name.startswith(ATTRIBUTES)]:
        raise BundleError(f"{path} needs {', '.join(unknown)}, which this Aegis does not describe payments by; train anew, or upgrade")
    if manifest.version != _version(manifest):
        raise BundleError(f"{path}: the manifest was changed after it was written; train anew, or restore it")
    return Bundle(path, manifest)


def read_manifest(path: Path) -> Manifest:
    """What a bundle says of itself; its files are not looked at."""
    try:
        text = (path / MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise BundleError(f"{path}: no bundle here, since there is no {MANIFEST}; `aegis train` makes one") from None
    return decode_manifest(text, str(path / MANIFEST))


def decode_manifest(text: bytes, name: str) -> Manifest:
    """A manifest as `write` wrote it; `name` says where it comes from. Raises `BundleError`, too where a file of it lies elsewhere."""
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found != FORMAT:
            raise BundleError(f"{name}: format {found}, and this Aegis reads format {FORMAT}; train it anew, or upgrade")
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{name}: {error}") from None
    if strange := [file for file in manifest.checksums if not _FILE.fullmatch(file) or file == MANIFEST]:
        raise BundleError(f"{name}: {strange[0]!r} is no name of a file beside it")
    if missing := [layer.file for layer in manifest.layers if layer.file not in manifest.checksums]:
        raise BundleError(f"{name}: it has no checksum of {missing[0]}")
    return manifest


class _Format(Struct):
    format: int


def write(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Write a bundle whole or not at all, and return its manifest with version and checksums. Nothing may be at `path` yet."""
    check_is_new(path)
    checksums = {name: sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = msgspec.structs.replace(manifest, checksums=checksums)
    manifest = msgspec.structs.replace(manifest, version=_version(manifest))
    put(path, {**files, MANIFEST: msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1)})
    return manifest


def put(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a new directory, which is there whole or not at all."""
    path.absolute().parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.absolute().parent))
    try:
        for name, content in files.items():
            _write(unfinished / name, content)
        unfinished.chmod(0o755)
        unfinished.rename(path)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def check_is_new(path: Path) -> None:
    """Raise `BundleError` if something is at `path` already: better before a training than after it."""
    if path.exists():
        raise BundleError(f"{path} is there already, and a bundle is never changed; choose another name")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _version(manifest: Manifest) -> str:
    """Of what decides a score, and of nothing else: two trainings that serve alike are one version."""
    serving = [
        manifest.format,
        manifest.features,
        manifest.layers,
        manifest.combinations,
        manifest.calibration,
        manifest.thresholds,
        manifest.cost,
        manifest.base_currency,
        {layer.file: manifest.checksums[layer.file] for layer in manifest.layers},
    ]
    return sha256(msgspec.json.encode(serving, order="sorted")).hexdigest()[:12]


def _checked(path: Path, checksum: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"{path} is missing; the bundle is not whole") from None
    if sha256(content).hexdigest() != checksum:
        raise BundleError(f"{path} is not what was written: its checksum differs")
    return content
