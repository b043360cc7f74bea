"""Telemetry messages: their shape, and that nothing is lost between them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.model.status import Health
from agent.model.telemetry import ContainerFacts, TaskFacts
from agent.upstream.amazon.tcs import requests
from agent.upstream.amazon.tcs.queue import RoundQueue, TelemetryQueue
from agent.upstream.amazon.tcs.requests import Round, Status
from agent.upstream.amazon.tcs.runtime_health import RuntimeHealth
from agent.upstream.amazon.tcs.sets import ContainerMetric, DoubleSet, TaskMetric

ABOUT = Round("c", "arn", "id-1", 1746802078.03149)
CPU = DoubleSet(0.1, 2.0, 20, 14.0)
MEMORY = DoubleSet(10, 12, 20, 220)


def task(number: int, *names: str) -> TaskMetric:
    return TaskMetric(
        f"t{number}", "web", "3", [ContainerMetric(name, CPU, MEMORY) for name in names or ("app",)]
    )


def read(messages: list[bytes]) -> list[Any]:
    return [msgspec.json.decode(message) for message in messages]


def test_figures() -> None:
    (message,) = read(requests.metrics(ABOUT, [task(1)]))
    assert message == {
        "type": "PublishMetricsRequest",
        "message": {
            "metadata": {
                "cluster": "c",
                "containerInstance": "arn",
                "messageId": "id-1",
                "idle": False,
                "fin": True,
            },
            "taskMetrics": [
                {
                    "taskArn": "t1",
                    "taskDefinitionFamily": "web",
                    "taskDefinitionVersion": "3",
                    "containerMetrics": [
                        {
                            "containerName": "app",
                            "cpuStatsSet": {"min": 0.1, "max": 2.0, "sampleCount": 20, "sum": 14.0},
                            "memoryStatsSet": {
                                "min": 10,
                                "max": 12,
                                "sampleCount": 20,
                                "sum": 220,
                            },
                        }
                    ],
                }
            ],
            "timestamp": 1746802078.031,
        },
    }
    assert requests.metrics(ABOUT, []) == []


def test_idle() -> None:
    (message,) = read([requests.idle(ABOUT)])
    assert message["type"] == "PublishMetricsRequest"
    assert message["message"]["metadata"]["idle"] is True
    assert message["message"]["metadata"]["fin"] is True
    assert "taskMetrics" not in message["message"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=45), st.integers(6_000, 60_000))
def test_parts_of_a_round(sizes: list[int], limit: int) -> None:
    tasks = [
        task(number, *(f"c{index}" + "x" * 50 for index in range(size)))
        for number, size in enumerate(sizes)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "MESSAGE_BYTES", limit)
        raw = requests.metrics(ABOUT, tasks)
    messages = [message["message"] for message in read(raw)]
    assert all(len(msgspec.json.encode(message)) <= limit for message in messages)
    assert all(len(message["taskMetrics"]) <= 10 for message in messages)
    fins = [message["metadata"]["fin"] for message in messages]
    assert fins == [False] * (len(messages) - 1) + [True] * bool(messages)
    assert {message["metadata"]["messageId"] for message in messages} <= {"id-1"}
    told = [
        (part["taskArn"], container["containerName"])
        for message in messages
        for part in message["taskMetrics"]
        for container in part["containerMetrics"]
    ]
    expected = [(t.task_arn, c.container_name) for t in tasks for c in t.container_metrics]
    assert told == expected


def test_what_is_too_large_by_itself_is_left_out() -> None:
    huge = "x" * (requests.MESSAGE_BYTES + 1)
    messages = read(requests.metrics(ABOUT, [task(1, "small", huge), task(2)]))
    told = [part["taskArn"] for message in messages for part in message["message"]["taskMetrics"]]
    assert told == ["t1", "t2"]


def judged(number: int, **fields: Any) -> TaskFacts:
    given = {"running": True, "reports_health": True, **fields}
    containers = (
        ContainerFacts(name="app", **given),
        ContainerFacts(name="other", running=True),
        ContainerFacts(name="waits", reports_health=True),
    )
    return TaskFacts(arn=f"t{number}", family="web", revision="3", containers=containers)


def test_health() -> None:
    since = judged(1, health=Health.HEALTHY, health_since=1746802000.1)
    unknown = judged(2)
    nobody = TaskFacts(arn="t3", containers=(ContainerFacts(name="a", running=True),))
    (message,) = read(requests.health(ABOUT, [since, unknown, nobody]))
    head = {"cluster": "c", "containerInstance": "arn", "messageId": "id-1", "fin": True}

    def of(arn: str, status: str, at: float) -> dict[str, Any]:
        told = {"containerName": "app", "healthStatus": status, "statusSince": at}
        return {
            "taskArn": arn,
            "taskDefinitionFamily": "web",
            "taskDefinitionVersion": "3",
            "containers": [told],
        }

    assert message == {
        "type": "PublishHealthRequest",
        "message": {
            "metadata": head,
            "tasks": [of("t1", "HEALTHY", 1746802000.1), of("t2", "UNKNOWN", 1746802078.031)],
            "timestamp": 1746802078.031,
        },
    }
    assert requests.health(ABOUT, [nobody]) == []


def test_health_of_many_tasks() -> None:
    messages = read(requests.health(ABOUT, [judged(number) for number in range(25)]))
    assert [len(message["message"]["tasks"]) for message in messages] == [10, 10, 5]
    assert [message["message"]["metadata"]["fin"] for message in messages] == [False, False, True]


def test_instance_status() -> None:
    (message,) = read([requests.instance_status(ABOUT, Status("OK", 1746802070.0, 1746801000.0))])
    assert message == {
        "type": "PublishInstanceStatusRequest",
        "message": {
            "metadata": {"cluster": "c", "containerInstance": "arn", "requestId": "id-1"},
            "statuses": [
                {
                    "type": "ContainerRuntime",
                    "status": "OK",
                    "lastUpdated": 1746802070.0,
                    "lastStatusChange": 1746801000.0,
                }
            ],
            "timestamp": 1746802078.031,
        },
    }


def test_the_engine_is_judged_with_each_heartbeat() -> None:
    now, up = 10.0, True
    health = RuntimeHealth(lambda: up, lambda: now)
    assert health.untold() == Status("INITIALIZING", 10.0, 10.0)
    assert health.untold() is None
    now = 20.0
    health.judge()
    assert health.untold() == Status("OK", 20.0, 20.0)
    now = 30.0
    health.judge()
    assert health.untold() == Status("OK", 30.0, 20.0)
    now, up = 40.0, False
    health.judge()
    assert health.untold() == Status("IMPAIRED", 40.0, 40.0)
    assert health.untold() is None


@given(
    st.lists(
        st.one_of(
            st.lists(st.binary(max_size=30), max_size=4).map(lambda m: ("put", m)),
            st.just(("send", [])),
            st.just(("look", [])),
        )
    )
)
def test_queue_keeps_order_and_bounds(moves: list[tuple[str, list[bytes]]]) -> None:
    rounds = RoundQueue(limit=3, limit_bytes=60)
    model: list[list[bytes]] = []
    begun = False
    looked: bytes | None = None
    for move, messages in moves:
        # Each message is an object of its own, as they are in the agent.
        fresh = [bytes(bytearray(message + b"!!")) for message in messages]
        if move == "put":
            dropped = rounds.put(fresh)
            if fresh:
                model.append(list(fresh))
            del model[begun : begun + dropped]
        elif move == "look":
            looked = rounds.first()
            assert looked == (model[0][0] if model else None)
        elif looked is not None:
            if model and model[0][0] is looked:
                model[0].pop(0)
                begun = bool(model[0])
                model = [one for one in model if one]
            rounds.sent(looked)
        waiting = sum(len(message) for one in model for message in one)
        assert len(rounds) == len(model) <= 3
        assert waiting <= 60 or len(model) <= 1 + begun
        assert rounds._bytes == waiting


def test_a_round_that_was_begun_is_finished() -> None:
    rounds = RoundQueue(limit=2)
    first, second = b"first", b"second"
    rounds.put([first, second])
    rounds.sent(first)
    assert rounds.put([b"old"]) == 0
    assert rounds.put([b"new"]) == 1
    assert rounds.first() is second
    rounds.sent(second)
    assert rounds.first() == b"new"


async def test_status_and_health_go_before_figures() -> None:
    out = TelemetryQueue()
    out.put(out.metrics, [b"m1", b"m2"])
    out.put(out.health, [b"h"])
    out.put(out.status, [b"old"])
    out.put(out.status, [b"new"])
    order = []
    for _ in range(4):
        rounds, message = await out.next()
        order.append(message)
        rounds.sent(message)
    assert order == [b"new", b"h", b"m1", b"m2"]
