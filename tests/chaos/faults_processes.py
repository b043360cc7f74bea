"""Processes die, hang, and run out of memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.scene import Skip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene
    from tests.chaos.world import Supervised
    from tests.support.forked import Forked

_ROOM_BYTES = 2 << 20
"""How much more memory a process gets that is short of it: what it has already is not counted."""
_GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def killed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Kill agent or control with SIGKILL."""
    process = _struck(scene, fault)
    process.kill()
    try:
        yield
    finally:
        process.start()


@contextlib.contextmanager
def paused(scene: Scene, fault: Fault) -> Iterator[None]:
    """Stop agent or control with SIGSTOP."""
    process = _struck(scene, fault)
    popen = process.process.popen
    if popen is None or popen.poll() is not None:
        raise Skip("it does not run")
    with _stopped(popen):
        yield


@contextlib.contextmanager
def engine_killed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Kill the engine with SIGKILL; its containers go on.

    An agent that is just starting may say so and end: it is started again. One that has started has to wait.
    """
    del fault
    began = time.time()
    with contextlib.ExitStack() as stack:
        for agent in scene.world.agents:
            stack.enter_context(agent.may_fail_to_start())
        scene.world.engine.kill()
        try:
            yield
        finally:
            scene.world.engine.start()
            scene.excuses.engine_deaths.append((began, time.time()))


@contextlib.contextmanager
def engine_paused(scene: Scene, fault: Fault) -> Iterator[None]:
    """Stop the engine with SIGSTOP."""
    del fault
    popen = scene.world.engine.process
    assert popen is not None
    with _stopped(popen):
        yield


@contextlib.contextmanager
def short_of_memory(scene: Scene, fault: Fault) -> Iterator[None]:
    """Let a process have hardly more memory than it has; the kernel may end it."""
    process = _struck(scene, fault)
    with process.lock:
        if not process.process.is_alive():
            raise Skip("it does not run")
        pid = process.process.pid
    with process.may_exit(), _group(f"chaos-{os.getpid()}-{fault.target}", pid) as group:
        file = "memory.limit_in_bytes" if _is_first_version() else "memory.max"
        (group / file).write_text(str(_ROOM_BYTES))
        yield


@contextlib.contextmanager
def processors_taken(scene: Scene, fault: Fault) -> Iterator[None]:
    """Compute in vain with twice as many processes as there are processors."""
    del scene, fault
    burners = [
        subprocess.Popen(["busybox", "sh", "-c", "while :; do :; done"])
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for each in burners:
            each.kill()
            each.wait()


def _struck(scene: Scene, fault: Fault) -> Supervised:
    if fault.target == "control":
        return scene.world.control
    return scene.world.agents[scene.number(fault)]


@contextlib.contextmanager
def _stopped(popen: subprocess.Popen[bytes] | Forked) -> Iterator[None]:
    popen.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        popen.send_signal(signal.SIGCONT)


def _is_first_version() -> bool:
    return (_GROUPS / "memory").is_dir()


@contextlib.contextmanager
def _group(name: str, pid: int) -> Iterator[Path]:
    """Put a process into a control group of memory; what is left of it goes back in the end."""
    root = _GROUPS / "memory" if _is_first_version() else _GROUPS
    group = root / name
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (root / "cgroup.procs").write_text(left)
        group.rmdir()
