"""What a shell's TAB asks beyond what click knows itself: the tasks of this host, their containers.

Never fails and never takes long where a person waits at a prompt: an error would land in the middle
of their line. So would a control character: names that hold any are left out.
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
"""How long the agent may take to answer while a person waits for their TAB."""
_MOST_TASKS = 200


def task_ids(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the tasks whose id begins with what is typed, the newest first, and names that do.

    Empty when the agent does not answer at once, is not there, or may not be asked by this user.
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
    # Where nothing is typed yet, ids tell tasks apart and names may not.
    return [*ids, *(named if incomplete else [])][:_MOST_TASKS]


def container_names(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the containers of the task on the command line; empty where ``task_ids`` is."""
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
