"""``ecs-agent healthcheck`` against servers that answer, refuse, hang and are something else."""

from __future__ import annotations

import asyncio
import http.server
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from agent.cli import healthcheck, main
from tests.support.terminal import COMMAND

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Endpoint(http.server.BaseHTTPRequestHandler):
    status = 200
    asked: tuple[str, str] = ("", "")

    def do_HEAD(self) -> None:
        type(self).asked = (self.command, self.path)
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endpoint(status: int) -> Iterator[dict[str, str]]:
    """Serve, and yield the variables that lead there."""

    class One(_Endpoint):
        pass

    One.status = status
    with http.server.HTTPServer(("127.0.0.1", 0), One) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield {
            "ECS_AGENT_HEALTHCHECK_HOST": "127.0.0.1",
            "ECS_INTROSPECTION_PORT": str(served.server_port),
        }
        assert One.asked == ("HEAD", "/v1/metadata")
        served.shutdown()


def test_an_agent_that_answers_is_healthy() -> None:
    with endpoint(200) as environ:
        assert healthcheck.check(environ) == ""


def test_an_answer_that_is_an_error_is_not_health() -> None:
    with endpoint(500) as environ:
        assert "answered 500" in healthcheck.check(environ)


def test_the_command_is_an_exit_code_and_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    monkeypatch.setenv("ECS_INTROSPECTION_PORT", port)
    assert main(["healthcheck"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"ecs-agent: the agent does not answer on localhost:{port}")
    with endpoint(200) as environ:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        assert main(["healthcheck"]) == 0
    assert capsys.readouterr() == ("", "")


def test_one_that_hangs_and_one_that_is_no_agent() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        environ = {"ECS_INTROSPECTION_PORT": str(other.getsockname()[1])}
        environ["ECS_AGENT_HEALTHCHECK_HOST"] = "127.0.0.1"
        assert "did not answer" in healthcheck.check(environ, limit_s=0.1)

        def greet() -> None:
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"220 mail.example ESMTP\r\n")

        threading.Thread(target=greet, daemon=True).start()
        assert "is not ecs-agent" in healthcheck.check(environ)


def test_without_introspection_the_socket_is_asked(tmp_path: Path) -> None:
    environ = {"ECS_INTROSPECTION_PORT": "0", "ECS_AGENT_SOCKET": str(tmp_path / "a.sock")}
    assert str(tmp_path / "a.sock") in healthcheck.check(environ)


async def test_without_introspection_an_agent_answers_on_its_socket(agent_socket: str) -> None:
    environ = {"ECS_INTROSPECTION_PORT": "0", "ECS_AGENT_SOCKET": agent_socket}
    done = await asyncio.to_thread(
        subprocess.run, [str(COMMAND), "healthcheck"], env=environ, timeout=30, check=False
    )
    assert done.returncode == 0


def test_it_loads_next_to_nothing() -> None:
    program = """
import sys
before = set(sys.modules)
from agent.cli import main
main(["healthcheck"])
print(len(set(sys.modules) - before), *sorted(n for n in sys.modules if n.split(".")[0] in
      ("click", "msgspec", "rich", "aiohttp", "structlog", "http")))
"""
    with endpoint(200) as environ:
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=True
        )
    assert int(done.stdout.split()[0]) < 60, done.stdout
    assert len(done.stdout.split()) == 1, done.stdout


@pytest.mark.parametrize("words", [["healthcheck", "--help"], ["help", "healthcheck"]])
def test_it_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    assert "ECS_AGENT_HEALTHCHECK_HOST" in capsys.readouterr().out


def test_options_that_it_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["healthcheck", "--port", "1"]) == 2
    assert "Try 'ecs-agent healthcheck --help'" in capsys.readouterr().err
