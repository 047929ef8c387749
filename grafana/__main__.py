"""Write the boards' JSON: `python -m grafana`."""

from pathlib import Path
from typing import Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana.command_centre import command_centre
from grafana.detection import detection
from grafana.models import models
from grafana.workers import workers

BOARDS: Final = (command_centre, detection, models, workers)
DIRECTORY: Final = Path(__file__).parent / "dashboards"


def written() -> dict[str, str]:
    """The JSON of each board, by the name of its file."""
    boards = [board() for board in BOARDS]
    return {f"{board.name}.json": JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n" for board in boards}


if __name__ == "__main__":
    DIRECTORY.mkdir(exist_ok=True)
    for name, text in written().items():
        (DIRECTORY / name).write_text(text)
