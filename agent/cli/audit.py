"""``ecs-agent audit``: who changed what through the APIs of the control endpoint of this host.

Reads the files of the audit trail, so it also works while control does not. Waits for more with inotify.

Tests: ``tests/unit/cli/test_audit.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import env, log_lines, output
from agent.cli.client import CliError
from agent.cli.columns import shortened
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.controlplane.audit.reading import Place, Wanted

_EVENT, _USER = 27, 12
_LEAST: Final = 16
_UNLIMITED: Final = 100_000
_PAGE_RECORDS: Final = 500
_READ_BYTES: Final = 32 * 2**20


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option("--user", default="", metavar="NAME", help="Only calls of this user, by name or ARN.")
@click.option(
    "--event", default="", metavar="NAME", help="Only calls of this operation: UpdateService."
)
@click.option(
    "--service", default="", metavar="NAME", help="Only calls of this API: ecs, logs, iam."
)
@click.option(
    "--resource", default="", metavar="NAME", help="Only calls about this resource, by name or ARN."
)
@click.option(
    "--since",
    default="",
    metavar="TIME",
    help="Only calls from then on: 10m, 2d, 2026-01-31T14:00.",
)
@click.option("--until", default="", metavar="TIME", help="Only calls until then.")
@click.option("--refused", is_flag=True, help="Only calls that were refused or failed.")
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(0),
    default=50,
    show_default=True,
    help="At most so many, the newest ones; 0 for all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print records of CloudTrail, one a line.")
@click.option(
    "--file", type=click.Path(path_type=Path), help="File of the audit trail. [default: control's]"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Control's data directory. [default: that of standalone or of the service]",
)
def audit(*, follow: bool, limit: int, as_json: bool, **given: Any) -> None:
    """Show who changed what through the APIs of control, newest first.

    With --follow, the newest call comes last. Calls that only read are not recorded, except those
    that tell secrets.
    """
    from agent.controlplane.audit.reading import Wanted  # noqa: PLC0415 - not for --help

    file: Path | None = given["file"]
    path = file.absolute() if file is not None else _file(given["data_dir"])
    wanted = Wanted(
        user=given["user"],
        event=given["event"],
        source=given["service"],
        resource=given["resource"],
        refused=given["refused"],
        since=_time("--since", given["since"]),
        until=_time("--until", given["until"]),
    )
    printer = _Printer(as_json=as_json)
    try:
        if follow:
            asyncio.run(_follow(path, wanted, limit, printer))
        for record in _before(path, None, wanted, limit):
            printer.tell(record)
    except KeyboardInterrupt:
        return
    except PermissionError:
        raise CliError(f"only root and the user of control may read {path}; use sudo") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}; give the file with --file") from None
    if printer.is_empty and not as_json:
        output.line("no such calls are recorded")


class _Printer:
    """Prints records as a table, or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._room = shutil.get_terminal_size().columns if output.on_terminal() else _UNLIMITED
        self.is_empty = True

    def tell(self, record: dict[str, Any]) -> None:
        """Print one record."""
        if self._as_json:
            output.json(record, indent=0)
        else:
            if self.is_empty:
                output.line(f"{'TIME':<14}  {'EVENT':<{_EVENT}}  {'USER':<{_USER}}  WHAT")
            output.line(row(record, self._room))
        self.is_empty = False


def row(record: dict[str, Any], room: int) -> str:
    """Return a line of the table, within so many characters. Pure."""
    from agent.controlplane.audit.reading import event_time, user_of  # noqa: PLC0415 - not for --help

    at = dt.datetime.fromtimestamp(event_time(record), dt.UTC).astimezone()
    event = shortened(str(record.get("eventName", "")), _EVENT)
    user = shortened(user_of(record), _USER)
    head = f"{at:%m-%d %H:%M:%S}  {event:<{_EVENT}}  {user:<{_USER}}  "
    return head + shortened(" ".join(_what(record).split()), max(_LEAST, room - len(head)))


def _what(record: dict[str, Any]) -> str:
    """Return what a call is about, and what came of it if it was refused."""
    resources = record.get("resources") or []
    names = [str(each.get("ARN", "")).split(":", 5)[-1] for each in resources]
    if not names:
        asked = record.get("requestParameters")
        asked = asked if isinstance(asked, dict) else {}
        names = [value for value in asked.values() if isinstance(value, str)]
    error = str(record.get("errorCode") or "")
    return f"{error}{': ' if error and names else ''}{names[0] if names else ''}" or "-"


def _before(
    path: Path, start: Place | None, wanted: Wanted, limit: int
) -> Iterator[dict[str, Any]]:
    """Yield records before a place, newest first, at most so many; all if the limit is 0."""
    from agent.controlplane.audit import reading  # noqa: PLC0415 - not for --help

    left = limit or _UNLIMITED**2
    while left:
        most = min(left, _PAGE_RECORDS)
        page = reading.page(path, wanted, start=start, most=most, most_bytes=_READ_BYTES)
        yield from (found.record for found in page.records)
        left -= len(page.records)
        if page.next is None:
            return
        start = page.next


async def _follow(path: Path, wanted: Wanted, limit: int, printer: _Printer) -> None:
    """Print the newest records, then those that come, until cancelled."""
    from agent.controlplane.audit import reading  # noqa: PLC0415 - not for --help
    from agent.inotify import DirectoryWatch  # noqa: PLC0415 - as above

    watch = DirectoryWatch(writes=True)
    with contextlib.closing(watch):
        watch.watch(path.parent)
        place = await asyncio.to_thread(reading.end, path)
        old: Iterable[dict[str, Any]] = []
        if limit:
            old = await asyncio.to_thread(lambda: list(_before(path, place, wanted, limit)))
        for record in reversed(list(old)):
            printer.tell(record)
        while True:
            new, place = await asyncio.to_thread(reading.after, path, place)
            for record in new:
                if wanted.matches(record):
                    printer.tell(record)
            if not new:
                await watch.changed()


def _file(data_dir: Path | None) -> Path:
    """Return the file of the control endpoint of this host; raises ``CliError``."""
    address, place = env.find([data_dir] if data_dir is not None else list(env.DATA_DIRS))
    if not address.audit_file:
        raise CliError(
            f"the control endpoint in {place} keeps no audit trail; start it without --no-audit"
        )
    return Path(address.audit_file)


def _time(option: str, text: str) -> float | None:
    if not text:
        return None
    try:
        return log_lines.since_ns(text, time.time()) / 1e9
    except ValueError as error:
        raise CliError(f"{option} {error}", exit_code=ExitCode.USAGE) from None
