"""Collects all that the oracle judges, from the engine, control and what containers wrote."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.chaos.engine import run_docker
from tests.chaos.engine_log import TASK
from tests.chaos.oracle import Line, Seen
from tests.chaos.work_plan import SERVICES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chaos.scene import Scene
    from tests.chaos.workload import Workload

_MOST_DESCRIBED = 100


def observe(scene: Scene, workload: Workload) -> Seen:
    """Return what can be seen now; all must be mended."""
    client = workload.client
    arns = {order.arn for order in workload.orders if order.arn}
    for status in ("RUNNING", "STOPPED"):
        for page in client.get_paginator("list_tasks").paginate(desiredStatus=status):
            arns |= set(page["taskArns"])
    running = _running()
    tasks = _described(client, sorted(arns | set(running)))
    services = client.describe_services(services=list(SERVICES))["services"]
    log = scene.world.engine_log
    return Seen(
        orders=list(workload.orders),
        excuses=scene.excuses,
        lines=read_lines(scene.world.runs),
        tasks=tasks,
        services=services,
        running=running,
        starts={key: list(ids) for key, ids in list(log.starts.items())},
    )


def read_lines(runs: Path) -> dict[tuple[str, str], list[Line]]:
    """Return what containers of orders wrote, by order and container."""
    found = {}
    for file in runs.iterdir():
        order, _, container = file.name.partition("-")
        with contextlib.suppress(OSError):
            words = [line.split() for line in file.read_text().splitlines()]
            found[order, container] = [
                Line(word, run, int(at_s)) for word, run, at_s in (x for x in words if len(x) == 3)
            ]
    return found


def _described(client: Any, arns: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for begin in range(0, len(arns), _MOST_DESCRIBED):
        answer = client.describe_tasks(tasks=arns[begin : begin + _MOST_DESCRIBED])
        found |= {task["taskArn"]: task for task in answer["tasks"]}
    return found


def _running() -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    shown = ["--filter", f"label={TASK}", "--format", f'{{{{.ID}}}} {{{{.Label "{TASK}"}}}}']
    for line in run_docker("ps", *shown).splitlines():
        container, task = line.split()
        found[task].append(container)
    return dict(found)
