"""Judges what an agent reported, after the fact: order, one at a time, nothing lost, nothing twice."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.backend.journal import Call

_RANKS = {"PENDING": 0, "RUNNING": 1, "STOPPED": 2}
SIDE_BY_SIDE = 10
"""How many tasks may be reported at the same time."""


def judge(calls: Iterable[Call], *, lives: int = 1) -> list[str]:
    """Return what is wrong with all reports of tasks, in words.

    Args:
        calls: of ``SubmitTaskStateChange``.
        lives: how many processes of the agent made them; after a crash one may repeat what the
            former one was told but had not written down.
    """
    ordered = sorted(calls, key=lambda c: c.at)
    by_task: dict[str, list[Call]] = defaultdict(list)
    for call in ordered:
        by_task[call.request.get("task", "")].append(call)
    found = _too_many(ordered)
    for task, own in by_task.items():
        found += [f"{task}: {problem}" for problem in _judge_task(own, lives)]
    return found


def statuses(calls: Iterable[Call], task: str) -> list[str]:
    """Return the statuses of a task that the back end accepted, in order, each once."""
    found: list[str] = []
    for call in calls:
        if call.accepted and call.request.get("task") == task and "status" in call.request:
            status = str(call.request["status"])
            if not found or found[-1] != status:
                found.append(status)
    return found


def last_of_containers(calls: Iterable[Call], task: str) -> dict[str, dict[str, Any]]:
    """Return what was reported last of each container of a task."""
    found: dict[str, dict[str, Any]] = {}
    for call in calls:
        if call.accepted and call.request.get("task") == task:
            for container in call.request.get("containers", ()):
                found[container["containerName"]] = container
    return found


def _too_many(calls: list[Call]) -> list[str]:
    """No more than ten requests were in flight at any time."""
    edges = [(c.at, 1) for c in calls] + [(c.ended_at, -1) for c in calls if c.ended_at is not None]
    now = most = 0
    for _, step in sorted(edges):
        now += step
        most = max(most, now)
    return [f"{most} requests in flight"] if most > SIDE_BY_SIDE else []


def _judge_task(calls: list[Call], lives: int) -> list[str]:
    found = [
        f"two requests in flight: {_short(a)}, {_short(b)}"
        for a, b in pairwise(calls)
        if a.ended_at is None or b.at < a.ended_at
    ]
    reports = [c for c in calls if "status" in c.request]
    for a, b in pairwise(reports):
        if _RANKS[b.request["status"]] < _RANKS[a.request["status"]]:
            found.append(f"went back: {_short(a)}, then {_short(b)}")
        settled = a.accepted or a.code == "InvalidParameterException"
        if not settled and _RANKS[b.request["status"]] != _RANKS[a.request["status"]]:
            found.append(f"did not wait for {_short(a)} to be accepted: {_short(b)}")
    accepted = [c for c in reports if c.accepted]
    if lives == 1:
        found += [f"repeated: {_short(b)}" for a, b in pairwise(accepted) if a.request == b.request]
        stops = [c for c in accepted if c.request["status"] == "STOPPED"]
        found += [f"stopped {len(stops)} times"] if len(stops) > 1 else []
    return found + _judge_containers(accepted)


def _judge_containers(accepted: list[Call]) -> list[str]:
    """Containers go forward only, and a task is not ahead of those that were named."""
    found: list[str] = []
    seen: dict[str, int] = {}
    for call in accepted:
        for container in call.request.get("containers", ()):
            name, rank = container["containerName"], _RANKS[container["status"]]
            if rank < seen.get(name, 0):
                found.append(f"container {name} went back: {_short(call)}")
            seen[name] = rank
        rank = _RANKS[call.request["status"]]
        behind = [n for n, r in seen.items() if r < rank]
        if behind:
            found.append(f"ahead of its containers {behind}: {_short(call)}")
    return found


def _short(call: Call) -> str:
    named = {c["containerName"]: c["status"] for c in call.request.get("containers", ())}
    return f"{call.request.get('status', 'attachment')} {named} [{call.code or call.status}]"
