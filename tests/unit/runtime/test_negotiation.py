"""Which API version is spoken, with engines of all ages: a few answers on a Unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from docker.constants import DEFAULT_DOCKER_API_VERSION

from agent.errors import EngineRefused, EngineUnavailable
from agent.runtime.docker import DockerEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.runtime.protocol import ContainerEngine


class FakeEngine:
    """Answers ``/version`` and ``/info`` as it is told to."""

    def __init__(self) -> None:
        self.version: dict[str, Any] = {}
        self.asked: list[str] = []
        self.raw: bytes | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.raw is not None:
            return web.Response(body=self.raw, content_type="application/json")
        return web.json_response(self.version if request.path.endswith("/version") else {})


@pytest.fixture
async def fake(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    made = FakeEngine()
    app = web.Application()
    app.router.add_get("/{path:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def engine(fake: FakeEngine, tmp_path: Path) -> AsyncIterator[ContainerEngine]:
    del fake
    made = DockerEngine(f"unix://{tmp_path}/engine.sock")
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.24", None, "1.24"),
        ("1.52", "1.24", DEFAULT_DOCKER_API_VERSION),
        ("1.100", "1.44", DEFAULT_DOCKER_API_VERSION),
    ],
)
async def test_the_newest_that_both_know(
    fake: FakeEngine, engine: ContainerEngine, newest: str, oldest: str | None, spoken: str
) -> None:
    fake.version = {"Version": "x", "ApiVersion": newest, "MinAPIVersion": oldest}
    assert (await engine.connect()).api_version == spoken
    assert fake.asked == ["/version", f"/v{spoken}/info"]


@pytest.mark.parametrize(("newest", "oldest"), [("1.23", "1.12"), ("1.60", "1.50"), ("", None)])
async def test_no_common_version(
    fake: FakeEngine, engine: ContainerEngine, newest: str, oldest: str | None
) -> None:
    fake.version = {"ApiVersion": newest, "MinAPIVersion": oldest}
    with pytest.raises(EngineRefused, match=r"the agent 1.24 to .*: update one of them"):
        await engine.connect()


async def test_calls_negotiate_by_themselves(fake: FakeEngine, engine: ContainerEngine) -> None:
    fake.version = {"ApiVersion": "1.40", "MinAPIVersion": "1.12"}
    await engine.ping()
    await engine.ping()
    assert fake.asked == ["/version", "/v1.40/_ping", "/v1.40/_ping"]


async def test_an_upgraded_engine_is_spoken_to_anew(
    fake: FakeEngine, engine: ContainerEngine
) -> None:
    fake.version = {"ApiVersion": "1.30", "MinAPIVersion": "1.12"}
    await engine.connect()
    fake.version = {"ApiVersion": "1.43", "MinAPIVersion": "1.32"}
    assert (await engine.connect()).api_version == "1.43"


@pytest.mark.parametrize("raw", [b"", b"no JSON", b"[]", b'"text"', b"null"])
async def test_nonsense_is_no_answer(fake: FakeEngine, engine: ContainerEngine, raw: bytes) -> None:
    fake.raw = raw
    with pytest.raises(EngineUnavailable):
        await engine.connect()
