"""A view that was followed for long says the same as one that was read just now."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane import host_ports, records
from agent.controlplane.monitoring import targets
from agent.controlplane.monitoring.fleet_view import FleetView
from agent.controlplane.records import (
    AliveRecord,
    AttributeRecord,
    ContainerRecord,
    InstanceRecord,
    TaskDefinitionRecord,
    TaskRecord,
)
from agent.controlplane.store.contract import Delete, Op, Put, StoreUnavailable
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.resources import HostResources
from agent.model.task import NetworkBinding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CLUSTERS = ("one", "two")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(tmp_path / "control.db")
    await opened.txn([], [definition(revision) for revision in range(4)])
    yield opened
    await opened.close()


def definition(revision: int) -> Put:
    """Revisions with an odd number are scraped."""
    labels = {"ECS_PROMETHEUS_EXPORTER_PORT": "9100"} if revision % 2 else {}
    body = {"containerDefinitions": [{"name": "main", "image": "i", "dockerLabels": labels}]}
    record = TaskDefinitionRecord(
        arn=f"arn:d:{revision}", family="web", revision=revision, definition=body
    )
    return Put(records.task_definition_key("web", revision), records.encode(record))


def an_instance(dice: random.Random, number: int) -> Put:
    cluster, name = CLUSTERS[number % 2], f"i{number}"
    address = f"192.0.2.{dice.randint(1, 9)}"
    attributes = {host_ports.HOST_ADDRESS: address, targets.METRICS_ADDRESS: f"{address}:51680"}
    given = attributes if dice.random() < 0.8 else {}
    record = InstanceRecord(
        id=name,
        arn=f"arn:{name}",
        cluster=cluster,
        client_token=name,
        status=dice.choice(["ACTIVE", "ACTIVE", "DRAINING", "INACTIVE"]),
        resources=HostResources(cpu_units=1000, memory_mib=4096),
        attributes={key: AttributeRecord(value=value) for key, value in given.items()},
    )
    return Put(records.instance_key(cluster, name), records.encode(record))


def a_task(dice: random.Random, number: int) -> Put:
    cluster, name = CLUSTERS[number % 2], f"t{number}"
    revision = number % 4
    status = dice.choice(["PENDING", "RUNNING", "RUNNING", "STOPPED"])
    bindings = [NetworkBinding(container_port=9100, host_port=dice.randint(1, 3))]
    record = TaskRecord(
        id=name,
        arn=f"arn:aws:ecs:r:0:task/{cluster}/{name}",
        cluster=cluster,
        task_definition_arn=f"arn:d:{revision}",
        family="web",
        revision=revision,
        instance_id=f"i{number % 4}",
        last_status=status,
        containers=[
            ContainerRecord(name="main", arn="c", last_status=status, network_bindings=bindings)
        ],
    )
    return Put(records.task_key(cluster, name), records.encode(record))


def an_op(dice: random.Random, lease: int) -> Op:
    match dice.randrange(6):
        case 0:
            return an_instance(dice, dice.randrange(4))
        case 1:
            key = an_instance(dice, dice.randrange(4)).key
            return Delete(key) if dice.random() < 0.5 else Put(key, b"{")
        case 2:
            alive = records.encode(AliveRecord(generation=1))
            return Put(records.alive_key(f"i{dice.randrange(4)}"), alive, lease)
        case 3:
            key = a_task(dice, dice.randrange(12)).key
            return Delete(key) if dice.random() < 0.5 else Put(key, b"{")
        case _:
            return a_task(dice, dice.randrange(12))


async def told(view: FleetView) -> tuple[Any, ...]:
    documents = [
        sorted(map(str, json.loads(document)))
        for document in (
            await view.task_targets(),
            await view.task_targets("one"),
            await view.agent_targets(),
            await view.agent_targets("two"),
        )
    ]
    return (await view.counts(), *documents)


@pytest.mark.parametrize("seed", range(3))
async def test_following_is_reading(store: SqliteStore, seed: int) -> None:
    dice = random.Random(seed)
    followed = FleetView(store, "r")
    lease = await store.grant_lease(60)
    seen = 0
    for step in range(120):
        await store.txn([], [an_op(dice, lease)])
        if dice.random() < 0.03:
            await store.compact(store.revision)
        if dice.random() < 0.3:
            said = await told(followed)
            assert said == await told(FleetView(store, "r")), f"step {step}"
            seen += len(said[1])
    assert seen, "some tasks were listed"
    state = await followed._state()
    assert state._definitions.keys() == {
        key for key, one in state._states.items() if one.status != "STOPPED"
    }
    assert sum(state._uses.values()) == len(state._definitions)
    assert set().union(*state._by_instance.values()) == state._listed.keys()


async def test_a_host_that_says_where_it_is_makes_its_tasks_reachable(store: SqliteStore) -> None:
    dice = random.Random(2)
    view = FleetView(store, "r")
    while b'"lastStatus":"RUNNING"' not in (task := a_task(dice, 1)).value:
        pass
    await store.txn([], [task])
    assert json.loads(await view.task_targets()) == []
    assert (await view.counts()).lost_targets == 1
    while b"192.0.2" not in (put := an_instance(dice, 1)).value:
        pass
    await store.txn([], [put])
    (target,) = json.loads(await view.task_targets("two"))
    assert target["targets"][0].startswith("192.0.2.")
    assert (await view.counts())[2:] == (1, 0)


async def test_a_store_that_fails_is_read_anew_later(store: SqliteStore) -> None:
    view = FleetView(store, "r")
    await view.counts()
    await store.txn([], [Put("/x", b"")])
    await store.close()
    with pytest.raises(StoreUnavailable):
        await view.counts()
