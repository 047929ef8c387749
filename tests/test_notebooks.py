"""The notebooks of docs/notebooks, run one after the other as a reader does."""

import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
ORDER = ("exploration", "training", "evaluation")


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


def test_notebooks_run_in_their_order_and_are_kept_without_what_they_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(ORDER)

    done = {}
    for name in ORDER:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]  # it has no types
        assert not printed(notebook)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
        done[name] = printed(notebook)

    assert "features" in done["exploration"]
    assert "% stopped" in done["exploration"]
    assert "without_supervised" in done["training"]
    assert "large and far away block" in done["training"] or "large and far away review" in done["training"]
    assert "The ensemble is above the isolation forest" in done["evaluation"]
    assert "alerts a day find" in done["evaluation"]
