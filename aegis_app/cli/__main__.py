"""`python -m aegis_app.cli`, for where no script is installed."""

from aegis_app.cli import main

main(prog_name="aegis")
