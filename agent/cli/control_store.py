"""``ecs-agent control backup``, ``restore`` and ``check``: work on the store of a control endpoint.

``agent.controlplane.store`` does the work; this module only has options and messages.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from agent.cli import output
from agent.cli.client import CliError
from agent.errors import ExitCode

DATA_DIR = Path("/var/lib/ecs/control")

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DATA_DIR,
    show_default=True,
    help="Directory of the store.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("target", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@_data_dir
@_json
def backup(target: Path | None, data_dir: Path, as_json: bool) -> None:
    """Back up the store to FILE, whether or not control runs.

    Without FILE, the backup goes to a new file, named after the current time, in the subdirectory
    `backups` of the data directory, where control puts its own backups. It is checked before it gets
    its name.
    """
    from agent.controlplane.server.settings import STORE_FILE  # noqa: PLC0415 - not for --help
    from agent.controlplane.store import sqlite_backup  # noqa: PLC0415 - as above

    if target is None:
        directory = data_dir / "backups"
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(f"{directory}: {error.strerror}; name a FILE") from None
        target = directory / sqlite_backup.name_at(time.time())
    elif target.is_dir():
        target = target / sqlite_backup.name_at(time.time())
    report = sqlite_backup.back_up(data_dir / STORE_FILE, target)
    if as_json:
        output.json(
            {"file": str(target), "revision": report.revision, "keys": report.keys}, indent=0
        )
        return
    output.line(f"{target}: {report.keys} records at revision {report.revision}")


@click.command()
@click.argument("source", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@_data_dir
@_json
def restore(source: Path | None, data_dir: Path, as_json: bool) -> None:
    """Replace the store by the backup FILE; control must not run.

    Without FILE, the newest backup in the subdirectory `backups` is used. The old store is kept next
    to the new one. Tasks keep running: when control starts, agents report their tasks, and control
    adds those that are missing in the backup.
    """
    from agent.controlplane.server.settings import STORE_FILE  # noqa: PLC0415 - not for --help
    from agent.controlplane.store import sqlite_backup  # noqa: PLC0415 - as above

    if source is None:
        known = sqlite_backup.backups_in(data_dir / "backups")
        if not known:
            raise CliError(f"{data_dir / 'backups'} contains no backup; name a FILE")
        source = known[-1]
    report, old = sqlite_backup.restore(data_dir / STORE_FILE, source)
    if as_json:
        kept = str(old) if old is not None else None
        output.json({"restored": str(source), "keys": report.keys, "kept": kept}, indent=0)
        return
    output.line(f"restored {source}: {report.keys} records at revision {report.revision}")
    if old is not None:
        output.line(f"the old store is now {old}; remove it once everything works")
    output.line("start control now; agents will report what is missing in the backup")


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@_data_dir
@_json
def check(file: Path | None, data_dir: Path, as_json: bool) -> int:
    """Check the store, or a backup of it, for damage; changes nothing.

    The store is copied first and the copy is checked, so control may keep running.
    """
    import tempfile  # noqa: PLC0415 - not for --help

    from agent.controlplane.server.settings import STORE_FILE  # noqa: PLC0415 - as above
    from agent.controlplane.store import sqlite_backup, sqlite_check  # noqa: PLC0415 - as above
    from agent.controlplane.store.contract import StoreDamaged  # noqa: PLC0415 - as above

    what = file or data_dir / STORE_FILE
    try:
        if file is not None:
            report = sqlite_check.check_copy(file)
        else:
            with tempfile.TemporaryDirectory(prefix="ecs-agent-check-") as directory:
                report = sqlite_backup.back_up(what, Path(directory) / "copy.db")
        faults = report.faults
    except StoreDamaged as damage:
        report, faults = sqlite_check.CheckReport(0, 0, []), [str(damage)]
    if as_json:
        output.json({"file": str(what), "keys": report.keys, "faults": faults}, indent=0)
    elif faults:
        for fault in faults:
            output.line(fault if str(what) in fault else f"{what}: {fault}", err=True)
    else:
        output.line(f"{what}: no damage, {report.keys} records at revision {report.revision}")
    return ExitCode.ERROR if faults else ExitCode.SUCCESS
