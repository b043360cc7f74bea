"""A full disk under control: calls name it, tasks can be stopped, and it heals by itself."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.control_endpoint import (
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

COPIES = 8


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
async def endpoint(small_disk: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(small_disk) as running:
        yield running


async def health(endpoint: Endpoint) -> tuple[int, str]:
    async with endpoint.session.get(f"{endpoint.url}/healthz") as answer:
        return answer.status, await answer.text()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:  # noqa: PT012 - which write fails is not known
        while True:
            file.write(b"x" * 65536)
            file.flush()
    return filler


async def register_many(endpoint: Endpoint) -> None:
    container = {"name": "main", "image": "i", "memory": 8, "dockerLabels": {"x": "x" * 30_000}}
    for number in range(200):
        await endpoint.call(
            "RegisterTaskDefinition",
            **definition(family=f"f{number}", containerDefinitions=[container]),
        )


async def test_stops_and_reports_go_on_and_the_rest_names_the_disk(
    endpoint: Endpoint, small_disk: Path
) -> None:
    agent = ScriptedAgent(endpoint)
    await agent.register()
    await endpoint.call("RegisterTaskDefinition", **definition())
    made = await endpoint.call("RunTask", taskDefinition="web", count=COPIES)
    arns = [task["taskArn"] for task in made["tasks"]]
    assert len(arns) == COPIES
    assert await health(endpoint) == (200, "ok\n")
    filler = fill(small_disk)
    with pytest.raises(ApiFailure) as caught:
        await register_many(endpoint)
    assert caught.value.name == "ServerException"
    assert f"the disk of {small_disk}/control.db is full: free some space" in caught.value.message
    status, text = await health(endpoint)
    assert (status, "is full" in text) == (503, True)
    for arn in arns:
        await agent.report(a_report(arn, "RUNNING"))
        assert (await endpoint.call("StopTask", task=arn))["task"]["desiredStatus"] == "STOPPED"
        await agent.report(a_report(arn, "STOPPED"))
        assert (await endpoint.task(arn))["lastStatus"] == "STOPPED"
    # The space that is kept for this is for nothing else.
    with pytest.raises(ApiFailure, match="is full"):
        await endpoint.call("RunTask", taskDefinition="web")
    # An agent that starts anew is let in.
    await agent.register()
    filler.unlink()
    async with asyncio.timeout(15):
        while (await health(endpoint))[0] != 200:  # noqa: ASYNC110 - nobody tells when a disk has room
            await asyncio.sleep(0.2)
    assert len((await endpoint.call("RunTask", taskDefinition="web"))["tasks"]) == 1
