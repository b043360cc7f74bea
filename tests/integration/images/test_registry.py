"""Pulls from Debian's docker-registry: plain, TLS and password; single flight, turns and mirrors."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from agent.config.values import SecretText
from agent.errors import PayloadError
from agent.images import Images, Obtained, Progress, PullLimits
from agent.images.auth import Credentials
from agent.images.logins import RegistryLogins
from agent.model.payload import Container
from tests.support import docker_registry
from tests.support import images as test_images
from tests.support.docker_registry import PASSWORD, USER
from tests.support.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import docker

    from agent.runtime.docker import DockerEngine

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]


def container(image: str, **fields: Any) -> Container:
    return Container(name="c", image=image, **fields)


def build(sdk: Any, content: bytes) -> str:
    """An image of one small file, unlike any other."""
    name = f"pulled-{uuid4().hex[:12]}"
    return test_images.build(sdk, name, {"bin/content": content + uuid4().bytes}, {}, config={})


@pytest.fixture
def cleared(sdk: docker.APIClient) -> Iterator[None]:
    """Remove the images that a test leaves in the engine."""
    client: Any = sdk
    before = {row["Id"] for row in client.images()}
    yield
    for row in client.images():
        if row["Id"] not in before:
            client.remove_image(row["Id"], force=True)


@pytest.mark.parametrize(
    ("tls", "password"),
    [(False, False), (True, False), (False, True), (True, True)],
    ids=["plain", "tls", "login", "tls and login"],
)
@pytest.mark.usefixtures("cleared")
async def test_twenty_tasks_of_one_image_make_one_pull(
    engine: DockerEngine, sdk: Any, tmp_path: Path, tls: bool, password: bool
) -> None:
    with docker_registry.running(tmp_path, tls=tls, password=password) as registry:
        made = build(sdk, b"one")
        name = await asyncio.to_thread(registry.push, sdk, made, "shop/web:1", login=password)
        for each in (name, made):
            await engine.remove_image(each)
        login = json.dumps({registry.host: {"username": USER, "password": PASSWORD}})
        if password and not tls:
            # From the loopback, the engine tries plain HTTP after a refusal, and shows that failure.
            without = Images(engine)
            with pytest.raises(PayloadError, match="no basic auth credentials") as info:
                await without.ensure(container(name))
            assert info.value.name == "CannotPullContainerError"
            await without.close()
        pulls = Counting(engine)
        images = Images(
            pulls.engine,
            logins=RegistryLogins(Credentials("docker", SecretText(login) if password else None)),
        )
        got = await asyncio.gather(*(images.ensure(container(name)) for _ in range(20)))
        assert len(set(got)) == 1
        assert got[0].digest.startswith("sha256:")
        assert pulls.names == [f"{name.removesuffix(':1')}@{got[0].digest}"]
        assert await images.ensure(container(name)) == got[0]
        assert len(pulls.names) == 1
        await images.close()


@pytest.mark.usefixtures("cleared")
async def test_forty_tasks_of_ten_images_keep_the_limit(
    engine: DockerEngine, sdk: Any, tmp_path: Path
) -> None:
    with docker_registry.running(tmp_path) as registry:
        names = []
        for number in range(10):
            made = build(sdk, b"many")
            names.append(await asyncio.to_thread(registry.push, sdk, made, f"shop/image{number}:1"))
            await engine.remove_image(names[-1])
            await engine.remove_image(made)
        pulls = Counting(engine)
        images = Images(pulls.engine, limits=PullLimits(side_by_side=3))
        told: list[Progress] = []
        tasks = [
            images.ensure(container(name), on_progress=told.append)
            for _ in range(4)
            for name in names
        ]
        got = await asyncio.gather(*tasks)
        assert all(obtained.digest for obtained in got)
        assert len(pulls.names) == 10
        assert pulls.most == 3
        assert any("waiting for a turn" in progress.line for progress in told)
        await images.close()


class Counting:
    """Notes the pulls that reach an engine, and how many run side by side."""

    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.names: list[str] = []
        self.most = 0
        self._running = 0
        pull = engine.pull_image

        async def counted(reference: str, **options: Any) -> int:
            self.names.append(reference)
            self._running += 1
            self.most = max(self.most, self._running)
            try:
                return await pull(reference, **options)
            finally:
                self._running -= 1

        engine.pull_image = counted  # type: ignore[method-assign]


class Pair:
    """A registry and its mirror, both with the same image."""

    def __init__(self, sdk: Any, own: Registry, mirror: Registry) -> None:
        self.own, self.mirror = own, mirror
        self.repository = f"test/{uuid4().hex[:12]}"
        self.name = f"{own.host}/{self.repository}:v1"
        content, architecture = uuid4().bytes, str(sdk.version()["Arch"])
        self.digest = own.push(self.repository, "v1", content, architecture=architecture)
        mirrored = mirror.push(f"hub/{self.repository}", "v1", content, architecture=architecture)
        assert mirrored == self.digest
        self.limits = PullLimits(mirrors={own.host: f"{mirror.host}/hub"}, manifest_s=2.0)


@pytest.fixture
async def pair(sdk: docker.APIClient, cleared: None) -> AsyncIterator[Pair]:
    del cleared
    async with Registry() as own, Registry() as mirror:
        yield Pair(sdk, own, mirror)


async def test_a_mirror_gives_the_image_under_its_own_name(
    pair: Pair, engine: DockerEngine
) -> None:
    images = Images(engine, limits=pair.limits)
    assert await images.ensure(container(pair.name)) == Obtained(pair.digest)
    assert pair.own.asked == []
    assert (await engine.inspect_image(pair.name)).id
    pair.mirror.asked.clear()
    assert await images.ensure(container(pair.name)) == Obtained(pair.digest)
    assert pair.mirror.layers_asked() == 0, "what is here is not pulled again"
    await images.close()


@pytest.mark.parametrize("fault", ["absent", "down", "broken"])
async def test_without_the_mirror_the_registry_gives_it(
    pair: Pair, engine: DockerEngine, fault: str
) -> None:
    if fault == "absent":
        pair.mirror.forget(f"hub/{pair.repository}")
    elif fault == "down":
        await pair.mirror.stop()
    else:
        pair.mirror.failures = 1000
    images = Images(engine, limits=pair.limits)
    assert await images.ensure(container(pair.name)) == Obtained(pair.digest)
    assert pair.own.layers_asked() == 1
    if fault != "absent":
        pair.mirror.asked.clear()
        assert await images.ensure(container(pair.name)) == Obtained(pair.digest)
        assert pair.mirror.asked == [], "a mirror that failed is left alone for a while"
    await images.close()


async def test_a_mirror_alone_gives_an_image_with_a_digest_in_its_name(
    pair: Pair, engine: DockerEngine
) -> None:
    await pair.own.stop()
    pinned = f"{pair.own.host}/{pair.repository}@{pair.digest}"
    there = f"{pair.mirror.host}/hub/{pair.repository}@{pair.digest}"
    images = Images(engine, limits=pair.limits)
    assert await images.ensure(container(pinned)) == Obtained("", there)
    made = await engine.create_container(f"ecs-host-agent-test-{uuid4().hex[:8]}", {"Image": there})
    await engine.remove_container(made)
    pair.mirror.asked.clear()
    assert await images.ensure(container(pinned)) == Obtained("", there)
    assert pair.mirror.asked == []
    await images.close()


async def test_a_mirror_never_gets_the_login_of_its_registry(
    pair: Pair, engine: DockerEngine
) -> None:
    pair.own.credentials = "user:canary-password"
    data = {pair.own.host: {"username": "user", "password": "canary-password"}}
    logins = RegistryLogins(Credentials("docker", SecretText(json.dumps(data))))
    pair.mirror.failures = 1000
    images = Images(engine, limits=pair.limits, logins=logins)
    assert await images.ensure(container(pair.name)) == Obtained(pair.digest)
    assert pair.mirror.asked
    assert pair.mirror.authorizations == {""}
    await images.close()


async def test_a_container_may_want_what_its_tag_names(pair: Pair, engine: DockerEngine) -> None:
    pulls = Counting(engine)
    images = Images(pulls.engine)
    wanted = container(pair.name, version_consistency="disabled")
    assert await images.ensure(wanted) == Obtained(pair.digest)
    assert pulls.names == [pair.name]
    await images.close()
