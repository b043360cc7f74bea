"""An agent is back soon after a short outage of control, by either wire."""

from __future__ import annotations

import http.client
import json
import socket
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Agent, eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration

SOON_S = 3.0


class OverSocket(http.client.HTTPConnection):
    """HTTP to the operator socket: much quicker than the command line, to look often."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))


def is_connected(agent: Agent) -> bool:
    connection = OverSocket(agent.socket)
    try:
        connection.request("GET", "/v1/agent")
        return bool(json.loads(connection.getresponse().read())["controlConnected"])
    finally:
        connection.close()


@pytest.mark.parametrize("away_s", [8.0, 20.0])
def test_an_agent_is_back_soon_after_control(one_host: Fleet, away_s: float) -> None:
    agent = one_host.agents[0]
    eventually(lambda: is_connected(agent), what="the agent is connected")
    one_host.control.kill()
    eventually(lambda: not is_connected(agent), what="the agent notices")
    time.sleep(away_s)
    one_host.control.start()
    one_host.control.ready()
    ready = time.monotonic()
    eventually(lambda: is_connected(agent), what="the agent is back")
    assert time.monotonic() - ready <= SOON_S
