"""Runs of programs: real ones, with every way in which they can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING

from agent.controlplane.host_scaling import program
from agent.controlplane.host_scaling.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

WAIT_S = 60.0


def hook(tmp_path: Path, script: str, limit_s: float = 60.0) -> Hook:
    file = tmp_path / "program"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return Hook((str(file), "one"), 5, time_limit_seconds=limit_s)


async def is_running(pid: int) -> bool:
    """Return whether a process is there that has not ended."""

    def look() -> bool:
        return bool(program._started(pid)) and not program._has_ended(pid)

    return await asyncio.to_thread(look)


async def not_running(pid: int) -> bool:
    return not await is_running(pid)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110 - another process changes it
            await asyncio.sleep(0.02)


async def test_it_gets_the_document_and_its_arguments(tmp_path: Path) -> None:
    one = hook(tmp_path, f'cat > {tmp_path}/got; echo "$1" >> {tmp_path}/got')
    document = json.dumps({"x": "y" * 200_000}).encode()
    assert await program.run(one, document, tmp_path / "note") == ""
    assert (tmp_path / "got").read_bytes() == document + b"one\n"


async def test_one_that_does_not_read_and_prints_without_end_does_no_harm(tmp_path: Path) -> None:
    one = hook(tmp_path, "head -c 3000000 /dev/zero; printf '\\n\\033[31mbad\\n' >&2; exit 3")
    told = await program.run(one, b"x" * 1_000_000, tmp_path / "note")
    assert told == f"{one.command[0]} ended with 3: \\x1b[31mbad"


async def test_one_that_is_missing_or_is_no_program_is_told(tmp_path: Path) -> None:
    gone = Hook(("/no/such/program",), 1)
    assert "No such file" in await program.run(gone, b"", tmp_path / "note")
    one = hook(tmp_path, "")
    (tmp_path / "program").write_bytes(b"\x7fELF rubbish")
    assert "Exec format error" in await program.run(one, b"", tmp_path / "note")


async def test_one_that_hangs_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = hook(
        tmp_path, f"trap '' TERM; sleep 600 & echo $! > {tmp_path}/child; wait; sleep 600", 1
    )
    monkeypatch.setattr(program, "GRACE_S", 0.1)
    told = await program.run(one, b"", tmp_path / "note")
    assert "had not ended after 1 s" in told
    child = int((tmp_path / "child").read_text())
    await until(lambda: not_running(child))


async def test_one_that_leaves_something_running_is_done_when_it_ends(tmp_path: Path) -> None:
    one = hook(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child")
    async with asyncio.timeout(WAIT_S):
        assert await program.run(one, b"", tmp_path / "note") == ""
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


async def test_one_killed_by_a_signal_is_told(tmp_path: Path) -> None:
    assert "was ended by signal 9" in await program.run(
        hook(tmp_path, "kill -9 $$"), b"", tmp_path / "note"
    )


async def test_a_run_that_is_cancelled_is_ended(tmp_path: Path) -> None:
    one = hook(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600")
    running = asyncio.create_task(program.run(one, b"", tmp_path / "note"))
    pid = tmp_path / "pid"

    async def is_noted() -> bool:
        return pid.exists() and bool(pid.read_text())

    await until(is_noted)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not await is_running(int((tmp_path / "pid").read_text()))


async def test_a_run_of_an_earlier_control_is_waited_for(tmp_path: Path) -> None:
    note, fifo = tmp_path / "note", tmp_path / "fifo"
    os.mkfifo(fifo)
    earlier = await asyncio.create_subprocess_exec("/bin/cat", str(fifo))
    await asyncio.to_thread(program._write_note, note, earlier.pid)
    one = hook(tmp_path, f"touch {tmp_path}/ran")
    running = asyncio.create_task(program.run(one, b"", note))
    await asyncio.sleep(0.2)
    assert not (tmp_path / "ran").exists()
    fifo.write_text("")
    async with asyncio.timeout(WAIT_S):
        await earlier.wait()
        assert await running == ""
    assert (tmp_path / "ran").exists()


async def test_a_note_of_a_process_that_is_another_now_holds_up_nobody(tmp_path: Path) -> None:
    note = tmp_path / "note"
    for text in ("", "rubbish", f"{os.getpid()} 1"):
        note.write_text(text)
        async with asyncio.timeout(WAIT_S):
            assert await program.run(hook(tmp_path, ""), b"", note) == ""
