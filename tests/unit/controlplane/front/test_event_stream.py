"""``POST /control/events``: what a control does, as it happens, and from where a reader left off."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.controlplane.events.feed import EventFeed
from agent.controlplane.front import event_stream, line_stream
from agent.controlplane.store.contract import StoreUnavailable
from tests.support.control_endpoint import ScriptedAgent, a_report, control_endpoint, definition
from tests.support.keyed_control import REGION, KeyedControl, allow

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.events.feed import Batch
    from tests.support.control_endpoint import Endpoint
    from tests.support.keyed_control import Keys

PATH = "/control/events"


async def events(endpoint: Endpoint, **asked: Any) -> list[dict[str, Any]]:
    async with endpoint.session.post(f"{endpoint.url}{PATH}", json=asked) as answer:
        assert answer.status == 200
        return [json.loads(line) for line in (await answer.read()).splitlines() if line.strip()]


async def test_a_service_from_its_first_task_to_its_end(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def follow() -> None:
            async with endpoint.session.post(
                f"{endpoint.url}{PATH}", json={"after": 0, "follow": True}
            ) as answer:
                async for line in answer.content:
                    if line.strip():
                        await lines.put(json.loads(line))

        reader = asyncio.create_task(follow())
        seen: list[dict[str, Any]] = []

        async def until(kind: str, **detail: Any) -> dict[str, Any]:
            async with asyncio.timeout(40):
                while True:
                    line = await lines.get()
                    seen.append(line)
                    event: dict[str, Any] = line["event"]
                    if event["detail-type"] == kind and detail.items() <= event["detail"].items():
                        return event

        await until("ECS Container Instance State Change", agentConnected=True)
        agent_at_work = asyncio.create_task(agent.obey())
        await endpoint.call(
            "CreateService", serviceName="web", taskDefinition="web", desiredCount=1
        )
        begun = await until(
            "ECS Deployment State Change", eventName="SERVICE_DEPLOYMENT_IN_PROGRESS"
        )
        assert begun["resources"] == ["arn:aws:ecs:us-east-1:000000000000:service/default/web"]
        task = await until("ECS Task State Change", lastStatus="PENDING")
        assert task["detail"]["group"] == "service:web"
        assert task["detail"]["startedBy"] == begun["detail"]["deploymentId"]
        running = await until("ECS Task State Change", lastStatus="RUNNING")
        assert running["detail"]["version"] > task["detail"]["version"]
        await endpoint.call("DeleteService", service="web", force=True)
        stopped = await until("ECS Task State Change", lastStatus="STOPPED")
        assert stopped["detail"]["stopCode"] == "ServiceSchedulerInitiated"
        await until("ECS Container Instance State Change", runningTasksCount=0, pendingTasksCount=0)
        hosts = [
            line["event"]["detail"] for line in seen if "Instance" in line["event"]["detail-type"]
        ]
        assert max(host["runningTasksCount"] + host["pendingTasksCount"] for host in hosts) == 1
        versions = [host["version"] for host in hosts]
        assert versions == sorted(set(versions))
        agent_at_work.cancel()
        reader.cancel()
        await asyncio.wait([agent_at_work, reader])

        # All of it once more, for somebody who asks later, with the same ids.
        again = await events(endpoint, after=0)
        ids = {line["event"]["id"] for line in seen if "STOPPED" not in str(line)}
        tasks = [line for line in again if "Task" in line["event"]["detail-type"]]
        assert {line["event"]["id"] for line in tasks} & ids
        assert await events(endpoint, after=again[-1]["place"]) == []
        (line,) = [one for one in again if one["event"]["id"] == stopped["id"]]
        assert line["event"]["detail"]["stopCode"] == "ServiceSchedulerInitiated"


async def test_a_silent_stream_shows_that_it_lives_and_ends_with_control(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_S", 0.01)
    async with control_endpoint(tmp_path) as endpoint:
        answer = await endpoint.session.post(f"{endpoint.url}{PATH}", json={"follow": True})
        async with asyncio.timeout(40):
            assert await answer.content.readline() == b"\n"
    answer.close()


async def test_a_stream_that_the_store_fails_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_self: EventFeed) -> Batch:
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(EventFeed, "next", fails)
    async with control_endpoint(tmp_path) as endpoint:
        with pytest.raises(aiohttp.ClientError):
            await events(endpoint, after=0)


async def test_readers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "READERS_MOST", 1)
    async with control_endpoint(tmp_path) as endpoint:
        url = f"{endpoint.url}{PATH}"
        first = await endpoint.session.post(url, json={"follow": True})
        async with endpoint.session.post(url, json={"follow": True}) as second:
            assert second.status == 503
            assert "1 readers follow events already" in (await second.json())["message"]
        first.close()


async def test_one_caller_leaves_room_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "READERS_OF_ONE_MOST", 1)
    async with control_endpoint(tmp_path) as endpoint:
        url = f"{endpoint.url}{PATH}"
        first = await endpoint.session.post(url, json={"follow": True})
        async with endpoint.session.post(url, json={"follow": True}) as second:
            assert second.status == 503
            assert "1 readers of yours follow events already" in (await second.json())["message"]
        first.close()


async def test_callers_at_one_address_have_a_share_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "READERS_OF_ONE_MOST", 1)
    async with KeyedControl.running(tmp_path) as control:
        ann, bob = [
            await control.user(name, allow("control:StreamEvents")) for name in ("ann", "bob")
        ]
        asked = b'{"follow": true}'
        async with follow(control, ann, PATH, asked) as first:
            assert first.status == 200
            async with follow(control, bob, PATH, asked) as other:
                assert other.status == 200
            async with follow(control, ann, PATH, asked) as second:
                assert second.status == 503


async def test_only_operators_may_and_only_what_is_known(tmp_path: Path) -> None:
    async with (
        control_endpoint(
            tmp_path / "a", keys_file=tmp_path / "credentials", token_file=tmp_path / "tokens"
        ) as endpoint,
        endpoint.session.post(f"{endpoint.url}{PATH}", json={}) as answer,
    ):
        assert answer.status == 400
        assert "Missing Authentication Token" in (await answer.json())["message"]
    async with (
        control_endpoint(tmp_path / "b") as endpoint,
        endpoint.session.post(f"{endpoint.url}{PATH}", json={"since": 1}) as answer,
    ):
        assert answer.status == 400
        assert "since" in (await answer.json())["message"]


async def test_events_reach_a_webhook_and_a_bad_one_is_told(tmp_path: Path) -> None:
    file = tmp_path / "webhook"
    got: asyncio.Queue[bytes] = asyncio.Queue()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await got.put(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file.write_text(f"http://127.0.0.1:{port}/canary\n")
    async with server, control_endpoint(tmp_path / "d", event_webhook_file=file) as endpoint:
        agent = ScriptedAgent(endpoint)
        await agent.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        started = await endpoint.call("RunTask", taskDefinition="web")
        arn = started["tasks"][0]["taskArn"]
        await agent.report(a_report(arn, "RUNNING"))
        async with asyncio.timeout(40):
            while True:
                event = json.loads(await got.get())
                if event["detail"].get("lastStatus") == "RUNNING":
                    break
        assert event["resources"] == [arn]


def follow(control: KeyedControl, keys: Keys, path: str, body: bytes) -> Any:
    """Return the call of a stream, signed."""
    endpoint = control.endpoint
    request = AWSRequest("POST", endpoint.url + path, data=body)
    SigV4Auth(Credentials(keys.id, keys.secret), "ecs", REGION).add_auth(request)
    return endpoint.session.post(request.url, data=body, headers=dict(request.headers.items()))


@pytest.mark.parametrize(
    ("path", "body", "action"),
    [
        (PATH, b'{"follow": true}', "control:StreamEvents"),
        ("/control/changes", b'{"cluster": "default"}', "control:StreamChanges"),
    ],
)
@pytest.mark.parametrize("how", ["key", "policy"])
async def test_a_stream_ends_with_the_right_to_it(
    tmp_path: Path, path: str, body: bytes, action: str, how: str
) -> None:
    async with KeyedControl.running(tmp_path) as control:
        keys = await control.user("ann", allow(action))
        async with follow(control, keys, path, body) as answer:
            assert answer.status == 200
            await control.allow("ann", allow([action, "ecs:*"]))
            await control.call("ecs", "create_cluster", clusterName="news")
            async with asyncio.timeout(40):
                # Both streams say something: the second at once, and the first when something happens.
                agent = asyncio.create_task(_an_event(control))
                assert await answer.content.readline()
                await agent
            about = {"UserName": "ann"}
            if how == "key":
                await control.call("iam", "delete_access_key", **about, AccessKeyId=keys.id)
            else:
                await control.call("iam", "delete_user_policy", **about, PolicyName="test")
            # Long before the next empty line would find out.
            with pytest.raises(aiohttp.ClientPayloadError):
                async with asyncio.timeout(line_stream.KEEP_ALIVE_S - 3):
                    await answer.content.read()
        async with follow(control, keys, path, body) as refused:
            assert refused.status == 400
            assert ("invalid" if how == "key" else "not authorized") in await refused.text()


async def _an_event(control: KeyedControl) -> None:
    agent = ScriptedAgent(control.endpoint)
    await agent.register()
