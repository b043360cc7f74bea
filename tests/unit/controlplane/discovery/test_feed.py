"""What hosts are told of names: with every history, each host knows in the end what there is."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import records
from agent.controlplane.api.servicediscovery import operations
from agent.controlplane.discovery import feed
from agent.controlplane.discovery import record as kinds
from agent.controlplane.discovery.feed import NamesOfHosts
from agent.controlplane.discovery.record import AliasRecord
from agent.controlplane.parts import Parts
from agent.controlplane.store.contract import Delete, Put
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.names import Alias, NamedInstance, NameUpdates, TaskName
from tests.support.control_endpoint import ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CALLS = operations.handlers()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield Parts(store=store)
    await store.close()


async def call(parts: Parts, operation: str, **request: Any) -> dict[str, Any]:
    return await CALLS[operation](parts, request)


async def namespace(parts: Parts, name: str = "shop.internal") -> str:
    done = await call(parts, "CreatePrivateDnsNamespace", Name=name, Vpc="v")
    told = await call(parts, "GetOperation", OperationId=done["OperationId"])
    found: str = told["Operation"]["Targets"]["NAMESPACE"]
    return found


async def registry(parts: Parts, in_: str, name: str = "web", **more: Any) -> str:
    request = {
        "Name": name,
        "NamespaceId": in_,
        "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 7}]},
        "HealthCheckCustomConfig": {"FailureThreshold": 1},
    }
    made = await call(parts, "CreateService", **(request | more))
    found: str = made["Service"]["Id"]
    return found


async def register(parts: Parts, id_: str, name: str, **more: str) -> None:
    attributes = {"AWS_INSTANCE_IPV4": f"10.0.0.{int(name)}"} | more
    request = {"ServiceId": id_, "InstanceId": name, "Attributes": attributes}
    await call(parts, "RegisterInstance", **request)


class HostView:
    """What one host knows, told by the feed alone."""

    def __init__(self, names: NamesOfHosts) -> None:
        self._names = names
        self._after = 0
        self.zones: dict[str, int] = {}
        self.known: dict[str, TaskName] = {}
        self.aliases: dict[tuple[str, str], Alias] = {}

    async def poll(self, revision: int) -> NameUpdates | None:
        """Ask once; ``revision`` is that of the store before."""
        update = await self._names.updates(self._after)
        self._after = revision
        if update is None:
            return None
        if update.full:
            self.known.clear()
            self.aliases.clear()
        for gone in update.gone:
            self.known.pop(gone, None)
        for of in update.gone_aliases:
            self.aliases.pop(of, None)
        self.zones = update.zones
        self.known |= {one.name: one for one in update.names}
        self.aliases |= {(one.namespace, one.name): one for one in update.aliases}
        return update


async def test_what_a_host_is_told(parts: Parts) -> None:
    names = NamesOfHosts(parts.store, lambda: None)
    host = HostView(names)
    first = await host.poll(parts.store.revision)
    assert first == NameUpdates(full=True), "a host may know names of an earlier store"
    assert await host.poll(parts.store.revision) is None
    space = await namespace(parts)
    id_ = await registry(parts, space)
    await register(parts, id_, "1", AWS_INSTANCE_PORT="80")
    await register(parts, id_, "2", AWS_INIT_HEALTH_STATUS="UNHEALTHY")
    update = await host.poll(parts.store.revision)
    healthy = NamedInstance(id="1", ipv4="10.0.0.1", port=80)
    web = TaskName(name="web.shop.internal", ttls={"A": 7}, instances=(healthy,))
    assert update == NameUpdates(zones={"shop.internal": 15}, names=[web])
    # Nothing of DNS has changed.
    plain = {"Name": "plain", "NamespaceId": space, "Type": "HTTP"}
    http = (await call(parts, "CreateService", **plain))["Service"]["Id"]
    await call(parts, "RegisterInstance", ServiceId=http, InstanceId="1", Attributes={})
    assert await host.poll(parts.store.revision) is None
    change = {"ServiceId": id_, "InstanceId": "1", "Status": "UNHEALTHY"}
    await call(parts, "UpdateInstanceCustomHealthStatus", **change)
    await host.poll(parts.store.revision)
    assert len(host.known["web.shop.internal"].instances) == 2, "all, because none is healthy"
    for each in ("1", "2"):
        await call(parts, "DeregisterInstance", ServiceId=id_, InstanceId=each)
    await call(parts, "DeleteService", Id=id_)
    update = await host.poll(parts.store.revision)
    assert update == NameUpdates(zones={"shop.internal": 15}, gone=["web.shop.internal"])


@pytest.mark.parametrize("seed", range(4))
async def test_every_host_knows_what_there_is(
    parts: Parts, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "GONE_MOST", 2)
    rng = random.Random(seed)
    spaces = [await namespace(parts, name) for name in ("a.internal", "b.internal")]
    names = NamesOfHosts(parts.store, lambda: None)
    hosts = [HostView(names) for _ in range(3)]
    there: dict[str, set[str]] = {}
    for step in range(60):
        match rng.choice(("registry", "register", "register", "health", "leave", "delete")):
            case "registry":
                there[await registry(parts, rng.choice(spaces), f"n{step}")] = set()
            case "register" if there:
                id_, instance = rng.choice([*there]), str(rng.randrange(9))
                await register(parts, id_, instance)
                there[id_].add(instance)
            case "health" | "leave" as what if full := [one for one in there if there[one]]:
                id_ = rng.choice(full)
                which = {"ServiceId": id_, "InstanceId": rng.choice(sorted(there[id_]))}
                if what == "leave":
                    await call(parts, "DeregisterInstance", **which)
                    there[id_].discard(which["InstanceId"])
                else:
                    status = rng.choice(("HEALTHY", "UNHEALTHY"))
                    await call(parts, "UpdateInstanceCustomHealthStatus", **which, Status=status)
            case "delete" if empty := [one for one in there if not there[one]]:
                id_ = rng.choice(empty)
                await call(parts, "DeleteService", Id=id_)
                del there[id_]
        for host in hosts:
            if rng.random() < 0.3:
                await host.poll(parts.store.revision)
    fresh = HostView(NamesOfHosts(parts.store, lambda: None))
    await fresh.poll(parts.store.revision)
    assert len(fresh.known) == len(there)
    for host in hosts:
        await host.poll(parts.store.revision)
        assert (host.known, host.zones) == (fresh.known, fresh.zones)


@pytest.mark.parametrize("seed", range(4))
async def test_every_host_knows_the_aliases_there_are(
    parts: Parts, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "GONE_MOST", 2)
    rng = random.Random(seed)
    space = await namespace(parts)
    ids = [await registry(parts, space, f"n{number}") for number in range(3)]
    names = NamesOfHosts(parts.store, lambda: None)
    hosts = [HostView(names) for _ in range(3)]
    store = parts.store
    for _ in range(60):
        key = kinds.alias_key(rng.choice(("ns-a", "ns-b")), rng.choice("abcdef"))
        match rng.choice(("put", "put", "delete", "register", "leave")):
            case "put":
                chosen = rng.sample(ids, rng.randrange(1, 3))
                alias = AliasRecord(ecs_service="x", registries=chosen)
                await store.txn([], [Put(key, records.encode(alias))])
            case "delete":
                await store.txn([], [Delete(key)])
            case "register":
                health = rng.choice(("HEALTHY", "UNHEALTHY"))
                number = str(rng.randrange(9))
                await register(parts, rng.choice(ids), number, AWS_INIT_HEALTH_STATUS=health)
            case "leave":
                id_ = rng.choice(ids)
                there = (await store.range(kinds.instances_prefix(id_))).items
                for kv in there[:1]:
                    which = kv.key.rpartition("/")[2]
                    await call(parts, "DeregisterInstance", ServiceId=id_, InstanceId=which)
        for host in hosts:
            if rng.random() < 0.3:
                await host.poll(store.revision)
    fresh = HostView(NamesOfHosts(store, lambda: None))
    await fresh.poll(store.revision)
    assert len(fresh.aliases) == len((await store.range(kinds.ALIASES)).items)
    for host in hosts:
        await host.poll(store.revision)
        assert (host.known, host.aliases) == (fresh.known, fresh.aliases)


async def test_a_held_poll_is_answered_when_a_name_changes(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")
        agent = ScriptedAgent(endpoint)
        await agent.register()
        answer = await agent.poll()
        assert answer is not None
        assert answer.names == NameUpdates(full=True)
        held = asyncio.create_task(agent.poll(wait_s=20))
        scope = "Credential=x/20260101/us-east-1/servicediscovery/aws4_request"
        async with endpoint.session.post(
            endpoint.url,
            json={"Name": "shop.internal", "Vpc": "v"},
            headers={
                "X-Amz-Target": "Route53AutoNaming_v20170314.CreatePrivateDnsNamespace",
                "Content-Type": "application/x-amz-json-1.1",
                "Authorization": f"AWS4-HMAC-SHA256 {scope}",
            },
        ) as made:
            assert made.status == 200, await made.text()
        answer = await held
        while answer is None or answer.names is None or not answer.names.zones:
            answer = await agent.poll(wait_s=20)
        assert answer.names.zones == {"shop.internal": 15}
