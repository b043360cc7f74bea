"""Real containers to sample, made behind the agent's back and removed afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from agent.metrics.targets import SampleTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker


class Running(NamedTuple):
    """A container that runs."""

    id: str
    pid: int

    def target(self, *, network: bool = True) -> SampleTarget:
        return SampleTarget(
            task_arn="arn/t1",
            name="app",
            runtime_id=self.id,
            pid=self.pid,
            network_pid=self.pid if network else 0,
        )


@pytest.fixture
def start(
    leak_check: None, sdk: docker.APIClient, busybox_image: str
) -> Iterator[Callable[..., Running]]:
    """Start ``busybox`` with a command and host configuration; return its id and pid."""
    del leak_check
    made: list[str] = []

    def begin(*command: str, **host_config: Any) -> Running:
        container = sdk.create_container(
            busybox_image,
            command=list(command),
            entrypoint=["/bin/busybox"],
            labels={"ecs-test": "metrics"},
            host_config=sdk.create_host_config(**host_config),
        )["Id"]
        made.append(container)
        sdk.start(container)
        return Running(container, sdk.inspect_container(container)["State"]["Pid"])

    yield begin
    for container in made:
        sdk.remove_container(container, force=True, v=True)


@pytest.fixture
def cgroup_parent() -> Iterator[str]:
    """Name a parent group; the engine makes it with the first container and leaves it behind.

    Name it before ``start``, so that it goes after the containers in it.
    """
    top = "ecs-test-metrics"
    yield f"/{top}/t1"
    for pattern in (f"{top}/t1", f"*/{top}/t1", top, f"*/{top}"):
        for group in Path("/sys/fs/cgroup").glob(pattern):
            group.rmdir()
