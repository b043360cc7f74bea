"""``ecs-agent network``: the networks of tasks on this host.

Asks the agent on its socket, which alone knows what belongs to which task.

Tests: ``tests/unit/cli/test_network.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli import network_text, output, render
from agent.cli.inspect import json_option, socket_option
from agent.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.cli.client import AgentClient
    from agent.cli.columns import Column


@click.group(invoke_without_command=True)
@json_option
@socket_option
@click.pass_context
def network(ctx: click.Context, client: AgentClient, *, as_json: bool) -> None:
    """Show the networks of tasks on this host: pools, sandboxes, links, and rules with counters.

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


def _section(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    if render.on_terminal():
        if title != "Pools":
            output.line()
        output.line(output.styled(title if rows else f"{title}: none", bold=True))
    if rows:
        render.table(columns, rows)
