"""What all integration tests share: a real engine, an image, and the leak check."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import docker
import pytest
from docker.errors import DockerException

from agent.runtime.docker import DockerEngine
from tests.support import forked, images, leaks
from tests.support.leaks import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

DOCKER_HOST = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")


@pytest.fixture(scope="session", autouse=True)
def forking() -> Iterator[None]:
    """Fork agents and controls, which would take a second each to import what they run."""
    with forked.parents():
        yield


@pytest.fixture(scope="session")
def sdk() -> Iterator[docker.APIClient]:
    """The plain SDK client: how tests look at the engine behind the agent's back."""
    if os.geteuid() != 0:
        pytest.fail("integration tests need root: run them with sudo", pytrace=False)
    try:
        client = docker.APIClient(base_url=DOCKER_HOST, version="auto")
    except DockerException as error:
        pytest.fail(
            f"integration tests need a Docker Engine at {DOCKER_HOST} ({error}); start one "
            "(systemctl start docker) or set DOCKER_HOST",
            pytrace=False,
        )
    yield client
    client.close()


@pytest.fixture
async def engine(sdk: docker.APIClient) -> AsyncIterator[DockerEngine]:
    """A connected engine, closed afterwards. ``sdk`` has made sure that there is one."""
    del sdk
    engine = DockerEngine(DOCKER_HOST)
    await engine.connect()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def busybox_image(sdk: docker.APIClient) -> str:
    """Reference of an image with busybox (see ``tests.support.images.busybox``)."""
    return images.busybox(sdk)


@pytest.fixture
def leak_check(sdk: docker.APIClient, tmp_path: Path) -> Iterator[None]:
    """Fail the test if it leaves anything on the host.

    Name it before the fixtures that clean up: fixtures end in reverse order.
    """
    del sdk
    before = HostSnapshot.take()
    yield
    left = before.wait_until_clean(agents=tmp_path)
    if left:
        if "OWN_HOST" in os.environ:
            leaks.clean(left)
        pytest.fail("left behind on the host:\n  " + "\n  ".join(left), pytrace=False)


class Containers:
    """Makes containers for one test and removes them all."""

    def __init__(self, engine: DockerEngine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._made: list[str] = []

    async def create(self, command: list[str] | None = None, *, name: str = "", **body: Any) -> str:
        """Create a container that lingers until it is stopped; return its id."""
        made = await self._engine.create_container(
            name or f"ecs-host-agent-test-{uuid4().hex[:12]}",
            {"Image": self._image, "Cmd": command or images.LINGER, **body},
        )
        self._made.append(made)
        return made

    async def run(self, command: list[str] | None = None, **body: Any) -> str:
        """Create and start a container; without a network unless the body names one."""
        body.setdefault("HostConfig", {"NetworkMode": "none"})
        made = await self.create(command, **body)
        await self._engine.start_container(made)
        return made

    async def remove_all(self) -> None:
        """Remove every container made here."""
        for made in self._made:
            await self._engine.remove_container(made, force=True)


@pytest.fixture
async def containers(engine: DockerEngine, busybox_image: str) -> AsyncIterator[Containers]:
    """Containers of busybox that end with the test."""
    made = Containers(engine, busybox_image)
    yield made
    await made.remove_all()
