"""Finds the task that an operator means: by ARN, id or id prefix, family, or container name. Pure.

A text that matches several tasks is refused with a list of them, and a text that matches none with
a list of existing tasks; both lists are short. A name matches a stopped task only if no other does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent.endpoints.http import RequestRefused
from agent.model.ids import task_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.model.views import ContainerView, TaskView

LISTED: Final = 5
"""How many tasks a message lists."""
_CONTAINERS_LISTED: Final = 8
"""How many containers a message lists."""
_ID_SHOWN: Final = 12
_NAME_SHOWN: Final = 40
_ASKED_SHOWN: Final = 80


class Meant(NamedTuple):
    """The task that is meant."""

    task: TaskView
    container: str = ""
    """The container, if the text was the name of a container."""


def find(tasks: Sequence[TaskView], wanted: str) -> Meant:
    """Return the task that is meant.

    Args:
        tasks: all tasks, oldest first.
        wanted: an ARN, an id or the beginning of one, ``family``, ``family:revision``, or the name
            of a container.

    Raises:
        RequestRefused: 404 if nothing matches, 409 if several tasks match; the text lists them.
    """
    if wanted.startswith("arn:"):
        fitting = [task for task in tasks if _is_arn_of(task, wanted)]
    else:
        wanted = task_id(wanted)
        fitting = _fitting(tasks, wanted)
    if not fitting:
        raise RequestRefused(404, _unknown(tasks, wanted))
    if len(fitting) > 1:
        listed = _listed(fitting)
        text = f"{_quoted(wanted)} matches several tasks: {listed}; use the beginning of an id"
        raise RequestRefused(409, text)
    (task,) = fitting
    is_container = any(container.name == wanted for container in task.containers)
    return Meant(task, wanted if is_container else "")


def container_of(meant: Meant, name: str, *, mend: str) -> ContainerView:
    """Return the named container of a task; without a name, the one that matched, or the only one.

    Args:
        meant: the task.
        name: of the container; empty if none was named.
        mend: what to do if it has several, for the text.

    Raises:
        RequestRefused: 400 if it has several, 404 if it has none of that name.
    """
    task = meant.task
    name = name or meant.container
    names = ", ".join(container.name for container in task.containers[:_CONTAINERS_LISTED])
    if len(task.containers) > _CONTAINERS_LISTED:
        names += f" and {len(task.containers) - _CONTAINERS_LISTED} more"
    if not name and len(task.containers) != 1:
        raise RequestRefused(400, f"task {task.id} has several containers; {mend}: {names}")
    chosen = next((c for c in task.containers if name in ("", c.name)), None)
    if chosen is None:
        raise RequestRefused(404, f"task {task.id} has no container {name!r}; it has {names}")
    return chosen


def _is_arn_of(task: TaskView, arn: str) -> bool:
    """Tell whether an ARN is the ARN of a task; also accepts the old form without a cluster."""
    place, _, rest = task.arn.partition(":task/")
    asked_place, _, asked_rest = arn.partition(":task/")
    return place == asked_place and asked_rest in {rest, task.id}


def _fitting(tasks: Sequence[TaskView], wanted: str) -> list[TaskView]:
    if exact := [task for task in tasks if task.id == wanted]:
        return exact
    by_id = [task for task in tasks if wanted and task.id.startswith(wanted)]
    named = [task for task in tasks if wanted in _names(task) and task not in by_id]
    alive = [task for task in named if task.status != "STOPPED"]
    return [*by_id, *(alive or named)]


def _names(task: TaskView) -> set[str]:
    definition = f"{task.family}:{task.revision}"
    return {task.family, definition, *(container.name for container in task.containers)}


def _unknown(tasks: Sequence[TaskView], wanted: str) -> str:
    text = f"no task {_quoted(wanted)} on this host"
    if not tasks:
        return f"{text}, nor any other"
    beginnings = {task.id[: max(len(wanted), 4)] for task in tasks}
    known = sorted({name for task in tasks for name in _names(task)} | beginnings)
    import difflib  # noqa: PLC0415 - most names are known

    near = difflib.get_close_matches(wanted[:_ASKED_SHOWN], known, n=1, cutoff=0.6)
    guess = f"; did you mean {_quoted(near[0])}? There" if near else "; there"
    return f"{text}{guess} {'are' if len(tasks) > 1 else 'is'} {_listed(tasks)}"


def _listed(tasks: Sequence[TaskView]) -> str:
    """List the newest tasks, with ids long enough to distinguish them."""
    shown = _ID_SHOWN
    while len({task.id[:shown] for task in tasks}) < len({task.id for task in tasks}):
        shown += 1
    newest = list(tasks)[::-1]
    parts = [
        f"{task.id[:shown]} ({_short(task.family)}:{task.revision}, {task.status})"
        for task in newest[:LISTED]
    ]
    more = len(newest) - LISTED
    if more > 0:
        return f"{', '.join(parts)} and {more} more ('ecs-agent tasks' lists them)"
    return ", ".join(parts)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _ASKED_SHOWN else f"{text[:_ASKED_SHOWN]}...")


def _short(name: str) -> str:
    return name if len(name) <= _NAME_SHOWN else f"{name[: _NAME_SHOWN - 3]}..."
