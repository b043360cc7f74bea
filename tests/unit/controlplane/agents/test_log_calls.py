"""Log events of agents: taken once, by hosts that may, within bounds; and read by operators."""

from __future__ import annotations

import asyncio
import gzip
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.controlplane.agents.longpoll import log_calls
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.log_settings import LogSettings
from agent.controlplane.log_store.contract import LogStoreBusy
from agent.controlplane.log_store.store import LogStore
from tests.support.control_endpoint import (
    CAPABILITIES,
    Endpoint,
    ScriptedAgent,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.log_store.changes import Batch

AWSLOGS = {"com.amazonaws.ecs.capability.logging-driver.awslogs": ""}
PREFIX = "Logs_20140328"


async def logging_host(endpoint: Endpoint, group: str = "/ecs/web") -> ScriptedAgent:
    """A registered host with a task that logs to a group."""
    agent = ScriptedAgent(endpoint, attributes=CAPABILITIES | AWSLOGS)
    await agent.register()
    request = definition()
    request["containerDefinitions"][0]["logConfiguration"] = {
        "logDriver": "awslogs",
        "options": {"awslogs-group": group, "awslogs-region": "us-east-1"},
    }
    await endpoint.call("RegisterTaskDefinition", **request)
    started = await endpoint.call("StartTask", taskDefinition="web", containerInstances=[agent.arn])
    assert started["tasks"], started
    return agent


def a_batch(number: int, *texts: str, **more: Any) -> dict[str, Any]:
    now_ms = int(time.time() * 1000)
    batch: dict[str, Any] = {
        "id": f"batch-{number}",
        "group": "/ecs/web",
        "stream": "web/main/1",
        "createGroup": True,
        "events": [[now_ms + n, text] for n, text in enumerate(texts)],
    }
    return batch | more


async def deliver(agent: ScriptedAgent, *batches: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"instance": agent.arn, "batches": batches} | more
    packed = gzip.compress(msgspec.json.encode(body))
    gzipped = {"Content-Encoding": "gzip"}
    status, answer = await agent.send("POST", "/v1/logs", packed, headers=gzipped)
    assert status == 200, answer
    decoded: dict[str, Any] = msgspec.json.decode(answer)
    return decoded


async def logged(endpoint: Endpoint, **request: Any) -> list[str]:
    """What operators read."""
    headers = {
        "X-Amz-Target": f"{PREFIX}.FilterLogEvents",
        "Content-Type": "application/x-amz-json-1.1",
    }
    body = msgspec.json.encode({"logGroupName": "/ecs/web"} | request)
    async with endpoint.session.post(endpoint.url, data=body, headers=headers) as answer:
        text = await answer.read()
        assert answer.status == 200, text
        return [event["message"] for event in msgspec.json.decode(text)["events"]]


async def test_what_is_delivered_is_read_by_operators(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    answer = await deliver(
        agent, a_batch(1, "one", "two"), a_batch(2, "three", stream="web/main/2")
    )
    assert answer == {"accepted": ["batch-1", "batch-2"]}
    assert sorted(await logged(endpoint)) == ["one", "three", "two"]
    assert await logged(endpoint, logStreamNames=["web/main/1"]) == ["one", "two"]


async def test_a_batch_that_is_sent_again_is_accepted_and_stored_once(endpoint: Endpoint) -> None:
    agent, other = await logging_host(endpoint), await logging_host(endpoint)
    batch = a_batch(1, "once")
    for _ in range(3):
        assert (await deliver(agent, batch))["accepted"] == ["batch-1"]
    assert await logged(endpoint) == ["once"]
    await deliver(other, a_batch(1, "of another host"))
    assert sorted(await logged(endpoint)) == ["of another host", "once"]


async def test_it_may_come_as_gzip_and_not_without_end(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    body = msgspec.json.encode({"instance": agent.arn, "batches": [a_batch(1, "x" * 5000)]})
    gzipped = {"Content-Encoding": "gzip"}
    status, _ = await agent.send("POST", "/v1/logs", gzip.compress(body), headers=gzipped)
    assert status == 200
    bomb = gzip.compress(b" " * (64 << 20))
    status, text = await agent.send("POST", "/v1/logs", bomb, headers=gzipped)
    assert (status, b"larger than" in text) == (413, True)
    assert await logged(endpoint) == ["x" * 5000]


async def test_a_group_that_is_missing_is_made_only_if_asked(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    answer = await deliver(agent, a_batch(1, "lost", createGroup=False))
    assert answer["refused"] == [
        {
            "id": "batch-1",
            "type": "ResourceNotFoundException",
            "message": "The specified log group does not exist.",
        }
    ]
    stream = {"instance": agent.arn, "group": "/ecs/web", "stream": "s"}
    status, text = await agent.send("POST", "/v1/logs/streams", stream)
    assert status == 404
    assert msgspec.json.decode(text) == {
        "code": "ResourceNotFoundException",
        "message": "The specified log group does not exist.",
    }
    for _ in range(2):
        status, text = await agent.send("POST", "/v1/logs/streams", stream | {"createGroup": True})
        assert (status, text) == (200, b"{}")
    assert (await deliver(agent, a_batch(1, "kept", createGroup=False)))["accepted"]


async def test_a_host_writes_only_where_its_tasks_log(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    stranger = ScriptedAgent(endpoint)
    await stranger.register()
    for sender, group in ((agent, "/ecs/other"), (stranger, "/ecs/web")):
        answer = await deliver(sender, a_batch(1, "x", group=group))
        assert answer["refused"][0]["type"] == "AccessDeniedException"
        asked = {"instance": sender.arn, "group": group, "stream": "s", "createGroup": True}
        status, text = await sender.send("POST", "/v1/logs/streams", asked)
        assert (status, b"no task of this container instance" in text) == (404, True)
    other = await logging_host(endpoint, "/ecs/other")
    assert (await deliver(other, a_batch(2, "x", group="/ecs/other")))["accepted"]
    status, _ = await agent.send(
        "POST", "/v1/logs", {"instance": agent.arn + "0", "batches": [a_batch(3, "x")]}
    )
    assert status == 404
    status, _ = await agent.send(
        "POST", "/v1/logs", {"instance": agent.arn, "batches": []}, generation=0
    )
    assert status == 409


async def test_events_out_of_time_are_left_out_and_told(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    now_ms = int(time.time() * 1000)
    events = [[now_ms + 3 * 3600_000, "future"], [now_ms, "good"], [1, "old"]]
    answer = await deliver(agent, a_batch(1, events=events))
    assert answer["refused"][0]["message"].startswith("2 of 3 log events are left out")
    assert (await deliver(agent, a_batch(1, events=events)))["refused"]
    assert await logged(endpoint) == ["good"]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (a_batch(1), "at least one"),
        (a_batch(1, "x" * 1_048_551), "exceeds limit"),
        (a_batch(1, ""), "empty"),
        (a_batch(1, "x", stream="a:b"), "log stream"),
        (a_batch(1, "x", group="a b"), "log group"),
    ],
)
async def test_a_bad_batch_is_refused_by_itself(
    endpoint: Endpoint, batch: dict[str, Any], words: str
) -> None:
    agent = await logging_host(endpoint)
    answer = await deliver(agent, batch, a_batch(2, "good"))
    assert answer["accepted"] == ["batch-2"]
    ((refused),) = answer["refused"]
    assert (refused["id"], refused["type"]) == ("batch-1", "InvalidParameterException")
    assert words in refused["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"instance": "x"}',
        b'{"instance": "x", "batches": [{"id": "1"}]}',
        b'{"instance": "x", "batches": [' + b"[" * 200_000,
        msgspec.json.encode({"instance": "x", "batches": [a_batch(1, "x"), a_batch(1, "y")]}),
        msgspec.json.encode({"instance": "x", "batches": [a_batch(1, "x") | {"id": ""}]}),
        msgspec.json.encode({"instance": "x", "batches": [a_batch(n, "x") for n in range(1001)]}),
        b'{"instance": "x", "batches": [{"id":"1","group":"g","stream":"s","events":['
        + b",".join([b'[0,""]'] * 100_001)
        + b"]}]}",
        b'{"instance":"x","batches":[{"id":"1","group":"g","stream":"s","events":[[0,"\\ud800"]]}]}',
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        log_calls.read_logs(body)


def test_brackets_in_messages_are_no_lists() -> None:
    body = msgspec.json.encode({"instance": "x", "batches": [a_batch(1, "[" * 500_000)]})
    assert log_calls.read_logs(body).batches[0].events


async def test_it_is_told_to_come_later(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await logging_host(endpoint)
    take = LogStore.append

    async def busy(store: LogStore, batch: Batch) -> Any:
        if batch.stream == "busy":
            raise LogStoreBusy
        return await take(store, batch)

    batches = [a_batch(1, "one"), a_batch(2, "two", stream="busy")]
    body = {"instance": agent.arn, "batches": batches}
    with monkeypatch.context() as patched:
        patched.setattr(LogStore, "append", busy)
        headers = {"X-Ecs-Generation": str(agent.generation)}
        async with endpoint.session.post(
            f"{endpoint.url}/v1/logs", json=body, headers=headers
        ) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "2"
    answer_ = await deliver(agent, *batches)
    assert answer_["accepted"] == ["batch-1", "batch-2"]
    assert sorted(await logged(endpoint)) == ["one", "two"]


async def test_batches_of_one_call_keep_their_order(endpoint: Endpoint) -> None:
    agent = await logging_host(endpoint)
    now_ms = int(time.time() * 1000)
    batches = [a_batch(n, events=[[now_ms, str(n)]]) for n in range(50)]
    await deliver(agent, *batches)
    assert await logged(endpoint) == [str(n) for n in range(50)]


async def test_a_control_that_keeps_no_logs_says_so(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, logs=LogSettings(are_kept=False)) as endpoint:
        await endpoint.call("CreateCluster")
        agent = await logging_host(endpoint)
        answer = await deliver(agent, a_batch(1, "x"))
        assert "logs are off" in answer["refused"][0]["message"]
        stream = {"instance": agent.arn, "group": "/ecs/web", "stream": "s", "createGroup": True}
        status, text = await agent.send("POST", "/v1/logs/streams", stream)
        assert (status, b"logs are off" in text) == (404, True)
        assert not await asyncio.to_thread((tmp_path / "logs").exists)


async def test_a_control_whose_logs_cannot_be_opened_works_and_asks_to_wait(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").write_text("no directory")
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = await logging_host(endpoint)
        body = {"instance": agent.arn, "batches": [a_batch(1, "x")]}
        status, text = await agent.send("POST", "/v1/logs", body)
        assert (status, b"logs cannot be kept" in text) == (503, True)
        async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
            assert answer.status == 200
            assert (await answer.text()).startswith("ok\nlogs: logs cannot be kept: ")
        headers = {
            "X-Amz-Target": f"{PREFIX}.DescribeLogGroups",
            "Content-Type": "application/x-amz-json-1.1",
        }
        async with endpoint.session.post(endpoint.url, data=b"{}", headers=headers) as answer:
            assert answer.status == 503
