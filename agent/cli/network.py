"""``ecs-agent network``: the networks of tasks on this host.

Asks the agent on its socket, which alone knows what belongs to which task.

Tests: ``tests/unit/cli/test_network.py``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from agent.cli import completion, network_text, output, render
from agent.cli.inspect import json_option, socket_option, task_argument
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.cli.client import AgentClient
    from agent.cli.columns import Column


class _Port(click.ParamType[tuple[int, str]]):
    """A port with its protocol."""

    name = "port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        number, _, protocol = str(value).partition("/")
        if not (number.isascii() and number.isdigit() and 0 < int(number[:6]) < 65536):
            self.fail(f"{value!r} is not a port; give for example 80 or 53/udp", param, ctx)
        if protocol not in ("", "tcp", "udp"):
            self.fail(f"{protocol!r} is not a protocol; give tcp or udp", param, ctx)
        return int(number), protocol or "tcp"


@click.group(invoke_without_command=True)
@json_option
@socket_option
@click.pass_context
def network(ctx: click.Context, client: AgentClient, *, as_json: bool) -> None:
    """Show the networks of tasks on this host: pools, sandboxes, links, other hosts, rules with counters.

    A sandbox is a network namespace with an address, which one task holds (CLAIMED) or which waits for
    a task (WARM). A rule counts only what it drops, except for rules of security groups.
    """
    if ctx.invoked_subcommand is not None:
        given = click.core.ParameterSource.COMMANDLINE
        if given in (ctx.get_parameter_source("as_json"), ctx.get_parameter_source("client")):
            raise click.UsageError(f"write options after '{ctx.invoked_subcommand}'", ctx)
        return
    view = client.network()
    if as_json:
        render.as_json(view)
        return
    _section("Pools", network_text.POOLS, [network_text.pool(each) for each in view.pools])
    sandboxes = [network_text.sandbox(each) for each in view.sandboxes]
    _section("Sandboxes", network_text.SANDBOXES, sandboxes)
    _section("Links", network_text.DEVICES, [network_text.device(each) for each in view.devices])
    if view.peers:
        now = time.time()
        rows = [network_text.peer(each, now) for each in view.peers]
        _section("Hosts", network_text.PEERS, rows)
    _section("Rules", network_text.RULES, [network_text.rule(each) for each in view.rules])
    for trouble in view.problems:
        render.sentence(trouble, indent="  ", mark="! ", colour="yellow")


@network.command()
@click.option("--repair", is_flag=True, help="Mend what differs.")
@json_option
@socket_option
def check(client: AgentClient, *, repair: bool, as_json: bool) -> int:
    """Compare what the agent has recorded of task networks with the kernel and the container engine.

    The agent repairs most changes by itself, as soon as the kernel reports them. Exits with 1 if
    something differs that was not repaired.
    """
    result = client.check_network(repair=repair)
    left = [each for each in result.differences if not each.repaired]
    if as_json:
        render.as_json(result)
    else:
        for each in result.differences:
            render.sentence(f"repaired: {each.found}" if each.repaired else each.found)
        for trouble in result.problems:
            render.sentence(trouble, indent="  ", mark="! ", colour="yellow")
        if not result.differences:
            output.line("no differences")
        elif left and not repair:
            output.line("mend them with 'ecs-agent network check --repair'")
    return ExitCode.ERROR if left or result.problems else ExitCode.SUCCESS


@network.command()
@task_argument
@click.argument("peer", shell_complete=completion.task_ids)
@click.argument("port", metavar="PORT[/udp]", type=_Port())
@json_option
@socket_option
def trace(
    client: AgentClient, task_id: str, peer: str, port: tuple[int, str], *, as_json: bool
) -> int:
    """Try one connection from a task, and show which firewall rules of this host decide on it.

    TASK is as for `ecs-agent task`. PEER is an address, or a task of this host that has an address. The
    connection is real, and is closed at once; for UDP, one empty datagram is sent. The kernel reports
    each rule of nftables that the first packet meets, whoever made it: on this host, or in the task's own
    namespace (family netdev), from which packets go straight to the wire with the drivers macvlan and
    ipvlan. Rules of iptables-legacy and those of other hosts are not seen. Exits with 1 if there was no connection.
    """
    number, protocol = port
    view = client.trace(task_id, peer=peer, port=number, protocol=protocol)
    if as_json:
        render.as_json(view)
    else:
        if view.steps:
            render.table(network_text.STEPS, [network_text.step(each) for each in view.steps])
        render.sentence(network_text.conclusion(view))
    return ExitCode.SUCCESS if network_text.is_through(view) else ExitCode.ERROR


def _section(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    if render.on_terminal():
        if title != "Pools":
            output.line()
        output.line(output.styled(title if rows else f"{title}: none", bold=True))
    if rows:
        render.table(columns, rows)
