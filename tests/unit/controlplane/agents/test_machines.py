"""A host that lost its state is the same instance again, and nobody else is let in as it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tests.support.control_endpoint import ScriptedAgent, control_endpoint, definition

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

MACHINE = {"machine_id": "m" * 32, "machine_key": "k" * 64}


def an_agent(endpoint: Endpoint, *, boot: str = "boot-1", **more: Any) -> ScriptedAgent:
    agent = ScriptedAgent(endpoint, **(MACHINE | more))
    agent.info["resources"] = replace(agent.info["resources"], boot_id=boot)
    return agent


async def instances(endpoint: Endpoint) -> list[str]:
    answer = await endpoint.call("ListContainerInstances")
    return [str(arn) for arn in answer["containerInstanceArns"]]


async def test_the_same_machine_and_key_are_the_same_instance(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        before = an_agent(endpoint)
        await before.register()
        await endpoint.call("RegisterTaskDefinition", **definition())
        answer = await endpoint.call("RunTask", taskDefinition="web")
        task = answer["tasks"][0]["taskArn"]
        await before.poll(after=0)
        after = an_agent(endpoint)
        assert after.info["client_token"] != before.info["client_token"]
        await after.register()
        assert (after.arn, after.generation) == (before.arn, 2)
        assert await instances(endpoint) == [before.arn]
        # What it ran is ordered again, in a set that is full.
        orders = await after.poll(after=0)
        assert orders is not None
        assert (orders.full, [t.task_arn for t in orders.tasks]) == (True, [task])
        # From now on its new token is the one that counts, and the old registration is over.
        again = ScriptedAgent(endpoint, client_token=after.info["client_token"])
        await again.register()
        assert again.arn == before.arn
        assert (await before.send("GET", f"/v1/instances/{before.id}/assignments?after=0"))[
            0
        ] == 409


@pytest.mark.parametrize(
    "other",
    [
        {"machine_key": "another"},
        {"machine_id": "another"},
        {"machine_key": ""},
        {"machine_id": "", "machine_key": ""},
    ],
)
async def test_another_key_is_not_let_in(tmp_path: Path, other: dict[str, str]) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        first = an_agent(endpoint)
        await first.register()
        stranger = an_agent(endpoint, **other)
        await stranger.register()
        assert stranger.arn != first.arn
        # Not by the name of the instance either, which is not a secret.
        stranger = an_agent(endpoint, **other)
        await stranger.register(instance_arn=first.arn)
        assert stranger.arn != first.arn
        # And the first one keeps what it had.
        assert (await first.send("GET", f"/v1/instances/{first.id}/assignments?after=0"))[0] == 200
        lost = an_agent(endpoint)
        await lost.register()
        assert lost.arn == first.arn


async def test_an_instance_of_which_no_machine_is_known_is_found_by_its_arn(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        older = ScriptedAgent(endpoint)
        await older.register()
        newer = an_agent(endpoint)
        await newer.register(instance_arn=older.arn)
        assert newer.arn == older.arn
        lost = an_agent(endpoint)
        await lost.register()
        assert lost.arn == older.arn


async def test_a_copied_host_is_another_instance_while_the_first_is_there(tmp_path: Path) -> None:
    """Two hosts with one machine id, as made by those who copy disks: neither ends the other."""
    async with control_endpoint(tmp_path) as endpoint:
        first = an_agent(endpoint)
        await first.register()
        copy = an_agent(endpoint, boot="boot-2")
        await copy.register()
        assert copy.arn != first.arn
        assert (await first.send("GET", f"/v1/instances/{first.id}/assignments?after=0"))[0] == 200


async def test_after_a_boot_it_is_the_same(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, lease_s=0.3) as endpoint:
        first = an_agent(endpoint)
        await first.register()

        async def is_away() -> bool:
            answer = await endpoint.call(
                "DescribeContainerInstances", containerInstances=[first.arn]
            )
            return not answer["containerInstances"][0]["agentConnected"]

        while not await is_away():
            pass
        booted = an_agent(endpoint, boot="boot-2")
        await booted.register()
        assert booted.arn == first.arn


async def test_a_deregistered_instance_stays_so(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        first = an_agent(endpoint)
        await first.register()
        await endpoint.call("DeregisterContainerInstance", containerInstance=first.arn)
        again = an_agent(endpoint)
        await again.register()
        assert again.arn != first.arn


async def test_another_cluster_knows_nothing_of_it(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        first = an_agent(endpoint)
        await first.register()
        await endpoint.call("CreateCluster", clusterName="other")
        moved = an_agent(endpoint, cluster="other")
        await moved.register()
        assert moved.arn != first.arn
        assert "/other/" in moved.arn


async def test_the_key_is_not_kept(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        await an_agent(endpoint).register()
    for file in tmp_path.iterdir():
        if file.is_file():
            assert MACHINE["machine_key"].encode() not in file.read_bytes()
