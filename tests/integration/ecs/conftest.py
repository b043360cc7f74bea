"""Agents with the test back end as their Amazon ECS: one that most tests share, and fresh ones."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import pytest

from tests.backend.backend import Backend
from tests.integration.ecs.host import Host, agent_of
from tests.support import images
from tests.support.leaks import HostSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

_indices = itertools.count(1)


@pytest.fixture(scope="session")
def ecs_image(sdk: docker.APIClient) -> str:
    """The image of every task here."""
    return images.busybox(sdk)


@pytest.fixture(scope="package")
def shared(ecs_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One agent for all tests that do it no harm, with a task that runs from first to last."""
    before = HostSnapshot.take()
    with Backend() as backend:
        directory = tmp_path_factory.mktemp("ecs")
        # It would make sandboxes while another test looks for what its own agent left behind.
        agent = agent_of(backend, directory, 0, ECS_WARM_SANDBOXES="0")
        host = Host(backend, agent, ecs_image)
        try:
            host.start()
            host.kept.append(host.run_task())
            yield host
        finally:
            host.end()
    left = before.wait_until_clean(agents=directory)
    assert not left, "left behind on the host:\n  " + "\n  ".join(left)


@pytest.fixture
def host(shared: Host, request: pytest.FixtureRequest) -> Iterator[Host]:
    """The shared agent. Whatever a test does, the kept task runs on and no rule is broken."""
    [kept] = shared.kept
    pid = shared.pid(kept)
    known = len(shared.backend.problems())
    failed = request.session.testsfailed
    yield shared
    shared.backend.api.script.clear()
    if request.session.testsfailed > failed:
        sys.stderr.write(f"--- {request.node.name}\n{shared.agent.tail()}\n")
    assert shared.agent.is_alive(), shared.agent.tail()
    assert shared.pid(kept) == pid
    assert shared.backend.problems()[known:] == []


@pytest.fixture
def fresh(ecs_image: str, tmp_path: Path, leak_check: None) -> Iterator[Callable[..., Host]]:
    """Make agents, each with its back end unless one is given; not started yet."""
    del leak_check
    made: list[Host] = []
    backends: list[Backend] = []

    def make(backend: Backend | None = None, **environment: str) -> Host:
        if backend is None:
            backend = Backend()
            backend.__enter__()
            backends.append(backend)
        agent = agent_of(backend, tmp_path, next(_indices), **environment)
        made.append(Host(backend, agent, ecs_image))
        return made[-1]

    try:
        yield make
        for host in made:
            assert host.backend.problems() == []
    except BaseException:
        for host in made:
            sys.stderr.write(f"--- {host.agent.name}\n{host.agent.tail()}\n")
        raise
    finally:
        for host in made:
            host.end()
        for backend in backends:
            backend.__exit__()
