"""What a shell's TAB and the manual pages ask of the command line beyond what click knows itself.

The tasks of this host and their containers, and ``run``, which click never sees when it is run.
Never fails and never takes long where a person waits at a prompt: an error would land in the middle
of their line.
"""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem

from agent.cli import run
from agent.cli.client import AgentClient
from agent.errors import AgentError

PATIENCE_S = 1.0
"""How long the agent may take to answer while a person waits for their TAB."""
_MOST_TASKS = 200


def task_ids(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the tasks whose id begins with what is typed, the newest first.

    Empty when the agent does not answer at once, is not there, or may not be asked by this user.
    """
    client = ctx.params.get("client")
    if not isinstance(client, AgentClient):
        return []
    try:
        views = sorted(client.tasks(), key=lambda view: -view.accepted_at)
    except AgentError:
        return []
    fitting = [view for view in views if view.id.startswith(incomplete)]
    return [
        CompletionItem(view.id, help=f"{view.family}:{view.revision} {view.status}")
        for view in fitting[:_MOST_TASKS]
    ]


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
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_OPTION = re.compile(r"^  (--\S+)(?: ([A-Z]+))? {2,}(\S.*)$")


def _run_command() -> click.Command:
    """Make of the help text of ``run`` the command that click would have, so that they agree."""
    head, _, after = run.HELP.partition("\nOptions:\n")
    table, *tail = after.split("\n\n")
    options: list[tuple[str, str | None, list[str]]] = []
    for line in table.splitlines():
        if found := _OPTION.match(line):
            options.append((found[1], found[2], [found[3]]))
        elif options:
            options[-1][2].append(line.strip())
    params = [
        click.Option(
            [name],
            metavar=metavar,
            type=click.Path(dir_okay=False) if metavar == "FILE" else None,
            is_flag=metavar is None,
            help=" ".join(texts),
        )
        for name, metavar, texts in options
        if name != "--help"
    ]
    paragraphs = head.split("\n\n")[1:] + tail[:-1]  # the last has the exit codes
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return click.Command("run", params=[*params], help=text)


run_command = _run_command()
"""``ecs-agent run`` as click would have it; ``agent.cli.main`` runs it past click."""
