"""Which control the settings name, and whose state is opened for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.aws import ec2_host
from agent.aws.imds import Imds
from agent.config import load
from agent.errors import AwsUnavailable, ConfigError
from agent.state import Batch, StateStore
from agent.upstream.amazon import identity
from agent.upstream.backends import open_backend

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Settings

EXTERNAL = {
    "ECS_BACKEND_HOST": "http://127.0.0.1:9",
    "ECS_EXTERNAL": "true",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def settings(environ: dict[str, str]) -> Settings:
    return load(environ, ())


async def test_an_endpoint_of_our_own_is_reached_by_the_long_poll() -> None:
    async with open_backend(settings({"ECS_CONTROL_ENDPOINT": "http://control:6820"})) as backend:
        assert not backend.is_ecs
        assert backend.endpoint == "http://control:6820"


async def test_without_one_amazon_ecs_is_meant() -> None:
    async with open_backend(settings({"AWS_DEFAULT_REGION": "eu-central-1"})) as backend:
        assert backend.is_ecs
        assert backend.endpoint == "https://ecs.eu-central-1.amazonaws.com"


async def test_another_back_end_takes_its_place() -> None:
    async with open_backend(settings(EXTERNAL)) as backend:
        assert backend.endpoint.rstrip("/") == "http://127.0.0.1:9"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run on: this host is not an EC2 instance."""
    monkeypatch.setattr(ec2_host, "is_ec2", lambda: False)


@pytest.fixture
def on_ec2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_host, "is_ec2", lambda: True)


@pytest.mark.usefixtures("elsewhere")
async def test_a_host_that_names_no_control_is_told_of_both_and_asks_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Imds, "_exchange", _asked)
    with pytest.raises(ConfigError) as caught:
        async with open_backend(settings({})):
            pass
    told = str(caught.value)
    for word in ("ECS_CONTROL_ENDPOINT", "ecs-agent standalone", "AWS_DEFAULT_REGION"):
        assert word in told
    assert "\n" not in told


async def _asked(*_words: object) -> None:
    raise AssertionError("instance metadata was asked")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    "environ",
    [
        {"AWS_DEFAULT_REGION": "eu-central-1"},
        {"ECS_BACKEND_HOST": "http://127.0.0.1:9"},
        {"AWS_DEFAULT_REGION": "eu-central-1", "ECS_EXTERNAL": "true"},
    ],
)
async def test_no_setting_makes_a_host_elsewhere_ask_metadata(
    environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Imds, "_exchange", _asked)
    async with open_backend(settings(environ)) as backend:
        store = await backend.open_store(tmp_path / "agent.db")
        await store.close()


@pytest.mark.usefixtures("elsewhere")
async def test_metadata_that_somebody_named_is_asked_on_any_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def answer(_imds: Imds, method: str, path: str, _headers: object) -> tuple[int, bytes]:
        asked.append(path)
        return 200, b"token" if method == "PUT" else b'{"region": "eu-west-1"}'

    monkeypatch.setattr(Imds, "_exchange", answer)
    environ = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://169.254.169.254"}
    async with open_backend(settings(environ)) as backend:
        assert backend.endpoint == "https://ecs.eu-west-1.amazonaws.com"
    assert asked
    with pytest.raises(ConfigError, match="no control is set"):
        async with open_backend(settings({**environ, "AWS_EC2_METADATA_DISABLED": "true"})):
            pass


@pytest.mark.usefixtures("on_ec2")
@pytest.mark.parametrize("backend", ["", "http://127.0.0.1:9"])
async def test_a_host_whose_metadata_is_silent_is_told_what_to_set(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_words: object, **_more: object) -> None:
        raise AwsUnavailable("nobody there", code="403")

    monkeypatch.setattr("agent.aws.cloud.find_region", silent)
    with pytest.raises(AwsUnavailable, match="nobody there; ") as caught:
        async with open_backend(settings({"ECS_BACKEND_HOST": backend})):
            pass
    told = str(caught.value)
    assert "AWS_DEFAULT_REGION" in told
    assert "ECS_EXTERNAL=true" in told
    assert ("ECS_CONTROL_ENDPOINT" in told) is not bool(backend)
    assert caught.value.code == "403"


async def test_a_failure_inside_of_the_way_is_not_taken_for_its_own() -> None:
    with pytest.raises(ConfigError, match=r"^something else$"):
        async with open_backend(settings({"AWS_DEFAULT_REGION": "eu-central-1"})):
            raise ConfigError("something else")
    with pytest.raises(AwsUnavailable):
        async with open_backend(settings(EXTERNAL)):
            raise AwsUnavailable("away")


async def test_state_of_this_host_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    for _ in range(2):
        async with open_backend(settings(EXTERNAL)) as backend:
            store = await backend.open_store(path)
            batch = Batch()
            batch.put_meta(identity.INSTANCE, "arn:1")
            await store.commit(batch)
            await store.close()
    store = await StateStore.open(path)
    assert await store.get_meta(identity.INSTANCE) == "arn:1"
    await store.close()
    assert [p.name for p in tmp_path.iterdir() if "of-" in p.name] == []


async def test_state_of_another_machine_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    store = await StateStore.open(path)
    here = await identity.read_host_identity(None)
    batch = Batch()
    batch.put_meta(identity.INSTANCE, "arn:aws:ecs:x:1:container-instance/c/0123abcd")
    batch.put_meta(identity.BOOT, "another boot")
    if here.product_uuid:
        batch.put_meta(identity.PRODUCT, "11111111-2222-3333-4444-555555555555")
    batch.put_meta(identity.MACHINE, "another machine")
    await store.commit(batch)
    await store.close()

    async with open_backend(settings(EXTERNAL)) as backend:
        store = await backend.open_store(path)
        assert await store.get_meta(identity.INSTANCE) is None
        assert await store.get_meta(identity.BOOT) == here.boot_id
        await store.close()
    aside = await StateStore.open(tmp_path / "agent.db.of-0123abcd")
    assert (await aside.get_meta(identity.INSTANCE) or "").endswith("/0123abcd")
    await aside.close()
