"""Pulls by policy on a real engine from a registry on the loopback."""

# ruff: noqa: S105 - canaries, and no passwords
from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from agent.aws.registry_tokens import RegistryToken
from agent.config.values import SecretText
from agent.errors import AwsRefused, EngineUnavailable, PayloadError
from agent.images import ExecutionRole, Images, Obtained, Progress, PullLimits, images, retries
from agent.images.auth import Credentials
from agent.images.logins import RegistryLogins
from agent.model.payload import Container
from agent.model.payload import Credentials as RoleKeys
from tests.support.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import docker

    from agent.runtime.docker import DockerEngine

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]


class Scene:
    """A registry with one image, and whatever the engine has of it."""

    def __init__(self, engine: DockerEngine, sdk: Any, registry: Registry) -> None:
        self.engine = engine
        self.registry = registry
        self.repository = f"test/{uuid4().hex[:12]}"
        self._sdk = sdk
        self._architecture = str(sdk.version()["Arch"])
        self._opened: list[Images] = []
        self.digest = self.push(b"one")

    @property
    def name(self) -> str:
        return f"{self.registry.host}/{self.repository}:v1"

    def push(self, content: bytes) -> str:
        return self.registry.push(
            self.repository, "v1", content + uuid4().bytes, architecture=self._architecture
        )

    def images(self, behavior: str = "default", **options: Any) -> Images:
        made = Images(self.engine, behavior=behavior, **options)
        self._opened.append(made)
        return made

    def container(self, image: str = "") -> Container:
        return Container(name="c", image=image or self.name)

    async def digest_here(self) -> str:
        found = await self.engine.inspect_image(self.name)
        return found.repo_digests[0].partition("@")[2]

    async def close(self) -> None:
        for made in self._opened:
            await made.close()
        rows = await asyncio.to_thread(self._sdk.images)
        for row in rows:
            known = [*(row["RepoTags"] or ()), *(row["RepoDigests"] or ())]
            if any(self.repository in name for name in known):
                await asyncio.to_thread(self._sdk.remove_image, row["Id"], force=True)


@pytest.fixture
async def scene(engine: DockerEngine, sdk: docker.APIClient) -> AsyncIterator[Scene]:
    async with Registry() as registry:
        made = Scene(engine, sdk, registry)
        yield made
        await made.close()


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0.01)


async def test_default_pulls_what_is_missing_and_what_is_newer(scene: Scene) -> None:
    made = scene.images()
    told: list[Progress] = []
    assert await made.ensure(scene.container(), on_progress=told.append) == Obtained(scene.digest)
    assert await scene.digest_here() == scene.digest
    assert told[0] == Progress(f"pulling {scene.name}")

    scene.registry.asked.clear()
    assert await made.ensure(scene.container()) == Obtained(scene.digest)
    assert scene.registry.manifests_asked() >= 1
    assert scene.registry.layers_asked() == 0, "what is here is not pulled again"

    newer = scene.push(b"two")
    assert await made.ensure(scene.container()) == Obtained(newer)
    assert await scene.digest_here() == newer


async def test_a_pinned_image_is_not_asked_for_again(scene: Scene) -> None:
    made = scene.images()
    pinned = f"{scene.registry.host}/{scene.repository}@{scene.digest}"
    assert await made.ensure(scene.container(pinned)) == Obtained()
    scene.registry.asked.clear()
    assert await made.ensure(scene.container(pinned)) == Obtained()
    assert scene.registry.asked == []


async def test_an_outage_costs_launches_nothing(scene: Scene) -> None:
    made = scene.images()
    await made.ensure(scene.container())
    port = await scene.registry.stop()
    assert await made.ensure(scene.container()) == Obtained(scene.digest)

    began = time.monotonic()
    told: list[Progress] = []
    for _ in range(10):
        assert await made.ensure(scene.container(), on_progress=told.append) == Obtained(
            scene.digest
        )
    assert time.monotonic() - began < 3
    assert told == []

    await scene.registry.start(port)
    newer = scene.push(b"two")
    made._registries._outages[scene.registry.host].until = 0
    assert await made.ensure(scene.container()) == Obtained(scene.digest), (
        "a probe has nobody waiting"
    )
    async with asyncio.timeout(5):
        while await made.ensure(scene.container()) != Obtained(newer):  # noqa: ASYNC110 - launches repeat
            await asyncio.sleep(0.05)


async def test_a_registry_that_hangs_is_waited_for_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "REFRESH_LIMIT_S", 0.5)
    made = scene.images()
    await made.ensure(scene.container())
    scene.registry.open.clear()
    began = time.monotonic()
    answers = await asyncio.gather(*(made.ensure(scene.container()) for _ in range(20)))
    assert set(answers) == {Obtained(scene.digest)}
    assert 0.4 < time.monotonic() - began < 5, "not one after the other"
    began = time.monotonic()
    await made.ensure(scene.container())
    assert time.monotonic() - began < 0.4


