"""``ecs-agent control status``: how the control endpoint of this host is, on at most 80 columns.

Asks control over the Unix socket of its owner (``controlplane.monitoring.status``).

Tests: ``tests/unit/cli/test_control_status.py``.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click
import msgspec

from agent.cli import output, render
from agent.cli.client import CliError
from agent.cli.columns import NOTHING, Column
from agent.cli.control_calls import ControlApi
from agent.errors import ExitCode
from agent.model.control_status import ControlStatus

PATH: Final = "/control/status"
_SLOW: Final = (Column("SLOW AGENT", least=16), Column("INSTANCE", beginning=12), Column("SILENT"))


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Control's data directory. [default: that of standalone or of the service]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show how the control endpoint of this host is: hosts, wake-ups, store, leader and slow agents.

    Ends with 1 if the store does not work.
    """
    answer = ControlApi.find(data_dir).post(PATH, {})
    try:
        found = msgspec.convert(answer, ControlStatus)
    except msgspec.ValidationError:
        raise CliError(
            "the control endpoint answered something else; use the ecs-agent of its version"
        ) from None
    if as_json:
        output.json(answer)
    else:
        _show(found, time.time())
    if found.store.problem:
        raise SystemExit(ExitCode.ERROR)


def _show(found: ControlStatus, now: float) -> None:
    render.facts(facts(found, now))
    if found.slow:
        output.line("")
        render.table(
            _SLOW,
            [
                (
                    one.hostname or NOTHING,
                    one.instance_arn.rpartition("/")[2],
                    f"{one.silent_s:.0f} s",
                )
                for one in found.slow
            ],
        )
        if found.slow_count > len(found.slow):
            output.line(f"and {found.slow_count - len(found.slow)} others")


def facts(found: ControlStatus, now: float) -> list[tuple[str, str]]:
    """Return what is shown above the table of slow agents, each with its label. Pure.

    Args:
        found: what control told.
        now: Unix seconds.
    """
    leader, hosts, store, wakes = found.leader, found.hosts, found.store, found.wake_ups
    shown = [
        ("Control", f"{found.version} on {leader.host}, process {leader.pid}"),
        ("Leads", f"for {render.span(max(0.0, now - leader.since))}"),
        ("Hosts", f"{hosts.total}, {hosts.connected} connected, {hosts.draining} draining"),
        ("Polls", f"{hosts.polls} held; {found.slow_count} agents are slow"),
        ("Tasks", f"{found.tasks_running} running"),
        (
            "Wake-ups",
            f"{wakes.count}: half within {_ms(wakes.p50_s)}, 99 % within {_ms(wakes.p99_s)}"
            if wakes.count
            else "none yet",
        ),
        ("Store", store.where),
        ("Size", f"{render.size(store.size_bytes)}, revision {store.revision}"),
        ("Commit", "failed" if store.commit_s is None else _ms(store.commit_s)),
        (
            "Watch",
            "told nothing in time"
            if store.watch_s is None
            else f"tells of it {_ms(store.watch_s)} later",
        ),
    ]
    if store.problem:
        shown.append(("Problem", store.problem))
    return [*shown, *(("Trouble", each) for each in found.troubles)]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
