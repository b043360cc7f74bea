"""Pushes to Loki: their form, and what becomes of its answers. The server checks what Loki checks."""

from __future__ import annotations

import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.aws.http import AwsHttp
from agent.controlplane.log_forward.chunks import Chunk
from agent.controlplane.log_forward.loki import PUSH, HeadersUnusable, Loki, read_headers
from agent.controlplane.log_forward.targets import Target
from agent.controlplane.log_store.contract import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHUNKS = [
    Chunk("/ecs/web", "web/1", [Event(1700000000123, 1, 1, 0, "zwölf\n"), Event(5, 2, 1, 0, "b")]),
    Chunk("g", "s", [Event(7, 3, 2, 0, "c")]),
]


class FakeLoki:
    """Answers pushes as it is told, and keeps what came."""

    def __init__(self) -> None:
        self.status = 204
        self.got: list[Any] = []
        self.headers: dict[str, str] = {}

    async def push(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/json"
        body = await request.read()
        self.got.append(json.loads(body))
        self.headers = dict(request.headers)
        return web.Response(status=self.status, text="entry too far\nbehind" * 100)


@asynccontextmanager
async def loki(headers_file: Path | None = None) -> AsyncIterator[tuple[Loki, FakeLoki]]:
    fake = FakeLoki()
    app = web.Application()
    app.router.add_post(PUSH, fake.push)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with AwsHttp() as http:
        yield Loki(Target(url=url, headers_file=headers_file), http), fake
    await runner.cleanup()


async def test_a_push_has_streams_with_labels_and_nanoseconds() -> None:
    async with loki() as (destination, fake):
        assert (await destination.send(CHUNKS)).again == []
    assert fake.got == [
        {
            "streams": [
                {
                    "stream": {"log_group": "/ecs/web", "log_stream": "web/1"},
                    "values": [["1700000000123000000", "zwölf\n"], ["5000000", "b"]],
                },
                {"stream": {"log_group": "g", "log_stream": "s"}, "values": [["7000000", "c"]]},
            ]
        }
    ]
    assert fake.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("status", [401, 404, 429, 500, 503])
async def test_what_may_be_mended_is_sent_again(status: int) -> None:
    async with loki() as (destination, fake):
        fake.status = status
        sent = await destination.send(CHUNKS)
    assert sent.again == CHUNKS
    assert sent.trouble.startswith(f"{status} entry too far behind")
    assert len(sent.trouble) < 400


async def test_what_loki_will_not_take_is_given_up() -> None:
    async with loki() as (destination, fake):
        fake.status = 400
        sent = await destination.send(CHUNKS)
    assert sent.again == []
    assert [refusal.events for refusal in sent.refusals] == [2, 1]


async def test_a_loki_that_is_away_is_tried_again() -> None:
    async with AwsHttp() as http:
        sent = await Loki(Target(url="http://127.0.0.1:1"), http).send(CHUNKS)
    assert sent.again == CHUNKS
    assert sent.trouble


async def test_headers_come_from_a_file_that_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    async with loki(file) as (destination, fake):
        sent = await destination.send(CHUNKS)
        assert sent.again == CHUNKS
        assert "cannot be read" in sent.trouble
        file.write_text("# ours\nX-Scope-OrgID: shop\nAuthorization: Bearer a:b\n\n")
        assert not (await destination.send(CHUNKS)).again
        assert fake.headers["X-Scope-OrgID"] == "shop"
        assert fake.headers["Authorization"] == "Bearer a:b"


@pytest.mark.parametrize("text", ["secret", ": secret", "Name: a\x00secret"])
def test_a_bad_line_is_named_without_what_it_holds(tmp_path: Path, text: str) -> None:
    file = tmp_path / "headers"
    file.write_text(f"A: b\n{text}\n")
    with pytest.raises(HeadersUnusable, match="line 2 is not a header") as caught:
        read_headers(file)
    assert "secret" not in str(caught.value)


def test_the_body_is_gzip_of_json() -> None:
    target = Target(url="http://loki")
    headers, body = Loki(target, AwsHttp())._packed(CHUNKS)
    assert headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(body))["streams"]
