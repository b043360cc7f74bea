"""The relay as an HTTP client meets it: who may write, what is taken, and what never holds up a start."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from agent.awslogs import relay as relays
from agent.awslogs.grants import Grant, LogGrants
from agent.awslogs.relay import LogRelay
from agent.awslogs.spool import Spool
from agent.awslogs.spool_file import Bounds
from tests.support.log_driver import put, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.awslogs.grants import LogKeys

TASK = "a" * 32
GRANTS = LogGrants(b"secret")


def keys_of(task: str = TASK, *, create_group: bool = False, grants: LogGrants = GRANTS) -> LogKeys:
    keys = grants.keys(grants.credentials_id(Grant(task, create_group)))
    assert keys is not None
    return keys


class Site:
    """A relay with its spool, and a client."""

    def __init__(self, spool: Spool, session: aiohttp.ClientSession, port: int) -> None:
        self.spool = spool
        self.groups = {"/ecs/web"}
        self.asked: list[tuple[str, str, bool]] = []
        self.asking_takes_s = 0.0
        self._session = session
        self._port = port

    async def make_stream(self, group: str, stream: str, *, create_group: bool) -> bool:
        self.asked.append((group, stream, create_group))
        await asyncio.sleep(self.asking_takes_s)
        return create_group or group in self.groups

    async def call(
        self, operation: str, body: dict[str, Any] | bytes, keys: LogKeys | None = None
    ) -> tuple[int, dict[str, Any]]:
        headers, raw = signed(keys or keys_of(), operation, body, host=f"127.0.0.1:{self._port}")
        return await self.send(raw, headers)

    async def send(self, raw: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        async with (
            asyncio.timeout(20),
            self._session.post(
                f"http://127.0.0.1:{self._port}/", data=io.BytesIO(raw), headers=headers
            ) as got,
        ):
            return got.status, await got.json(content_type=None)

    async def lines(self) -> list[str]:
        rows = await self.spool.peek(limit_bytes=10**7, limit=1000)
        return [message for row in rows for _, message in json.loads(row.body)]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    spool = Spool(tmp_path / "spool.db", Bounds(host_bytes=10**9, task_bytes=10**9))
    writing = asyncio.create_task(spool.run())
    bound = socket.create_server(("127.0.0.1", 0))
    async with aiohttp.ClientSession() as session:
        made = Site(spool, session, bound.getsockname()[1])
        relay = await LogRelay.open(bound, spool=spool, grants=GRANTS, make_stream=made.make_stream)
        yield made
        await relay.close()
    writing.cancel()
    await asyncio.wait([writing])
    await spool.close()


async def test_events_are_durable_when_the_driver_is_answered(site: Site) -> None:
    status, answer = await site.call("PutLogEvents", put("a", "b"))
    assert status == 200
    (row,) = await site.spool.peek(limit_bytes=10**6, limit=10)
    assert (row.task, row.group, row.stream) == (TASK, "/ecs/web", "s/c/1")
    assert row.id == answer["nextSequenceToken"]
    assert json.loads(row.body) == [[1_700_000_000_000, "a"], [1_700_000_000_001, "b"]]
    assert not row.create_group


async def test_what_the_driver_sends_again_is_kept_once(site: Site) -> None:
    _, first = await site.call("PutLogEvents", put("a"))
    _, again = await site.call("PutLogEvents", put("a"))
    assert again == first
    await site.call("PutLogEvents", put("a", token=first["nextSequenceToken"]))
    assert await site.lines() == ["a", "a"]


async def test_whether_groups_are_made_follows_from_the_keys(site: Site) -> None:
    keys = keys_of(create_group=True)
    await site.call("PutLogEvents", put("a"), keys)
    (row,) = await site.spool.peek(limit_bytes=10**6, limit=10)
    assert row.create_group
    assert await site.call("CreateLogGroup", {"logGroupName": "g"}, keys) == (200, {})
    status, error = await site.call("CreateLogGroup", {"logGroupName": "g"})
    assert (status, error["__type"]) == (400, "AccessDeniedException")


async def test_control_is_asked_about_the_group(site: Site) -> None:
    stream = {"logGroupName": "/ecs/web", "logStreamName": "s"}
    assert await site.call("CreateLogStream", stream) == (200, {})
    missing = {"logGroupName": "other", "logStreamName": "s"}
    status, error = await site.call("CreateLogStream", missing)
    assert (status, error["__type"]) == (400, "ResourceNotFoundException")
    assert error["message"] == "The specified log group does not exist."
    made = await site.call("CreateLogStream", missing, keys_of(create_group=True))
    assert made == (200, {})
    assert site.asked == [("/ecs/web", "s", False), ("other", "s", False), ("other", "s", True)]


async def test_a_control_that_is_slow_holds_up_no_container(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "ASK_LIMIT_S", 0.05)
    site.asking_takes_s = 60.0
    stream = {"logGroupName": "other", "logStreamName": "s"}
    assert await site.call("CreateLogStream", stream) == (200, {})


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (keys_of(grants=LogGrants(b"another host")), "InvalidSignatureException"),
        (keys_of()._replace(access_key=keys_of("b" * 32).access_key), "InvalidSignatureException"),
        (keys_of()._replace(access_key="AKIDEXAMPLE"), "UnrecognizedClientException"),
    ],
)
async def test_nobody_writes_with_other_keys(site: Site, keys: LogKeys, kind: str) -> None:
    status, error = await site.call("PutLogEvents", put("a"), keys)
    assert (status, error["__type"]) == (403, kind)
    assert await site.lines() == []


async def test_nobody_writes_without_a_signature(site: Site) -> None:
    headers = {"X-Amz-Target": "Logs_20140328.PutLogEvents"}
    status, error = await site.send(json.dumps(put("a")).encode(), headers)
    assert (status, error["__type"]) == (403, "MissingAuthenticationTokenException")
    headers, raw = signed(keys_of(), "PutLogEvents", put("a"))
    status, _ = await site.send(raw.replace(b'"a"', b'"b"'), headers)
    assert status == 403
    assert await site.lines() == []


@pytest.mark.parametrize(
    ("operation", "body", "kind"),
    [
        ("PutLogEvents", b"{", "SerializationException"),
        ("PutLogEvents", put(), "InvalidParameterException"),
        ("PutLogEvents", b"x" * 8_400_000, "InvalidParameterException"),
        ("DeleteLogGroup", {"logGroupName": "/ecs/web"}, "UnknownOperationException"),
        ("", {}, "UnknownOperationException"),
    ],
)
async def test_what_is_not_taken_is_refused_by_name(
    site: Site, operation: str, body: dict[str, Any] | bytes, kind: str
) -> None:
    status, error = await site.call(operation, body)
    assert (status, error["__type"]) == (400, kind)


async def test_a_full_disk_has_the_driver_come_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("agent.awslogs.spool_file.SpoolFile.apply", full)
        status, error = await site.call("PutLogEvents", put("a"))
    assert (status, error["__type"]) == (503, "ServiceUnavailableException")
    assert "No space left" in error["message"]
    async with asyncio.timeout(10):
        while (await site.call("PutLogEvents", put("a")))[0] != 200:  # noqa: ASYNC110 - as the driver
            await asyncio.sleep(0.01)
    assert await site.lines() == ["a"]


async def test_containers_that_write_at_once_do_not_wait_for_each_other(site: Site) -> None:
    calls = [
        site.call("PutLogEvents", put(str(n), stream=f"s{n}"), keys_of(f"{n:032x}"))
        for n in range(100)
    ]
    assert {status for status, _ in await asyncio.gather(*calls)} == {200}
    assert sorted(map(int, await site.lines())) == list(range(100))


async def test_what_is_under_way_is_finished_when_the_relay_closes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.db", Bounds(host_bytes=10**9, task_bytes=10**9))
    writing = asyncio.create_task(spool.run())
    bound = socket.create_server(("127.0.0.1", 0))
    async with aiohttp.ClientSession() as session:
        site = Site(spool, session, bound.getsockname()[1])
        relay = await LogRelay.open(bound, spool=spool, grants=GRANTS, make_stream=site.make_stream)
        site.asking_takes_s = 0.3
        stream = {"logGroupName": "/ecs/web", "logStreamName": "s"}
        call = asyncio.create_task(site.call("CreateLogStream", stream))
        while not site.asked:  # noqa: ASYNC110 - a plain list
            await asyncio.sleep(0.01)
        await relay.close()
        assert await call == (200, {})
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    await spool.close()
