"""``ecs-agent join``: makes this host a member of a fleet, or says why it cannot join.

Asks control first, then writes token, CA certificate and configuration, each one atomically, then
starts the service and waits until the host is registered. Files that need no change are left alone,
so the same command can be run again.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import config_edit, membership, output, render, unit
from agent.cli.client import AgentClient, AgentNotRunning, CliError
from agent.config import DEFAULT_FILES
from agent.errors import AgentError, ExitCode
from agent.model import ids

if TYPE_CHECKING:
    from agent.cli.membership import JoinPlan
    from agent.model.views import AgentView
    from agent.upstream.hello import HelloResult

REGISTERED_LIMIT_S: Final = 180.0
"""Most hosts need a second; a small one that has just booted can take a minute or two."""
ASK_EVERY_S: Final = 0.5
SKEW_LIMIT_S: Final = 5.0
_ANSWER_LIMIT_S: Final = 5.0


@click.command()
@click.argument("url")
@click.option(
    "--token",
    "token_text",
    default="",
    metavar="TOKEN",
    help="Token from control's --token-file; - reads it from standard input, so that it does not "
    "appear in the process list.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File that contains the token.",
)
@click.option(
    "--cluster",
    default="",
    metavar="NAME",
    help="Cluster to register into. [default: ECS_CLUSTER, else default]",
)
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="PEM file of the CA that signed control's certificate; join copies it.",
)
@click.option(
    "--ca-fingerprint",
    default="",
    metavar="HEX",
    help="Trust control by the fingerprint of its authority, as 'ecs-agent control pki show' prints it. A "
    "token of 'ecs-agent control pki join-token' has it in it.",
)
@click.option(
    "--attribute",
    "pairs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Attribute of the host, for task placement. Can be given several times.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILES[-1],
    show_default=True,
    metavar="FILE",
    help="Settings file to change.",
)
@click.option("--no-start", is_flag=True, help="Write the files but do not touch the service.")
@click.option(
    "--dry-run", is_flag=True, help="Ask control and show what would be written; change nothing."
)
@click.option(
    "--force", is_flag=True, help="Join even if tasks of another control endpoint run here."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def join(
    *,
    url: str,
    token_text: str,
    token_file: Path | None,
    cluster: str,
    ca_file: Path | None,
    ca_fingerprint: str,
    pairs: tuple[str, ...],
    config: Path,
    no_start: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make this host take its tasks from the control endpoint at URL.

    Checks that control admits the host, writes the settings to /etc/ecs/ecs.config (comments and
    other lines stay unchanged) and the token next to it, enables and starts the service, and waits
    until the host is registered. Running the same command again changes nothing.
    """
    if os.geteuid() != 0 and not dry_run:
        text = "join needs root to write settings and start the service; use sudo"
        raise CliError(text, exit_code=ExitCode.TERMINAL)
    address = membership.url(url)
    token, fingerprint = membership.token(token_text, token_file, ca_fingerprint)
    if fingerprint and ca_file is not None:
        raise CliError("give --ca-file or a fingerprint, not both", exit_code=ExitCode.USAGE)
    plan = membership.plan(
        membership.JoinRequest(
            url=address,
            config=config.absolute(),
            token=token,
            cluster=membership.cluster(cluster),
            ca_file=ca_file.absolute() if ca_file is not None else None,
            authority=_authority(address, fingerprint) if fingerprint else b"",
            attributes=membership.attributes(pairs),
        )
    )
    met = _met(plan)
    client = AgentClient(str(plan.settings.socket_path), limit_s=_ANSWER_LIMIT_S)
    ours = _has_service(config.absolute()) and not no_start
    agent = _may_join(client, plan, force=force, ours=ours)
    if dry_run:
        _show(plan, as_json=as_json)
        return
    changed = _write(plan)
    result = membership.shown(plan) | {
        "controlId": met.hello.control_id,
        "instanceArn": "",
        "started": False,
    }
    if not ours:
        done = "" if changed else "nothing was changed; "
        end = f"{done}this host takes tasks of cluster {plan.cluster} once its agent runs: "
        end += _how(config.absolute())
    else:
        started = _start(changed=changed)
        view = _registered(client, plan, before=agent if started else None)
        result |= {"instanceArn": view.instance_arn, "started": started}
        done = "already a member, nothing was changed" if not (changed or started) else "joined"
        end = f"{done}: cluster {plan.cluster}, instance {ids.instance_id(view.instance_arn)}"
    if as_json:
        _say(end)
        render.as_json(result)
    else:
        output.line(end)


def _authority(url: str, fingerprint: str) -> bytes:
    """Return the certificate of control's authority, which has the fingerprint."""
    from agent.upstream.certificates import introduction  # noqa: PLC0415 - as below
    from agent.upstream.longpoll.exchange import parse_endpoint  # noqa: PLC0415

    try:
        return asyncio.run(introduction.authority_of(parse_endpoint(url), fingerprint))
    except AgentError as error:
        raise CliError(str(error)) from None


def _say(text: str) -> None:
    """Print a message on standard error; standard output is for results."""
    output.line(text, err=True)


