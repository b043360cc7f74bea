"""Lines of containers with the log driver ``awslogs``, through the engine and the agent to control.

The agent's way to control goes through a receiver that takes the calls for logs.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import Fleet, eventually
from tests.support.log_receiver import LogReceiver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fleet import Agent


@pytest.fixture
def site(leak_check: None, tmp_path: Path) -> Iterator[tuple[Fleet, LogReceiver, Agent]]:
    """A control endpoint, the receiver in front of it, and an agent."""
    del leak_check
    made = Fleet(tmp_path)
    with LogReceiver(made.control.url) as receiver:
        agent = made.add_agent(
            ECS_CONTROL_ENDPOINT=receiver.url,
            ECS_AVAILABLE_LOGGING_DRIVERS='["json-file","awslogs","none"]',
        )
        try:
            made.start()
            yield made, receiver, agent
        except BaseException:
            for process in (made.control, agent):
                sys.stderr.write(f"--- {process.name}\n{process.tail()}\n")
            raise
        finally:
            receiver.is_away = False
            made.end()


def logging(*, group: str = "/ecs/web", **options: str) -> dict[str, Any]:
    return {
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": group, "awslogs-stream-prefix": "p", **options},
        }
    }


def counting(count: int, *, every_s: float = 0.0) -> str:
    """A command that writes numbered lines."""
    return f"i=0; while [ $i -lt {count} ]; do echo line $i; i=$((i+1)); sleep {every_s}; done"


def test_lines_arrive_in_order_under_the_names_that_ecs_gives(
    site: tuple[Fleet, LogReceiver, Agent], busybox_image: str
) -> None:
    fleet, receiver, agent = site
    client = fleet.client()
    definition = register(
        client, busybox_image, counting(2000), f"{counting(10)}; sleep 600",
        containers=[{**logging(), "essential": False}, logging(**{"awslogs-create-group": "true"})],
    )  # fmt: skip
    (arn,) = run(client, definition)
    task = arn.rsplit("/", 1)[-1]
    eventually(lambda: len(receiver.lines(f"p/c0/{task}")) >= 2000, what="all lines of c0")
    eventually(lambda: len(receiver.lines(f"p/c1/{task}")) >= 10, what="all lines of c1")
    assert receiver.lines(f"p/c0/{task}") == [f"line {n}" for n in range(2000)]
    assert receiver.lines(f"p/c1/{task}") == [f"line {n}" for n in range(10)]
    times = [at for b in receiver.batches if b.stream == f"p/c0/{task}" for at, _ in b.events]
    assert times == sorted(times)
    assert abs(times[0] / 1000 - time.time()) < 300
    made = {stream.stream: stream.create_group for stream in receiver.streams}
    assert made == {f"p/c0/{task}": False, f"p/c1/{task}": True}
    assert {batch.group for batch in receiver.batches} == {"/ecs/web"}
    assert not agent.json("status")["degraded"]
