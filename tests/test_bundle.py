"""A bundle is whole, or it is refused with what is wrong."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.bundle import MANIFEST, BundleError, load, write
from tests.conftest import Trained


@pytest.fixture
def copy(trained: Trained, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.path, tmp_path / "copy"))


def rewritten(path: Path, **fields: Any) -> None:
    manifest = msgspec.json.decode((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_bytes(msgspec.json.encode(manifest | fields))


def test_a_bundle_that_was_written_loads(trained: Trained, copy: Path) -> None:
    assert load(copy).manifest == trained.manifest
    assert len(trained.manifest.version) == 12


@pytest.mark.parametrize("file", ["autoencoder.onnx", "isolation_forest.joblib", "supervised.ubj"])
def test_a_file_that_changed_is_refused(copy: Path, file: str) -> None:
    content = bytearray((copy / file).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / file).write_bytes(content)

    with pytest.raises(BundleError, match=rf"{file} is not what was written"):
        load(copy)


def test_a_file_that_is_missing_is_refused(copy: Path) -> None:
    (copy / "supervised.onnx").unlink()

    with pytest.raises(BundleError, match=r"supervised\.onnx is missing"):
        load(copy)


def test_a_manifest_that_was_changed_is_refused(copy: Path) -> None:
    rewritten(copy, base_currency="USD")

    with pytest.raises(BundleError, match="the manifest was changed"):
        load(copy)


def test_a_bundle_of_features_unknown_here_is_refused(copy: Path) -> None:
    rewritten(copy, features=["amount", "phase_of_the_moon"])

    with pytest.raises(BundleError, match="needs phase_of_the_moon, which this Aegis does not describe payments by"):
        load(copy)


def test_a_later_format_is_refused_by_its_number(copy: Path) -> None:
    rewritten(copy, format=2, layers="of another kind")

    with pytest.raises(BundleError, match="format 2, and this Aegis reads format 1"):
        load(copy)


@pytest.mark.parametrize("name", ["../manifest", "/etc/hostname", "..", ".hidden", "a/b", "", MANIFEST])
def test_a_file_that_does_not_lie_beside_the_manifest_is_refused_unread(copy: Path, trained: Trained, name: str) -> None:
    rewritten(copy, checksums=trained.manifest.checksums | {name: "0" * 64})

    with pytest.raises(BundleError, match="is no name of a file beside it"):
        load(copy)


def test_a_layer_without_a_checksum_is_refused(copy: Path, trained: Trained) -> None:
    rewritten(copy, checksums={name: each for name, each in trained.manifest.checksums.items() if name != "autoencoder.onnx"})

    with pytest.raises(BundleError, match=r"no checksum of autoencoder\.onnx"):
        load(copy)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle here"):
        load(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match=MANIFEST):
        load(tmp_path)


def test_nothing_is_written_over_and_what_fails_leaves_nothing(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is there already"):
        write(trained.path, trained.manifest, {})
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "new", trained.manifest, {layer.file: b"" for layer in trained.manifest.layers} | {"no/such/directory": b""})

    assert list(tmp_path.iterdir()) == []


def test_the_version_is_of_what_serves(trained: Trained, tmp_path: Path) -> None:
    files = {name: (trained.path / name).read_bytes() for name in trained.manifest.checksums}

    same = write(tmp_path / "same", msgspec.structs.replace(trained.manifest, libraries={}, seed=9), files)
    other = write(tmp_path / "other", trained.manifest, files | {"autoencoder.onnx": b"other"})
    assert same.version == trained.manifest.version
    assert other.version != trained.manifest.version
