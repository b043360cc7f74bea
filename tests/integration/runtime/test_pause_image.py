"""The pause program at work: loaded without a registry, quick to stop, buries children."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import NoSuchImage
from agent.runtime.pause import ensure_pause_image, pause_reference

if TYPE_CHECKING:
    from agent.runtime.docker import DockerEngine
    from tests.integration.conftest import Containers

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("leak_check")]

MACHINE = os.uname().machine
OTHER = "arm64" if MACHINE == "x86_64" else "amd64"
REFERENCE = pause_reference(OTHER)
NO_NETWORK = {"NetworkMode": "none"}


async def test_the_image_is_loaded_once(engine: DockerEngine) -> None:
    await engine.remove_image(REFERENCE)
    with pytest.raises(NoSuchImage):
        await engine.inspect_image(REFERENCE)
    assert await ensure_pause_image(engine, OTHER) == REFERENCE
    found = await engine.inspect_image(REFERENCE)
    assert 0 < found.size_bytes < 1024
    assert await ensure_pause_image(engine, OTHER) == REFERENCE
    assert await engine.inspect_image(REFERENCE) == found
    await engine.remove_image(REFERENCE)


async def test_stopping_takes_no_time(engine: DockerEngine, containers: Containers) -> None:
    image = await ensure_pause_image(engine, MACHINE)
    made = await containers.create([], Image=image, HostConfig=NO_NETWORK)
    await engine.start_container(made)
    began = time.monotonic()
    await engine.stop_container(made, timeout_s=30)
    assert time.monotonic() - began < 5
    assert (await engine.inspect_container(made)).exit_code == 0


async def test_orphans_are_buried(engine: DockerEngine, containers: Containers) -> None:
    image = await ensure_pause_image(engine, MACHINE)
    pause = await containers.create([], Image=image, HostConfig=NO_NETWORK)
    await engine.start_container(pause)
    # Each inner shell ends before its child, which PID 1 then inherits.
    script = "for i in 1 2 3; do sh -c 'sleep 0.1 & exit 0'; done; sleep 0.5"
    host = {"NetworkMode": f"container:{pause}", "PidMode": f"container:{pause}"}
    await containers.run(["sh", "-c", script], HostConfig=host)
    pid = (await engine.inspect_container(pause)).pid
    await asyncio.sleep(0.8)
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children == []
    assert (await engine.inspect_container(pause)).running


def test_the_arm64_program_ends_on_sigterm() -> None:
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("qemu-aarch64-static is missing: apt-get install qemu-user-static")
    with resources.as_file(resources.files("agent.runtime.pause") / "pause-arm64") as program:
        # Nothing tells when the emulated program waits for signals; one that comes before kills it.
        for patience_s in (0.3, 1.0, 3.0, 6.0):
            process = subprocess.Popen([emulator, program])
            time.sleep(patience_s)
            assert process.poll() is None
            process.terminate()
            code = process.wait(timeout=5)
            if code != -signal.SIGTERM:
                break
        assert code == 0