def _met(plan: JoinPlan) -> HelloResult:
    """Return control's answer once it has confirmed that it admits this host."""
    # Takes a quarter of a second, and --help does not need it.
    from agent.upstream import hello  # noqa: PLC0415
    from agent.upstream.credentials import is_readable_on_the_way  # noqa: PLC0415
    from agent.upstream.longpoll.exchange import parse_endpoint  # noqa: PLC0415

    url = plan.settings.control_endpoint
    if plan.token and is_readable_on_the_way(parse_endpoint(url)):
        _say("warning: the token is sent over the network unencrypted; set up TLS on control")
    try:
        with membership.readable_authority(plan) as ca_file:
            met = asyncio.run(
                hello.meet(url, token=plan.token, ca_file=ca_file, cluster=plan.cluster)
            )
    except AgentError as error:
        raise CliError(f"{url}: {_for_join(str(error))}") from None
    if met.ahead_s is not None and abs(met.ahead_s) > SKEW_LIMIT_S:
        side = "ahead of" if met.ahead_s > 0 else "behind"
        _say(
            f"warning: this host's clock is {render.span(abs(met.ahead_s))} {side} control's clock; "
            "synchronize both with NTP"
        )
    if met.hello.takes_cluster is False:
        known = ", ".join(met.hello.clusters) or "none"
        raise CliError(
            f"there is no cluster {plan.cluster} at {url}; existing clusters: {known}. Create it with "
            f"'aws ecs create-cluster --cluster-name {plan.cluster}', or give --cluster"
        )
    return met


def _for_join(text: str) -> str:
    """Replace names of settings in an agent's error by the options of `join`."""
    text = text.removeprefix("GET /v1/hello: ")
    text = text.replace("set ECS_CONTROL_TOKEN_FILE, or run 'ecs-agent join'", "give --token")
    text = text.replace("set ECS_CONTROL_CA_FILE to", "give --ca-file with")
    return text.replace("ECS_CONTROL_CA_FILE ", "--ca-file ")


def _may_join(client: AgentClient, plan: JoinPlan, *, force: bool, ours: bool) -> AgentView | None:
    """Return the agent that runs here, if any; raises ``CliError`` if it prevents joining."""
    try:
        agent = client.agent()
    except AgentNotRunning:
        return None
    if why := membership.why_not(agent, plan, force=force):
        raise CliError(why)
    if ours and unit.state() not in unit.UP:
        raise CliError(
            "an agent runs here outside the service (started by hand, or by 'ecs-agent standalone'); "
            "stop it first, or give --no-start"
        )
    return agent


def _show(plan: JoinPlan, *, as_json: bool) -> None:
    if as_json:
        render.as_json(membership.shown(plan) | {"dryRun": True})
        return
    for change in plan.changes:
        if change is plan.files[-1]:
            output.lines(plan.difference)
        else:
            output.line(f"{change.path}: would be written ({len(change.data)} bytes, not shown)")
    if not plan.changes:
        output.line("nothing would be changed")


def _write(plan: JoinPlan) -> bool:
    for change in plan.changes:
        try:
            config_edit.replace_file(change.path, change.data, mode=change.mode)
        except OSError as error:
            raise CliError(f"{change.path}: {error.strerror}; check its directory") from None
        _say(f"wrote {change.path}")
    return bool(plan.changes)


def _has_service(config: Path) -> bool:
    """Return whether this host has a service, and the service reads this file."""
    return unit.is_managed() and config in DEFAULT_FILES


def _how(config: Path) -> str:
    """Return the command with which the user starts the agent."""
    if config not in DEFAULT_FILES:
        return f"ecs-agent run --config {config}"
    return f"systemctl enable --now {unit.NAME}" if unit.is_managed() else "ecs-agent run"


def _start(*, changed: bool) -> bool:
    """Make the service run with the new settings; return whether it was started or restarted."""
    if unit.state() not in unit.UP:
        unit.start()
    elif changed or not unit.is_enabled():
        unit.restart()
    else:
        return False
    return True


def _registered(client: AgentClient, plan: JoinPlan, *, before: AgentView | None) -> AgentView:
    """Return the agent once it is registered; print what it waits for meanwhile.

    ``before`` is an agent that is being stopped: it does not count.
    """
    deadline = time.monotonic() + REGISTERED_LIMIT_S
    told = ""
    while True:
        why = "the agent is starting"
        try:
            view = client.agent()
        except CliError:
            pass  # it is starting
        else:
            if before is None or view.started_at != before.started_at:
                if _is_member(view, plan):
                    return view
                why = _waits_for(view)
        if unit.state() == "failed":
            raise _ended()
        if why != told:
            told = why
            _say(f"waiting: {why}")
        if time.monotonic() > deadline:
            raise CliError(
                f"not registered within {REGISTERED_LIMIT_S:g} s ({why}); the agent keeps trying: "
                "see 'ecs-agent status' and 'journalctl -u ecs-agent'"
            )
        time.sleep(ASK_EVERY_S)


def _is_member(view: AgentView, plan: JoinPlan) -> bool:
    return view.control_connected and view.control_endpoint == plan.settings.control_endpoint


def _waits_for(view: AgentView) -> str:
    troubles = [*view.degraded, *([view.control_error] if view.control_error else [])]
    return "; ".join(troubles) or "the agent is registering"


def _ended() -> CliError:
    words: list[Any] = unit.last_words()
    said = "".join(f"\n  {line}" for line in words)
    return CliError(f"the agent failed; see its journal (journalctl -u {unit.NAME}):{said}")