async def test_an_image_of_this_host_only_costs_one_question(
    scene: Scene, busybox_image: str
) -> None:
    local = f"{scene.registry.host}/{scene.repository}:local"
    await scene.engine.tag_image(busybox_image, local)
    made = scene.images()
    try:
        assert await made.ensure(scene.container(local)) == Obtained()
        asked = len(scene.registry.asked)
        assert asked > 0
        for _ in range(5):
            assert await made.ensure(scene.container(local)) == Obtained()
        assert len(scene.registry.asked) == asked
    finally:
        await scene.engine.remove_image(local)


async def test_once_asks_once_even_after_a_restart(scene: Scene) -> None:
    assert await scene.images("once").ensure(scene.container()) == Obtained(scene.digest)
    scene.registry.asked.clear()
    scene.push(b"two")
    assert await scene.images("once").ensure(scene.container()) == Obtained(scene.digest)
    assert scene.registry.asked == []


async def test_prefer_cached_takes_anything_that_is_here(scene: Scene, busybox_image: str) -> None:
    made = scene.images("prefer-cached")
    await scene.engine.tag_image(busybox_image, scene.name)
    assert await made.ensure(scene.container()) == Obtained()
    assert scene.registry.asked == []
    await scene.engine.remove_image(scene.name)
    assert await made.ensure(scene.container()) == Obtained(scene.digest)


async def test_always_fails_without_the_registry(scene: Scene, quick_retries: None) -> None:
    made = scene.images("always")
    assert await made.ensure(scene.container()) == Obtained(scene.digest)
    await scene.registry.stop()
    with pytest.raises(PayloadError, match="connection refused") as info:
        await made.ensure(scene.container())
    assert info.value.name == "CannotPullContainerError"


async def test_not_found_is_final_at_once(scene: Scene) -> None:
    missing = f"{scene.registry.host}/{scene.repository}:nope"
    began = time.monotonic()
    with pytest.raises(PayloadError, match="manifest unknown") as info:
        await scene.images().ensure(scene.container(missing))
    assert time.monotonic() - began < 5
    assert info.value.name == "CannotPullContainerError"
    assert str(info.value).startswith("Error response from daemon: ")


async def test_a_bad_name_is_final_at_once(scene: Scene) -> None:
    with pytest.raises(PayloadError, match="invalid reference format"):
        await scene.images().ensure(scene.container("UPPER//case"))


async def test_trouble_is_tried_again(scene: Scene, quick_retries: None) -> None:
    scene.registry.failures = 3
    told: list[Progress] = []
    began = time.monotonic()
    assert await scene.images().ensure(scene.container(), on_progress=told.append) == Obtained(
        scene.digest
    )
    failed = [progress for progress in told if progress.failed]
    assert failed
    for progress in failed:
        assert progress.failed.startswith("CannotPullContainerError: Error response from daemon: ")
        assert progress.line == f"waiting to pull {scene.name} again"
        assert began < progress.next_try < time.monotonic()
    assert not told[-1].failed


async def test_a_pull_that_stands_still_is_given_up(
    scene: Scene, quick_retries: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "TRIES", 2)
    scene.registry.open.clear()
    made = scene.images(limits=PullLimits(manifest_s=0.3, total_s=0.3))
    with pytest.raises(PayloadError, match="timed out after waiting") as info:
        await made.ensure(scene.container())
    assert info.value.name == "DockerTimeoutError"


@pytest.mark.parametrize("kind", ["docker", "dockercfg"])
async def test_credentials(scene: Scene, kind: str) -> None:
    scene.registry.credentials = "user:canary-password"
    with pytest.raises(PayloadError, match=r"no basic auth credentials|unauthorized") as info:
        await scene.images().ensure(scene.container())
    assert info.value.name == "CannotPullContainerError"
    entry = {
        "docker": {"username": "user", "password": "canary-password"},
        "dockercfg": {"auth": "dXNlcjpjYW5hcnktcGFzc3dvcmQ="},
    }[kind]
    data = SecretText(json.dumps({f"http://{scene.registry.host}/v2/": entry}))
    made = scene.images(logins=RegistryLogins(Credentials(kind, data)))
    assert await made.ensure(scene.container()) == Obtained(scene.digest)


SECRET = "arn:aws:secretsmanager:eu-west-1:1:secret:login-AbCdEf"
KINDS = {
    "asm": {"type": "asm", "asmAuthData": {"credentialsParameter": SECRET}},
    "ecr": {"type": "ecr", "ecrAuthData": {"registryId": "1", "useExecutionRole": True}},
}


class Services:
    """Keeps one login, as a secret and as a token."""

    def __init__(self) -> None:
        self.password = "canary-password"
        self.failure: Exception | None = None
        self.asked: list[str] = []

    async def secret(self, *_: Any, **__: Any) -> str:
        self._called("secret")
        return json.dumps({"username": "user", "password": self.password})

    async def registry_token(self, *_: Any, **__: Any) -> RegistryToken:
        self._called("token")
        return RegistryToken(username="user", password=self.password, good_s=3600.0)

    def _called(self, what: str) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure


