"""What is installed is whole: the wheel works where there is no checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("aegis_app", "agents", "tables", "models")


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this environment's Python; modules in `path` go before its own, which are those of the checkout."""
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: in the tree, setuptools would leave `build/`, and take what an earlier run left there."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), *(ROOT / name for name in ("LICENSE", "pyproject.toml", "setup.cfg"))):
        shutil.copy(file, source)
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), cwd=source)
    (wheel,) = wheels.glob("*.whl")
    python("-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", str(target), str(wheel), cwd=wheels)
    return target


def test_the_wheel_holds_every_file_of_the_packages(installed: Path) -> None:
    def files(of: Path) -> set[str]:
        return {
            path.relative_to(of).as_posix()
            for package in PACKAGES
            for path in (of / package).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    assert files(installed) == files(ROOT)


def test_faust_finds_the_agents_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    where = python("-c", "import aegis_app; print(aegis_app.__file__)", cwd=tmp_path, path=installed)
    agents = python("-m", "faust", "-A", "aegis_app", "agents", cwd=tmp_path, path=installed)

    assert Path(where.strip()).is_relative_to(installed)
    assert "screen" in agents


def test_packages_from_different_places_are_refused(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tables", tmp_path / "tables")

    done = subprocess.run([sys.executable, "-c", "import aegis_app.worker"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("aegis: its four packages come from different places, ")
