"""``ecs-agent events``: what the control endpoint of this host tells of tasks, hosts and services.

Tests: ``tests/unit/cli/test_events.py``.
"""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path
from typing import Any, Final

import click

from agent.cli import output
from agent.cli.client import CliError
from agent.cli.columns import shortened
from agent.cli.control_calls import ControlApi

PATH: Final = "/control/events"
_KINDS: Final = {
    "ECS Task State Change": "task",
    "ECS Container Instance State Change": "host",
    "ECS Service Action": "service",
    "ECS Deployment State Change": "deployment",
}
_TIME, _KIND, _ID = 8, 10, 12
_ID_MOST: Final = 32
_LEAST: Final = 20
_UNLIMITED: Final = 100_000


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option(
    "--after",
    type=click.IntRange(0),
    metavar="PLACE",
    help="Begin after PLACE, which --json shows with each event. [default: with --follow what comes from "
    "now on, else all that is kept]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line.")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Control's data directory. [default: that of standalone or of the service]",
)
def events(follow: bool, after: int | None, as_json: bool, data_dir: Path | None) -> None:
    """Show events of tasks, hosts, services and deployments.

    They are those that Amazon ECS sends to EventBridge. Control keeps the last ten minutes or more.
    """
    control = ControlApi.find(data_dir)
    asked = {"follow": follow} | ({"after": after} if after is not None else {})
    if after is None and not follow:
        asked["after"] = 0
    room = shutil.get_terminal_size().columns if output.on_terminal() else _UNLIMITED
    is_first = True
    try:
        for line in control.stream(PATH, asked):
            if as_json:
                output.json(line, indent=0)
                continue
            if is_first:
                output.line(f"{'TIME':<{_TIME}}  {'OF':<{_KIND}}  {'ID':<{_ID}}  WHAT")
                is_first = False
            output.line(row(line, room))
    except KeyboardInterrupt:
        return
    if follow:
        raise CliError("the control endpoint has ended the stream; is it being stopped?")
    if is_first and not as_json:
        output.line("no events are kept; wait for them with --follow")


def row(line: dict[str, Any], room: int) -> str:
    """Return a line of the table for a line of the stream, within so many characters. Pure."""
    if line.get("isGap"):
        return "earlier events are not kept any more"
    event = line["event"]
    at = dt.datetime.fromisoformat(event["time"]).astimezone()
    name = event["resources"][0].rpartition("/")[2]
    # Ids of tasks and hosts are known by their beginning; names are not.
    name = name[:_ID] if len(name) == _ID_MOST else shortened(name, _ID)
    kind = _KINDS.get(event["detail-type"], event["detail-type"])
    what = " ".join(_what(kind, event["detail"]).split())
    head = f"{at:%H:%M:%S}  {kind:<{_KIND}}  {name:<{_ID}}  "
    return head + shortened(what, max(_LEAST, room - len(head)))


def _what(kind: str, detail: dict[str, Any]) -> str:
    match kind:
        case "task":
            definition = detail["taskDefinitionArn"].rpartition("/")[2]
            wanted = detail["desiredStatus"]
            moves = "" if detail["lastStatus"] == wanted else f" (to be {wanted})"
            reason = f": {detail['stoppedReason']}" if detail.get("stoppedReason") else ""
            return f"{detail['lastStatus']}{moves} {definition}{reason}"
        case "host":
            tasks = detail["runningTasksCount"] + detail["pendingTasksCount"]
            connected = "connected" if detail["agentConnected"] else "not connected"
            return f"{detail['status']}, {connected}, tasks: {tasks}"
        case "deployment":
            return f"{detail['eventName'].removeprefix('SERVICE_DEPLOYMENT_')}: {detail['reason']}"
        case _:
            reason = f": {detail['reason']}" if detail.get("reason") else ""
            return f"{detail['eventName']}{reason}"
