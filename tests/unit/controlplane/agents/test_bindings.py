"""Who may speak for a container instance: its host, and nobody who only has a token of the fleet."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import structlog

from agent.controlplane.agents import bindings
from agent.controlplane.agents.bindings import SHARED, Shown, Verdict, key_of, verdict
from agent.model.wire import Changes, Held, HeldTask, InstanceStatus
from tests.support.control_endpoint import (
    ApiFailure,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)
from tests.unit.controlplane.agents.amazon.raw_agent import Key, RawAgent, run_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

TOKEN, ONE, TWO, NEXT = "t" * 32, "1" * 32, "2" * 32, "3" * 32
KEY, OTHER = "k" * 64, "o" * 64
MACHINE = {"machine_id": "m" * 32, "machine_key": "k" * 64}


@pytest.mark.parametrize(
    ("bound_to", "shown", "expected"),
    [
        ("", Shown(), Verdict.ALLOWED),
        ("", Shown(key=key_of(KEY)), Verdict.BINDS),
        ("", Shown(is_signed=True), Verdict.BINDS),
        (key_of(KEY), Shown(key=key_of(KEY)), Verdict.ALLOWED),
        (key_of(KEY), Shown(key=key_of(OTHER)), Verdict.REFUSED),
        (key_of(KEY), Shown(), Verdict.REFUSED),
        (key_of(KEY), Shown(name="a"), Verdict.REFUSED),
        (key_of(KEY), Shown(is_signed=True), Verdict.REFUSED),
        (key_of(KEY), Shown(is_signed=True, is_open=True), Verdict.REFUSED),
        ("token:a", Shown(name="a", is_signed=True), Verdict.ALLOWED),
        ("token:a", Shown(name="a", key=key_of(OTHER)), Verdict.ALLOWED),
        ("token:a", Shown(name="b", is_signed=True), Verdict.REFUSED),
        ("token:a", Shown(is_signed=True), Verdict.REFUSED),
        ("token:a", Shown(is_signed=True, is_open=True), Verdict.ALLOWED),
        ("token:a", Shown(key=key_of(KEY)), Verdict.REFUSED),
        (SHARED, Shown(is_signed=True), Verdict.ALLOWED),
        (SHARED, Shown(name="a", is_signed=True), Verdict.BINDS),
        (SHARED, Shown(), Verdict.REFUSED),
        (SHARED, Shown(key=key_of(KEY)), Verdict.REFUSED),
        (SHARED, Shown(name="a", key=key_of(KEY)), Verdict.REFUSED),
    ],
)
def test_who_may_speak(bound_to: str, shown: Shown, expected: Verdict) -> None:
    assert verdict(bound_to, shown) is expected


def test_no_digest_of_a_key_that_cannot_be_one() -> None:
    assert key_of("") == key_of("x" * (bindings.KEY_MOST + 1)) == ""
    assert key_of("\udcff") != key_of(KEY)


def token_file(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "tokens"
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return path


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    """A control endpoint with a token for everyone, and tokens of the hosts ``a`` and ``b``."""
    file = token_file(tmp_path, TOKEN, f"{ONE} a", f"{TWO} b", f"{NEXT} a")
    async with control_endpoint(tmp_path / "data", token_file=file) as running:
        await running.call("CreateCluster")
        await running.call("RegisterTaskDefinition", **definition())
        yield running


def an_agent(endpoint: Endpoint, **more: Any) -> ScriptedAgent:
    return ScriptedAgent(endpoint, **({"token": TOKEN, "key": KEY} | more))


async def identity_of(endpoint: Endpoint, arn: str) -> str | None:
    answer = await endpoint.call("DescribeContainerInstances", containerInstances=[arn])
    (instance,) = answer["containerInstances"]
    values = {a["name"]: a.get("value") for a in instance["attributes"]}
    return values.get(bindings.ATTRIBUTE)


async def refusals(endpoint: Endpoint) -> dict[str, int]:
    async with endpoint.session.get(f"{endpoint.url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    name = "ecs_control_host_refusals_total"
    found = [line for line in lines if line.startswith(f"{name}{{")]
    return {line.split('"')[1]: int(line.rsplit(" ", 1)[1]) for line in found}


async def test_no_call_of_the_long_poll_speaks_for_another_host(endpoint: Endpoint) -> None:
    victim, thief = an_agent(endpoint), an_agent(endpoint, key=OTHER)
    await victim.register()
    answer = await endpoint.call("RunTask", taskDefinition="web")
    task = answer["tasks"][0]["taskArn"]
    await victim.poll(after=0)
    await thief.register()
    assert thief.arn != victim.arn
    of = f"/v1/instances/{victim.id}"
    held = Held(tasks=[HeldTask(payload=msgspec.Raw(b"{}"), change=a_report(task, "STOPPED"))])
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"{of}/assignments?after=0", None),
        ("GET", f"{of}/assignments?after={victim.revision}&wait=30&credentials=0", None),
        ("POST", f"{of}/changes", Changes(changes=[a_report(task, "STOPPED")])),
        ("POST", f"{of}/usage", b"{}"),
        ("POST", f"{of}/held", held),
        ("POST", f"{of}/brought", held),
        ("POST", f"{of}/status", InstanceStatus(status="DRAINING")),
        ("POST", f"{of}/protection", {"taskArn": task}),
        ("POST", "/v1/secrets", {"instance": victim.arn, "taskArn": task, "names": ["x"]}),
        ("POST", "/v1/tags", {"instance": victim.arn, "resource": task}),
        ("POST", "/v1/logs", {"instance": victim.arn, "batches": []}),
        ("POST", "/v1/logs/streams", {"instance": victim.arn, "group": "g", "stream": "s"}),
        ("DELETE", of, None),
    ]
    with structlog.testing.capture_logs() as logs:
        for sender in (thief, an_agent(endpoint, key=""), an_agent(endpoint, key="", token=ONE)):
            for method, path, body in calls:
                status, said = await sender.send(method, path, body, generation=victim.generation)
                assert (status, b"InstanceUnknown" in said) == (404, True), (path, said)
                assert b"does not come from the host" in said
    told = [line for line in logs if line["event"] == "call in the name of another host refused"]
    assert [line["instance"] for line in told] == [victim.arn]
    assert KEY not in str(logs)
    assert await refusals(endpoint) == {"amazon": 0, "longpoll": 3 * len(calls)}
    async with endpoint.session.get(f"{endpoint.url}/healthz") as answer_:
        assert "39 calls in the name of another host were refused" in await answer_.text()
    # Nothing has changed for the host, not even the place in its polls.
    shown = await endpoint.task(task)
    assert shown["desiredStatus"] == "RUNNING"
    assert await victim.poll(wait_s=0) is None
    assert (await victim.report(a_report(task, "RUNNING"))).results[0].status == "ok"
    assert await identity_of(endpoint, victim.arn) == "key"


async def test_nobody_registers_as_the_instance_of_another_host(endpoint: Endpoint) -> None:
    victim = an_agent(endpoint)
    await victim.register()
    for more in ({"key": OTHER}, {"key": ""}, {"key": OTHER, "token": TWO}):
        thief = an_agent(endpoint, **more)
        await thief.register(instance_arn=victim.arn)
        assert thief.arn != victim.arn
    assert await victim.poll(after=0) is not None
    raw = RawAgent(endpoint, key=Key(TOKEN))
    raw.arn = victim.arn
    with pytest.raises(ApiFailure, match="does not come from the host"):
        await raw.register()


async def test_a_host_keeps_its_instance(endpoint: Endpoint) -> None:
    """Also with an older copy of its state, and with none at all, and as an older agent."""
    first = an_agent(endpoint, **MACHINE)
    await first.register()
    restarted = an_agent(endpoint, client_token=first.info["client_token"], **MACHINE)
    older_copy = an_agent(endpoint, key=OTHER, client_token=first.info["client_token"])
    lost = an_agent(endpoint, key="l" * 64, **MACHINE)
    downgraded = an_agent(endpoint, key="", **MACHINE)
    for agent, identity in (
        (restarted, "key"),
        (older_copy, "key"),
        (lost, "key"),
        (downgraded, None),
        (restarted, "key"),
    ):
        await agent.register(instance_arn=first.arn if agent is not lost else "")
        assert agent.arn == first.arn
        assert await agent.poll(after=0) is not None
        assert await identity_of(endpoint, first.arn) == identity


async def test_the_first_call_after_an_upgrade_binds(endpoint: Endpoint) -> None:
    older = an_agent(endpoint, key="")
    await older.register()
    assert await older.poll(after=0) is not None
    assert await identity_of(endpoint, older.arn) is None
    newer = an_agent(endpoint)
    newer.arn, newer.generation = older.arn, older.generation
    assert await newer.poll(after=0) is not None
    assert await identity_of(endpoint, older.arn) == "key"
    assert (await older.send("GET", f"/v1/instances/{older.id}/assignments"))[0] == 404


async def test_the_key_is_not_kept(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await an_agent(endpoint).register()
    for file in tmp_path.iterdir():
        if file.is_file():
            assert KEY.encode() not in file.read_bytes()


async def test_a_token_with_a_name_is_for_one_instance(endpoint: Endpoint) -> None:
    host = an_agent(endpoint, token=ONE)
    await host.register()
    # Its token alone is not enough to be the host, nor is it good for a second one at the same time.
    copy = an_agent(endpoint, token=ONE, key=OTHER)
    copy.info["resources"] = copy.info["resources"].__class__(
        cpu_units=1, memory_mib=1, boot_id="another"
    )
    status, said = await copy.send("POST", "/v1/instances", _register(copy))
    assert (status, b"does not come from the host" in said) == (404, True)
    assert (await copy.send("GET", f"/v1/instances/{host.id}/assignments", generation=1))[0] == 404
    # A host that lost its state is the same again, because nobody else has its token.
    lost = an_agent(endpoint, token=NEXT, key="l" * 64)
    await lost.register()
    assert lost.arn == host.arn
    # After it left, the name is free.
    assert (await lost.send("DELETE", f"/v1/instances/{lost.id}"))[0] == 204
    await copy.register()
    assert copy.arn != host.arn


def _register(agent: ScriptedAgent) -> Any:
    from agent.model.wire import Register  # noqa: PLC0415

    return Register(**agent.info)


async def test_no_call_of_amazons_wire_speaks_for_another_host(endpoint: Endpoint) -> None:
    victim, thief = RawAgent(endpoint, key=Key(ONE)), RawAgent(endpoint, key=Key(TWO))
    await victim.register()
    (task,) = await run_task(endpoint)
    await thief.register()
    assert thief.arn != victim.arn
    assert await identity_of(endpoint, victim.arn) == "token"
    shared = RawAgent(endpoint, key=Key(TOKEN))
    await shared.register()
    assert await identity_of(endpoint, shared.arn) == "shared-token"
    for sender in (thief, shared):
        own, sender.arn = sender.arn, victim.arn
        with pytest.raises(ApiFailure, match="does not come from the host") as caught:
            await sender.submit(task, "STOPPED")
        assert caught.value.name == "InvalidParameterException"
        with pytest.raises(ApiFailure, match="does not come from the host"):
            await sender.call(
                "SubmitContainerStateChange", task=task, containerName="main", status="STOPPED"
            )
        with pytest.raises(ApiFailure, match="does not come from the host"):
            await sender.register()
        for session in (sender.acs, sender.tcs):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with session():
                    pass
            assert refused.value.status == 403
        sender.arn = own
    assert (await endpoint.task(task))["lastStatus"] != "STOPPED"
    async with victim.acs() as orders:
        await orders.settled()
    await victim.submit(task, "RUNNING")
    assert (await endpoint.task(task))["lastStatus"] == "RUNNING"
    # The token may be replaced by another one of the same host.
    moved = RawAgent(endpoint, key=Key(NEXT))
    moved.arn = victim.arn
    await moved.register()
    await moved.submit(task, "STOPPED")
    assert (await endpoint.task(task))["lastStatus"] == "STOPPED"
    assert (await refusals(endpoint))["amazon"] == 2 * 5


async def test_amazons_wire_does_not_speak_for_hosts_of_the_long_poll(endpoint: Endpoint) -> None:
    host, raw = an_agent(endpoint), RawAgent(endpoint, key=Key(TOKEN))
    await host.register()
    answer = await endpoint.call("RunTask", taskDefinition="web")
    task = answer["tasks"][0]["taskArn"]
    await raw.register()
    with pytest.raises(ApiFailure, match="does not come from the host"):
        await raw.submit(task, "STOPPED")
    # Nor the other way round.
    thief = an_agent(endpoint, key=OTHER)
    thief.arn, thief.generation = raw.arn, 1
    assert (await thief.send("GET", f"/v1/instances/{thief.id}/assignments"))[0] == 404
    await thief.register(instance_arn=raw.arn)
    assert thief.arn != raw.arn


async def test_an_agent_drains_and_asks_about_its_own_host_alone(tmp_path: Path) -> None:
    from tests.support.fleet import free_port  # noqa: PLC0415

    at = f"127.0.0.1:{free_port()}"
    file = token_file(tmp_path, TOKEN, f"{ONE} a", f"{TWO} b")
    async with control_endpoint(tmp_path / "data", token_file=file, agent_listen=(at,)) as endpoint:
        victim = RawAgent(endpoint, url=f"http://{at}", key=Key(ONE))
        thief = RawAgent(endpoint, url=f"http://{at}", key=Key(TWO))
        await victim.register()
        (task,) = await run_task(endpoint)
        await thief.register()
        for named in (victim.arn, victim.arn.rsplit("/", 1)[1]):
            with pytest.raises(ApiFailure, match="does not come from the host") as caught:
                await thief.call(
                    "UpdateContainerInstancesState", containerInstances=[named], status="DRAINING"
                )
            assert caught.value.name == "AccessDeniedException"
        for resource in (victim.arn, task):
            with pytest.raises(ApiFailure, match="does not come from the host"):
                await thief.call("ListTagsForResource", resourceArn=resource)
            await victim.call("ListTagsForResource", resourceArn=resource)
        await thief.call("ListTagsForResource", resourceArn=thief.arn)
        await victim.call(
            "UpdateContainerInstancesState", containerInstances=[victim.arn], status="DRAINING"
        )


async def test_a_connection_ends_when_its_instance_is_bound_to_another_host(
    endpoint: Endpoint,
) -> None:
    raw = RawAgent(endpoint, key=Key(TOKEN))
    await raw.register(clientToken="of-this-host")
    async with raw.acs() as orders:
        await orders.settled()
        # The same host begins to use the long poll; its client token proves it.
        newer = an_agent(endpoint, client_token="of-this-host")
        await newer.register(instance_arn=raw.arn)
        assert newer.arn == raw.arn
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await orders.ended()
        assert orders.ws.closed
    assert await newer.poll(after=0) is not None
