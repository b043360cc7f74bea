"""What every path of the server of tasks has in common."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from agent.model.status import NetworkMode
from agent.task_endpoint.audit import AuditLog
from agent.task_endpoint.contract import BODY_LIMIT_BYTES, Call, Route, answer
from agent.task_endpoint.server import cleaned
from agent.task_endpoint.throttle import RequestRate, Throttle
from tests.unit.task_endpoint.conftest import HOST, OTHER, OURS, TASK, THEIRS, place

if TYPE_CHECKING:
    from aiohttp import web

    from tests.unit.task_endpoint.conftest import Serve

pytestmark = pytest.mark.filterwarnings("error")
BIG = b"x" * (BODY_LIMIT_BYTES + 1)


async def echo(call: Call) -> web.Response:
    return answer({"id": call.match["id"], "body": (await call.body()).decode()})


async def who(call: Call) -> web.Response:
    caller = await call.caller()
    is_own = [await call.is_from(TASK), await call.is_from(OTHER), await call.is_from("")]
    return answer([*caller, is_own, await call.is_from_host()])


async def broken(_call: Call) -> web.Response:
    raise ValueError("a secret text")


ROUTES = [
    Route(r"/v4/(?P<id>[^/]*)", echo),
    Route(r"/who", who),
    Route(r"/broken", broken),
    Route(r"/api/(?P<id>[^/]*)/state", echo, frozenset({"GET", "PUT"})),
]


async def test_unknown_paths_and_methods_get_what_amazons_agent_says(serve: Serve) -> None:
    async with serve(ROUTES) as asked:
        for path in ("/", "/v4", "/v4/a/b", "/who/", "/v1/agent"):
            said = await asked.get(path)
            assert (said.status, said.body) == (404, b"404 page not found\n"), path
            assert said.headers["Content-Type"] == "text/plain; charset=utf-8"
        for method in ("GET", "POST", "DELETE", "PATCH"):
            assert (await asked.get("/v4/a", method)).status == 200
        said = await asked.get("/api/a/state", "POST")
        assert (said.status, said.body) == (405, b"")
        assert json.loads((await asked.get("/v4/")).body) == {"id": "", "body": ""}


async def test_paths_are_cleaned_by_a_redirect(serve: Serve) -> None:
    async with serve(ROUTES) as asked:
        said = await asked.raw(b"GET //v4//x?a=b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 301 ")
        assert b"\r\nLocation: /v4/x?a=b\r\n" in said
        given = b"id=%0d%0aX:%20y%26z%25"
        head = b"GET //v4/x?" + given + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        said = await asked.raw(head)
        assert b"\r\nLocation: /v4/x?" + given + b"\r\n" in said


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"), ("//", "/"), ("/a", "/a"), ("/a/", "/a/"), ("//a///b", "/a/b"),
        ("/a/./b/", "/a/b/"), ("/a/../../b", "/b"),
    ],
)  # fmt: skip
def test_a_clean_path(path: str, clean: str) -> None:
    assert cleaned(path) == clean


async def test_every_answer_tells_of_the_limit(serve: Serve) -> None:
    async with serve(ROUTES) as asked:
        said = await asked.get("/nowhere", headers={"X-Forwarded-For": "192.0.2.1"})
        assert said.headers["X-Rate-Limit-Limit"] == "40.00"
        assert said.headers["X-Rate-Limit-Duration"] == "1"
        assert said.headers["X-Rate-Limit-Request-Forwarded-For"] == "192.0.2.1"
        assert said.headers["X-Rate-Limit-Request-Remote-Addr"].startswith(f"{HOST}:")


async def test_who_asks_too_often_gets_429_for_that_path_only(serve: Serve) -> None:
    lines: list[str] = []
    audit = AuditLog("default", str, lines.append)
    rate = RequestRate(per_s=1, burst=3)
    counts: Counter[tuple[str, int]] = Counter()
    async with serve(ROUTES, rate=rate, refused=audit.refused, counts=counts) as asked:
        said = [await asked.get("/v4/a") for _ in range(5)]
        assert [each.status for each in said] == [200, 200, 200, 429, 429]
        assert said[-1].body == b"You have reached maximum request limit."
        assert said[-1].headers["X-Rate-Limit-Limit"] == "1.00"
        assert (await asked.get("/v4/b")).status == 200
        assert (await asked.get("/made-up/c")).status == 404
    assert counts == {("v4", 200): 4, ("v4", 429): 2, ("other", 404): 1}
    assert [line.split()[1] for line in lines] == ["429", "429"]
    assert lines[0].endswith(" - ")


def test_tokens_come_back_and_buckets_are_bounded() -> None:
    now = [0.0]
    throttle = Throttle(RequestRate(per_s=2, burst=2), clock=lambda: now[0])
    assert [throttle.take("a", "/") for _ in range(3)] == [True, True, False]
    assert throttle.take("b", "/")
    now[0] = 0.5
    assert [throttle.take("a", "/") for _ in range(2)] == [True, False]
    for number in range(10_000):
        throttle.take("a", f"/{number}")
    assert len(throttle) == 4096


async def test_bodies_and_heads_have_a_limit(serve: Serve) -> None:
    async with serve(ROUTES) as asked:
        assert (await asked.get("/v4/a", "PUT", data=BIG)).status == 413
        assert json.loads((await asked.get("/v4/a", "PUT", data="x")).body)["body"] == "x"
        slow = b"PUT /v4/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
        head = b"GET /v4/a HTTP/1.1\r\n"
        both = await asyncio.gather(asked.raw(slow), asked.raw(head))
        assert both[0].startswith(b"HTTP/1.1 408 ")
        assert both[1] == b""
        assert (await asked.raw(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.0 400 ")


async def test_a_failure_of_ours_is_a_500_without_its_text(serve: Serve) -> None:
    async with serve(ROUTES) as asked:
        with capture_logs() as lines:
            said = await asked.get("/broken")
        assert said.status == 500
        assert [line["event"] for line in lines] == ["a request of a task failed"]
        assert b"secret" not in said.body


async def test_a_handler_learns_who_asks(serve: Serve) -> None:
    ours, theirs = place(TASK, OURS, NetworkMode.HOST), place(OTHER, THEIRS, NetworkMode.HOST)
    async with serve(ROUTES, [theirs, ours]) as asked:
        said = json.loads((await asked.get("/who")).body)
        assert said == [TASK, "web", False, [True, False, False], False]
    async with serve(ROUTES, [theirs]) as asked:
        said = json.loads((await asked.get("/who")).body)
        assert said == ["", "", True, [False, False, False], True]
    # A socket of this namespace is not a task's with an address of its own, whatever its address.
    places = [place(TASK, OURS, NetworkMode.AWSVPC, HOST), place(OTHER, OURS, NetworkMode.BRIDGE)]
    async with serve(ROUTES, places, superuser=4_000_000_000) as asked:
        said = json.loads((await asked.get("/who")).body)
        assert said == ["", "", False, [False, False, False], False]


async def test_who_hides_its_socket_is_not_the_host(serve: Serve) -> None:
    counts: Counter[tuple[str, int]] = Counter()
    ours = place(TASK, OURS, NetworkMode.HOST)
    one, other = socket.socketpair()
    async with serve(ROUTES, [ours], counts=counts) as asked:
        with one, other, socket.create_connection((HOST, asked.port)) as asking:
            asking.sendall(b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            socket.send_fds(one, [b"-"], [asking.fileno()])  # only in this message from now on
            asking.close()
            async with asyncio.timeout(20):
                while not counts:  # noqa: ASYNC110 - nothing tells of it
                    await asyncio.sleep(0.01)
            _, (back,), _, _ = socket.recv_fds(other, 1, 1)
        with socket.socket(fileno=back) as asking:
            said = await asyncio.to_thread(asking.recv, 65536)
    body = json.loads(said.partition(b"\r\n\r\n")[2])
    assert body == ["", "", False, [False, False, False], False]
