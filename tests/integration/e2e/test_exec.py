"""``ecs-agent exec`` with real terminals, pipes, containers and an agent that serves many at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import COMMAND, Agent, eventually, fleet
from tests.support.images import LINGER
from tests.support.terminal import Dialogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
LIMIT_S = 60


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory, busybox_image: str
) -> Iterator[tuple[Fleet, Agent]]:
    """An agent with two tasks: ``web`` with one container, ``pair`` with two."""
    with fleet(tmp_path_factory.mktemp("exec")) as made:
        client = made.client()
        linger = LINGER[2]
        client.get_waiter("tasks_running").wait(
            tasks=[
                *run(client, register(client, busybox_image, linger, family="web")),
                *run(client, register(client, busybox_image, linger, linger, family="pair")),
            ],
            WaiterConfig={"Delay": 0.2, "MaxAttempts": 300},
        )
        yield made, made.agents[0]


@contextlib.contextmanager
def piped_client(agent: Agent, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``ecs-agent exec`` between pipes that stay open; kill it in the end."""
    with subprocess.Popen(
        [COMMAND, "exec", *words],
        env=environ(agent),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as client:
        try:
            yield client
        finally:
            client.kill()


@pytest.fixture
def agent(host: tuple[Fleet, Agent]) -> Agent:
    return host[1]


def environ(agent: Agent) -> dict[str, str]:
    return {**os.environ, "ECS_AGENT_SOCKET": str(agent.socket)}


def piped(
    agent: Agent, *words: str, stdin: bytes = b"", limit_s: float = LIMIT_S
) -> subprocess.CompletedProcess[bytes]:
    """Run ``ecs-agent exec`` between pipes."""
    return subprocess.run(
        [COMMAND, "exec", *words],
        input=stdin,
        env=environ(agent),
        capture_output=True,
        timeout=limit_s,
        check=False,
    )


def processes(words: str) -> list[str]:
    """Return the process ids of commands on this machine whose command line has these words."""
    done = subprocess.run(
        ["pgrep", "-f", f"^{words}$"], capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_output_streams_and_exit_codes(agent: Agent) -> None:
    done = piped(agent, "web", "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")
    for script, code in (("exit 1", 1), ("exit 77", 77), ("kill -9 $$", 137)):
        assert piped(agent, "web", "--", "sh", "-c", script).returncode == code
    missing = piped(agent, "web", "--", "no-such-program", "x")
    assert missing.returncode == 127
    assert missing.stdout == b""
    assert missing.stderr == b"ecs-agent: the container has no program 'no-such-program'\n"
    barred = piped(agent, "web", "--", "/etc/passwd")
    assert (barred.returncode, barred.stdout) == (126, b"")
    assert b"'/etc/passwd' cannot be started" in barred.stderr
    assert b"permission denied" in barred.stderr
    for option, value in (("-u", "no-such-user"), ("-w", "/no-such-directory")):
        refused = piped(agent, option, value, "web", "--", "true")
        assert refused.returncode in {1, 126}
        assert refused.stdout == b""
        assert value.encode() in refused.stderr


def test_user_directory_and_variables(agent: Agent) -> None:
    script = 'id -u; pwd; echo "$A"'
    done = piped(
        agent, "-u", "nobody", "web", "-w", "/www", "-e", "A=b c", "--", "sh", "-c", script
    )
    assert done.stdout == b"65534\n/www\nb c\n", done.stderr


def test_the_container_is_named_or_the_only_one(agent: Agent) -> None:
    assert piped(agent, "pair", "c1", "--", "true").returncode == 0
    several = piped(agent, "pair", "--", "true")
    assert several.returncode == 1
    assert b"has several containers; name one of them after the task: c0, c1" in several.stderr
    unknown = piped(agent, "wep", "--", "true")
    assert unknown.returncode == 1
    assert b"did you mean 'web'" in unknown.stderr
    assert piped(agent, "web").returncode == 2
    assert piped(agent, "-t", "web", "--", "true").returncode == 2


def test_ten_megabytes_come_back_as_they_went(agent: Agent) -> None:
    data = random.Random(7).randbytes(10 * 1024 * 1024)
    done = piped(agent, "web", "--", "cat", stdin=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_input_may_be_a_file_and_may_be_more_than_is_read(agent: Agent, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"one\n" + bytes(3 * 1024 * 1024))
    with path.open("rb") as stdin:
        done = subprocess.run(
            [COMMAND, "exec", "web", "--", "head", "-n", "1"],
            stdin=stdin,
            env=environ(agent),
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, b"one\n")


def test_a_terminal_has_a_size_and_passes_keys_on(agent: Agent) -> None:
    with Dialogue(
        "exec", "web", "--", "sh", environ={"ECS_AGENT_SOCKET": str(agent.socket)}
    ) as shell:
        shell.type("tty && echo $TERM; stty size\r")
        assert "/dev/pts/" in shell.wait_for("xterm-256color\r\n")
        shell.wait_for("24 80")
        shell.resize(33, 101)
        eventually(lambda: _size(shell) == "33 101", what="the new size")
        shell.type("sleep 73100\r")
        shell.wait_for("sleep 73100")
        eventually(lambda: processes("sleep 73100"), what="the command runs")
        shell.type("\x03")
        shell.type("echo code=$?\r")
        shell.wait_for("code=130\r\n")
        shell.type("\x10")  # Ctrl-P recalls the last line: the engine must not wait for Ctrl-Q
        shell.wait_for("echo code=$?")
        shell.type("\r")
        shell.wait_for("code=0\r\n")
        shell.type("exit 5\r")
        assert shell.code() == 5
        assert shell.settings == shell.before


def _size(shell: Dialogue) -> str:
    shell.type("echo size=$(stty size)=\r")
    shell.wait_for("\r\nsize=")
    return shell.wait_for("=").rstrip("=")


def test_ctrl_c_ends_a_command_on_a_terminal(agent: Agent) -> None:
    words = ("exec", "web", "--", "sleep", "73101")
    with Dialogue(*words, environ={"ECS_AGENT_SOCKET": str(agent.socket)}) as shown:
        eventually(lambda: processes("sleep 73101"), what="the command runs")
        shown.type("\x03")
        assert shown.code() == 130
        assert shown.settings == shown.before


DEAF = "trap '' HUP; sleep {0} & wait; sleep {0}"
"""A command that ignores SIGHUP, its child too."""


def test_a_client_on_a_terminal_that_is_killed_takes_its_command_along(agent: Agent) -> None:
    words = ("exec", "web", "--", "sh", "-c", DEAF.format(73102))
    with Dialogue(*words, environ={"ECS_AGENT_SOCKET": str(agent.socket)}) as shown:
        eventually(lambda: processes("sleep 73102"), what="the command runs")
        shown.process.kill()
        eventually(lambda: not processes("sleep 73102"), what="the command ends")


def test_a_client_between_pipes_that_is_killed_takes_its_command_along(agent: Agent) -> None:
    with piped_client(agent, "web", "--", "sh", "-c", DEAF.format(73103)) as client:
        eventually(lambda: processes("sleep 73103"), what="the command runs")
        client.kill()
        eventually(lambda: not processes("sleep 73103"), what="the command ends")


def test_a_client_that_is_told_to_end_restores_its_terminal(agent: Agent) -> None:
    words = ("exec", "web", "--", "sleep", "73104")
    with Dialogue(*words, environ={"ECS_AGENT_SOCKET": str(agent.socket)}) as shown:
        eventually(lambda: processes("sleep 73104"), what="the command runs")
        shown.process.terminate()
        assert shown.code() == 143
        assert shown.settings == shown.before
    eventually(lambda: not processes("sleep 73104"), what="the command ends")


def test_twenty_sessions_at_once(agent: Agent) -> None:
    def session(number: int) -> bytes:
        words = ("web", "--", "sh", "-c", "read a; sleep 1; echo $a")
        return piped(agent, *words, stdin=f"{number}\n".encode(), limit_s=120).stdout

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(session, range(20))) == [b"%d\n" % n for n in range(20)]
    assert json.loads(agent.cli("status", "--json"))["engineConnected"]


def test_stopping_a_task_ends_its_commands(host: tuple[Fleet, Agent], busybox_image: str) -> None:
    made, agent = host
    client = made.client()
    arns = run(client, register(client, busybox_image, LINGER[2], family="brief"))
    client.get_waiter("tasks_running").wait(
        tasks=arns, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
    )
    with piped_client(agent, "brief", "--", "sleep", "73105") as command:
        eventually(lambda: processes("sleep 73105"), what="the command runs")
        client.stop_task(task=arns[0])
        assert command.wait(LIMIT_S) == 137
    stopped = piped(agent, "brief", "--", "true")
    assert stopped.returncode == 1
    assert b"is not running" in stopped.stderr or b"no task" in stopped.stderr


def test_an_agent_that_stops_ends_its_sessions(host: tuple[Fleet, Agent]) -> None:
    made, agent = host
    with piped_client(agent, "web", "--", "sleep", "73106") as command:
        eventually(lambda: processes("sleep 73106"), what="the command runs")
        agent.stop()
        assert command.wait(LIMIT_S) == 1
        assert command.stderr is not None
        assert b"the session was ended, and with it the command" in command.stderr.read()
    eventually(lambda: not processes("sleep 73106"), what="the command ends")
    agent.start()
    eventually(agent.socket.exists, what="the agent answers again")
    made.wait_connected()
