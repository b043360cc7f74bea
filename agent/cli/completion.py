"""Shell completion of task ids and container names; click completes the rest.

Never fails and never takes long, because a person waits at the prompt: an error would be printed in
the middle of the command line. So would a control character: names that contain one are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from agent import escapes
from agent.cli import task_text
from agent.cli.client import AgentClient
from agent.errors import AgentError

if TYPE_CHECKING:
    import click

PATIENCE_S = 1.0
"""How long to wait for the agent's answer after a person pressed TAB."""
_MOST_TASKS = 200


def task_ids(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return ids of tasks that begin with the typed text, newest first, and names that do.

    Empty if the agent does not answer quickly, does not run, or refuses this user.
    """
    client = ctx.params.get("client")
    if not isinstance(client, AgentClient):
        return []
    try:
        views = task_text.newest_first(client.tasks())
    except AgentError:
        return []
    fitting = [view for view in views if _is_typed(view.id, incomplete)]
    names = {view.family for view in views} | {c.name for view in views for c in view.containers}
    ids = [
        CompletionItem(view.id, help=escapes.shown(f"{view.family}:{view.revision} {view.status}"))
        for view in fitting
    ]
    named = [CompletionItem(name) for name in sorted(names) if _is_typed(name, incomplete)]
    # With nothing typed yet, offer only ids: several tasks can share a name.
    return [*ids, *(named if incomplete else [])][:_MOST_TASKS]


def container_names(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return container names of the task on the command line; empty if ``task_ids`` would be."""
    client, task = ctx.params.get("client"), ctx.params.get("task_id")
    if not isinstance(client, AgentClient) or not isinstance(task, str):
        return []
    try:
        names = [container.name for container in client.task(task).containers]
    except AgentError:
        return []
    return [CompletionItem(name) for name in names if _is_typed(name, incomplete)]


def _is_typed(name: str, incomplete: str) -> bool:
    return name.startswith(incomplete) and escapes.is_plain(name)
