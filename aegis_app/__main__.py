"""`aegis`, and `python -m aegis_app` for where no script is installed."""

import sys


def main() -> None:
    """Run a command. Ctrl-C while Python still loads what it needs ends it as later: without a word, with 130."""
    try:
        from aegis_app.cli import main as command

        command(prog_name="aegis")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
