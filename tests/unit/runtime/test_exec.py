"""A command's connection: frames however they are cut, and the end of a process that nobody wants."""

from __future__ import annotations

import asyncio
import signal
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import EngineRefused, EngineTimeout, EngineUnavailable
from agent.runtime.docker import exec as docker_exec
from agent.runtime.docker import hangup
from agent.runtime.docker.client import ExecState
from agent.runtime.docker.exec import DockerExec, ExecCalls, attach

if TYPE_CHECKING:
    from agent.model.exec import TerminalSize

LIMIT_S = 20.0
OURS = Path("/proc/self/cgroup").read_text().splitlines()[0]
"""What is in the control group of each process of this test, like the id of a container."""


class Writer:
    """The writing half of a connection that nobody uses here."""

    def close(self) -> None:
        pass


async def inspect() -> ExecState:
    return ExecState(running=False, exit_code=3, pid=0)


async def resize(size: TerminalSize) -> None:
    raise AssertionError(size)


def session(reader: asyncio.StreamReader, *, has_terminal: bool = False) -> DockerExec:
    writer: asyncio.StreamWriter = Writer()  # type: ignore[assignment]
    return DockerExec("c1", ExecCalls(inspect, resize), (reader, writer), has_terminal=has_terminal)


async def everything(command: DockerExec) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while (piece := await command.read()) is not None:
        found[piece[0]] = found.get(piece[0], b"") + piece[1]
    return found


@given(
    frames=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=300)), max_size=8),
    cut=st.integers(1, 50),
)
def test_frames_are_told_apart_however_they_are_cut(
    frames: list[tuple[int, bytes]], cut: int
) -> None:
    wire = b"".join(struct.pack(">BxxxL", s, len(data)) + data for s, data in frames)
    expected: dict[int, bytes] = {}
    for stream, data in frames:
        if data:
            expected[stream] = expected.get(stream, b"") + data

    async def run() -> dict[int, bytes]:
        reader = asyncio.StreamReader()

        async def feed() -> None:
            for start in range(0, len(wire), cut):
                reader.feed_data(wire[start : start + cut])
                await asyncio.sleep(0)
            reader.feed_eof()

        feeding = asyncio.create_task(feed())
        found = await everything(session(reader))
        await feeding
        return found

    assert asyncio.run(run()) == expected


async def test_output_of_a_terminal_has_no_frames() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"\x01raw")
    reader.feed_eof()
    assert await everything(session(reader, has_terminal=True)) == {1: b"\x01raw"}


async def test_a_command_that_has_ended_is_not_ended_again() -> None:
    command = session(asyncio.StreamReader())
    assert (await command.result()).exit_code == 3
    await command.close()
    await command.close()


async def process(script: str) -> asyncio.subprocess.Process:
    """Start a process that leads its group, and return once it is ready."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert started.stdout is not None
    await started.stdout.readline()
    return started


SLEEP = "import time; print(flush=True); time.sleep(100)"
DEAF = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); {SLEEP}"


async def test_a_command_gets_sighup() -> None:
    victim = await process(SLEEP)
    assert await hangup.end(victim.pid, OURS)
    assert await victim.wait() == -signal.SIGHUP


async def test_one_that_ignores_sighup_is_killed() -> None:
    victim = await process(DEAF)
    assert await hangup.end(victim.pid, OURS, grace_s=0.2)
    assert await victim.wait() == -signal.SIGKILL


async def test_one_is_killed_at_once_when_there_is_no_time() -> None:
    victim = await process(DEAF)
    ending = asyncio.create_task(hangup.end(victim.pid, OURS))
    await asyncio.sleep(0.3)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert await victim.wait() == -signal.SIGKILL


async def test_a_process_of_another_container_is_left_alone() -> None:
    bystander = await process(SLEEP)
    assert not await hangup.end(bystander.pid, "f" * 64)
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()
    assert not await hangup.end(bystander.pid, OURS)


async def answer_with(path: Path, data: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(serve, path)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (
            b'HTTP/1.1 409 Conflict\r\nContent-Length: 29\r\n\r\n{"message":"it is not there"}',
            EngineRefused,
            "it is not there",
        ),
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\nodd\n", EngineRefused, "odd"),
        (b"what?\r\n\r\n", EngineUnavailable, "cannot reach"),
        (b"", EngineUnavailable, "cannot reach"),
    ],
)
async def test_an_answer_that_is_no_start_is_an_error(
    tmp_path: Path, data: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / "engine.sock"
    async with await answer_with(path, data):
        with pytest.raises(error, match=words):
            await attach(str(path), "/exec/e/start", {})


async def test_no_answer_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_exec, "START_LIMIT_S", 0.1)
    release = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    path = tmp_path / "engine.sock"
    async with await asyncio.start_unix_server(hang, path):
        with pytest.raises(EngineTimeout):
            await attach(str(path), "/exec/e/start", {})
        release.set()
    with pytest.raises(EngineUnavailable, match="cannot reach"):
        await attach(str(tmp_path / "nothing"), "/exec/e/start", {})
