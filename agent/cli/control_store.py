"""``ecs-agent control backup``, ``restore``, ``check``, ``export`` and ``import``: work on the store of a control.

A backup is the same kind of file whatever keeps the fleet, so a fleet moves from a file to etcd and back by one.

``agent.controlplane.store`` does the work; this module only has options and messages.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agent.cli import etcd_options, output
from agent.cli.client import CliError
from agent.errors import ExitCode

if TYPE_CHECKING:
    from agent.controlplane.store.etcd_settings import EtcdSettings
    from agent.controlplane.store.sqlite_check import CheckReport

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
@etcd_options.store_option
@_json
def backup(target: Path | None, data_dir: Path, store: str, as_json: bool) -> None:
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
    etcd = etcd_options.settings(store)
    if etcd is not None:
        report = asyncio.run(_copy_of(etcd, target))
    else:
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
@etcd_options.store_option
@_json
def restore(source: Path | None, data_dir: Path, store: str, as_json: bool) -> None:
    """Replace the store by the backup FILE; control must not run.

    Without FILE, the newest backup in the subdirectory `backups` is used. The old store is kept next
    to the new one; in etcd it is not. Tasks keep running: when control starts, agents report their
    tasks, and control adds those that are missing in the backup. With etcd, a restore that was cut
    short must be repeated: until then no control starts.
    """
    from agent.controlplane.server.settings import STORE_FILE  # noqa: PLC0415 - not for --help
    from agent.controlplane.store import sqlite_backup  # noqa: PLC0415 - as above

    if source is None:
        known = sqlite_backup.backups_in(data_dir / "backups")
        if not known:
            raise CliError(f"{data_dir / 'backups'} contains no backup; name a FILE")
        source = known[-1]
    etcd = etcd_options.settings(store)
    if etcd is not None:
        _restore_etcd(etcd, source, as_json=as_json)
        return
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
@etcd_options.store_option
@_json
def check(file: Path | None, data_dir: Path, store: str, as_json: bool) -> int:
    """Check the store, or a backup of it, for damage; changes nothing.

    The store is copied first and the copy is checked, so control may keep running.
    """
    import tempfile  # noqa: PLC0415 - not for --help

    from agent.controlplane.server.settings import STORE_FILE  # noqa: PLC0415 - as above
    from agent.controlplane.store import sqlite_backup, sqlite_check  # noqa: PLC0415 - as above
    from agent.controlplane.store.contract import StoreDamaged  # noqa: PLC0415 - as above

    etcd = etcd_options.settings(store)
    what = file or (etcd.shown if etcd is not None else data_dir / STORE_FILE)
    try:
        if file is not None:
            report = sqlite_check.check_copy(file)
        else:
            with tempfile.TemporaryDirectory(prefix="ecs-agent-check-") as directory:
                copy = Path(directory) / "copy.db"
                if etcd is not None:
                    report = asyncio.run(_copy_of(etcd, copy))
                else:
                    report = sqlite_backup.back_up(data_dir / STORE_FILE, copy)
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


@click.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@_data_dir
@etcd_options.store_option
@_json
@click.pass_context
def export_command(
    ctx: click.Context, file: Path, data_dir: Path, store: str, as_json: bool
) -> None:
    """Write the whole fleet to FILE, to move it to another store; the same as `backup`.

    Stop control first: what it changes later is not in FILE.
    """
    ctx.invoke(backup, target=file, data_dir=data_dir, store=store, as_json=as_json)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@_data_dir
@etcd_options.store_option
@_json
@click.pass_context
def import_command(
    ctx: click.Context, file: Path, data_dir: Path, store: str, as_json: bool
) -> None:
    """Take the whole fleet from FILE, which `export` or `backup` wrote; the same as `restore`."""
    ctx.invoke(restore, source=file, data_dir=data_dir, store=store, as_json=as_json)


COMMANDS: Final = {
    one.name: one for one in (backup, restore, check, export_command, import_command)
}


async def _copy_of(etcd: EtcdSettings, target: Path) -> CheckReport:
    """Back up a store in etcd to a new file."""
    from agent.controlplane.store import portable  # noqa: PLC0415 - not for --help
    from agent.controlplane.store.etcd import EtcdStore  # noqa: PLC0415 - as above

    store = await EtcdStore.open(etcd, makes=False)
    try:
        return await portable.back_up(store, target)
    finally:
        await store.close()


def _restore_etcd(etcd: EtcdSettings, source: Path, *, as_json: bool) -> None:
    from agent.controlplane.store import portable  # noqa: PLC0415 - not for --help

    done = asyncio.run(portable.restore(etcd, source))
    if as_json:
        output.json({"restored": str(source), "keys": done.keys, "kept": None}, indent=0)
        return
    output.line(
        f"restored {source} to {etcd.shown}: {done.keys} records at revision {done.revision}"
    )
    output.line("start control now; agents will report what is missing in the backup")
