"""Options of commands that ask the control endpoint of this host."""

from __future__ import annotations

from pathlib import Path

import click

data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Control's data directory. [default: that of standalone or of the service]",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