async def _ask(_other: RoleKeys | None) -> RoleKeys:
    return RoleKeys(credentials_id="e")


ROLE = ExecutionRole("arn:role", _ask)


def with_services(scene: Scene, services: Services, behavior: str = "default") -> Images:
    return scene.images(behavior, logins=RegistryLogins(Credentials(), services))


def asking_for(scene: Scene, kind: str) -> Container:
    return Container(name="c", image=scene.name, registry_authentication=KINDS[kind])


@pytest.mark.parametrize(("kind", "asked"), [("asm", "secret"), ("ecr", "token")])
async def test_logins_that_orders_name(scene: Scene, kind: str, asked: str) -> None:
    scene.registry.credentials = "user:canary-password"
    services = Services()
    made = with_services(scene, services)
    wanted = asking_for(scene, kind)
    assert await made.ensure(wanted, role=ROLE) == Obtained(scene.digest)
    assert services.asked == [asked], "once for the digest and the pull"

    # The registry changed its password: the new one is fetched with the next launch.
    scene.registry.credentials = "user:newer"
    services.password = "newer"
    newer = scene.push(b"two")
    digests = [(await made.ensure(wanted, role=ROLE)).digest]
    if kind == "ecr":
        assert digests == [scene.digest], "the old token is good until the registry refuses it"
        made = with_services(scene, services)
        digests = [(await made.ensure(wanted, role=ROLE)).digest]
    assert digests == [newer]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("asm", "CannotPullContainerAuthError"), ("ecr", "CannotPullECRContainerError")],
)
async def test_a_login_that_cannot_be_fetched_is_not_tried_again(
    scene: Scene, kind: str, name: str
) -> None:
    services = Services()
    services.failure = AwsRefused("Get: AccessDeniedException: no", code="AccessDeniedException")
    made = with_services(scene, services)
    with pytest.raises(PayloadError, match="AccessDeniedException: no") as info:
        await made.ensure(asking_for(scene, kind), role=ROLE)
    assert info.value.name == name
    assert len(services.asked) == 1
    assert scene.registry.asked == []
    # Where a cached image is enough, it is used, as with any registry that does not answer.
    await made.ensure(scene.container())
    assert await made.ensure(asking_for(scene, kind), role=ROLE) == Obtained(scene.digest)
    made = with_services(scene, services, behavior="always")
    with pytest.raises(PayloadError, match="AccessDeniedException: no"):
        await made.ensure(asking_for(scene, kind), role=ROLE)


@pytest.mark.parametrize("kind", ["asm", "ecr"])
async def test_a_login_that_the_registry_refuses_is_not_tried_again(
    scene: Scene, kind: str
) -> None:
    scene.registry.credentials = "user:other"
    made = with_services(scene, Services())
    told: list[Progress] = []
    with pytest.raises(PayloadError, match=r"unauthorized|authentication required") as info:
        await made.ensure(asking_for(scene, kind), role=ROLE, on_progress=told.append)
    assert info.value.name == "CannotPullContainerError"
    assert "canary" not in str(info.value)
    assert not [progress for progress in told if progress.failed]


async def test_one_login_does_not_pull_for_another(scene: Scene) -> None:
    scene.registry.credentials = "user:canary-password"
    services = Services()
    made = with_services(scene, services)
    scene.registry.open.clear()
    good = asyncio.ensure_future(made.ensure(asking_for(scene, "asm"), role=ROLE))
    bad = asyncio.ensure_future(made.ensure(scene.container()))
    await asyncio.sleep(0.2)
    scene.registry.open.set()
    with pytest.raises(PayloadError, match=r"no basic auth credentials|unauthorized"):
        await bad
    assert await good == Obtained(scene.digest)


async def test_one_pull_serves_all_and_survives_who_leaves(scene: Scene) -> None:
    made = scene.images()
    scene.registry.open.clear()
    first, *others = (asyncio.ensure_future(made.ensure(scene.container())) for _ in range(5))
    await asyncio.sleep(0.2)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    scene.registry.open.set()
    assert set(await asyncio.gather(*others)) == {Obtained(scene.digest)}
    assert scene.registry.layers_asked() == 1


async def test_a_pull_that_nobody_waits_for_ends(scene: Scene) -> None:
    made = scene.images()
    scene.registry.open.clear()
    waiting = asyncio.ensure_future(made.ensure(scene.container()))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting
    assert made._single_flight._running == {}
    scene.registry.open.set()
    assert await made.ensure(scene.container()) == Obtained(scene.digest)


async def test_close_ends_those_who_wait(scene: Scene) -> None:
    made = scene.images()
    scene.registry.open.clear()
    waiting = asyncio.ensure_future(made.ensure(scene.container()))
    await asyncio.sleep(0.2)
    await made.close()
    with pytest.raises(EngineUnavailable, match="the agent closed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="closing"):
        await made.ensure(scene.container())
