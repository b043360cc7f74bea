"""ExecuteCommand with real processes: control, an agent, the engine, the AWS CLI, and a plugin's protocol."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.integration.e2e.conftest import register, run
from tests.support.fleet import COMMAND, KEYS, eventually, fleet
from tests.support.images import LINGER
from tests.support.session_plugin import PluginClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.fleet import Fleet

pytestmark = pytest.mark.integration
LIMIT_S = 90
ROOT = Path(__file__).parents[3]
_BLOB = "head -c 2097152 /dev/zero | tr '\\0' x"


@pytest.fixture(scope="module")
def host(
    tmp_path_factory: pytest.TempPathFactory, busybox_image: str
) -> Iterator[tuple[Fleet, str]]:
    """A host, and a task in which commands may be run."""
    with fleet(tmp_path_factory.mktemp("execute")) as made:
        client = made.client()
        definition = register(
            client,
            busybox_image,
            LINGER[2],
            family="web",
            containers=[{"readonlyRootFilesystem": True}],
        )
        (task,) = run(client, definition, enableExecuteCommand=True)
        client.get_waiter("tasks_running").wait(
            tasks=[task], WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
        )
        yield made, task


@contextlib.asynccontextmanager
async def plugin(host: tuple[Fleet, str], command: str, **more: Any) -> AsyncIterator[PluginClient]:
    """Open a session as the plugin does."""
    fleet, task = host
    asked = {"task": task, "command": command, "interactive": True}
    answer = await asyncio.to_thread(lambda: fleet.client().execute_command(**asked))
    async with (
        aiohttp.ClientSession() as http,
        await PluginClient.open(http, answer["session"], **more) as client,
    ):
        yield client


def is_running(words: str) -> bool:
    """Tell whether a process of this machine has exactly this command line."""
    done = subprocess.run(["pgrep", "-fx", words], capture_output=True, check=False)
    return bool(done.stdout)


async def test_a_shell_with_sizes_and_an_exit_code(host: tuple[Fleet, str]) -> None:
    async with plugin(host, "/bin/sh", size=(33, 99), drops=1) as client:
        await client.until(b"# ")
        await client.type("stty size\r")
        await client.until(b"33 99")
        await client.resize(44, 111)
        await client.type("stty size\r")
        await client.until(b"44 111")
        await client.type("exit 5\r")
        assert await client.end() == "the command ended with exit code 5"
    async with plugin(host, f'/bin/sh -c "{_BLOB}"') as client:
        assert await client.end() == ""
        assert hashlib.sha256(client.shown).digest() == hashlib.sha256(b"x" * 2097152).digest()
    async with plugin(host, "no-such-program") as client:
        assert await client.end() == "the container has no program 'no-such-program'"


async def test_a_command_ends_with_its_client(host: tuple[Fleet, str]) -> None:
    words = "sleep 86123"
    async with plugin(host, words) as client:
        await asyncio.to_thread(eventually, lambda: is_running(words), what="it runs")
        client.vanish()
        await asyncio.to_thread(eventually, lambda: not is_running(words), what="it has ended")


def test_the_aws_cli_and_our_own(host: tuple[Fleet, str], tmp_path: Path) -> None:
    made, task = host
    real = shutil.which("session-manager-plugin")
    ours = tmp_path / "session-manager-plugin"
    ours.write_text(
        f'#!/bin/sh\ncd {ROOT}\nexec {sys.executable} -m tests.support.session_plugin "$@"\n'
    )
    ours.chmod(0o755)
    plugins = [str(ours), *([real] if real else [])]
    keys = {**KEYS, "AWS_ENDPOINT_URL_ECS": made.control.url}
    for one in plugins:
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("aws")),
                *("ecs", "execute-command", "--task", task, "--container", "c0", "--interactive"),
                *("--command", "/bin/sh"),
            ],
            input=b"echo $((6 * 7)) is it\nexit\n",
            env={**os.environ, **keys, "PATH": f"{Path(one).parent}:{os.environ['PATH']}"},
            capture_output=True,
            timeout=LIMIT_S,
            check=True,
        )
        assert b"42 is it" in done.stdout, (done.stdout, done.stderr)
    data = made.directory / "control"
    done = subprocess.run(
        [
            str(COMMAND),
            *("exec", "--cluster", "default", "--data-dir", str(data), "web", "--"),
            *("sh", "-c", "cat; echo err >&2; exit 9"),
        ],
        input=b"x" * 3_000_000,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (9, b"err\n"), done.stderr
    assert done.stdout == b"x" * 3_000_000


async def test_restarts_end_sessions_with_a_word(host: tuple[Fleet, str]) -> None:
    made, _ = host
    words = "sleep 86124"
    for process, told in (
        (made.agents[0], "the agent of the task's host stops; the command was ended"),
        (made.control, "control stops; the command was ended"),
    ):
        async with plugin(host, words) as client:
            await asyncio.to_thread(eventually, lambda: is_running(words), what="it runs")
            await asyncio.to_thread(process.stop)
            assert await client.end() == told
        await asyncio.to_thread(eventually, lambda: not is_running(words), what="it has ended")
        process.start()
        if process is made.control:
            await asyncio.to_thread(made.control.ready)
        await asyncio.to_thread(made.wait_connected)
    async with plugin(host, "/bin/sh -c 'echo back'") as client:
        await client.until(b"back")
