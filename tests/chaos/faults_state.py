"""Disks are full and read-only; what agents and control wrote down is lost, damaged, or an older copy.

What may be lost is what ``docs/reliability.md`` promises to survive, one loss at a time, once the one before is
overcome. Control's store is not damaged: control then refuses to start and names the way out, which is an
older copy.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.scene import Skip
from tests.support.fleet import LONG_POLL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene
    from tests.chaos.world import Supervised

_PAGE_BYTES = 4096
_MOST_PAGES = 3
_SETTLED_LIMIT_S = 45.0
_IDENTITY = ("agent.db", "agent.db.identity")
_STORE = ("control.db", "control.db-wal")


@contextlib.contextmanager
def disk_full(scene: Scene, fault: Fault) -> Iterator[None]:
    """Take all that is left of a disk; a process that is started meanwhile says so and ends."""
    process, ballast = _process(scene, fault), _place(scene, fault) / "ballast"
    with process.may_exit():
        with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
            for size in (65_536, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"b" * size):
                        pass
        try:
            yield
        finally:
            ballast.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_read_only(scene: Scene, fault: Fault) -> Iterator[None]:
    """Start the process on a disk that cannot be written; it may end, again and again."""
    process, place = _process(scene, fault), _place(scene, fault)
    with process.may_exit(), _dead(process), read_only(place):
        process.start()
        try:
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def state_file_lost(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove the agent's state file and its log while it is dead."""
    with _loss(scene, fault) as place:
        for suffix in ("", "-wal", "-shm"):
            (place / f"agent.db{suffix}").unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def state_file_damaged(scene: Scene, fault: Fault) -> Iterator[None]:
    """Overwrite some pages of the agent's state file, or of its log, while it is dead."""
    chance = random.Random(fault.chance)
    with _loss(scene, fault) as place:
        file = place / chance.choice(("agent.db", "agent.db", "agent.db-wal"))
        pages = file.stat().st_size // _PAGE_BYTES if file.exists() else 0
        with file.open("rb+") if pages else contextlib.nullcontext() as out:
            for _ in range(chance.randint(1, _MOST_PAGES) if out is not None else 0):
                assert out is not None
                out.seek(chance.randrange(pages) * _PAGE_BYTES)
                out.write(chance.choice((b"\xa5", b"\0")) * _PAGE_BYTES)
        yield


@contextlib.contextmanager
def directory_lost(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove all that the agent wrote down while it is dead."""
    _need_our_wire(scene, fault)
    with _loss(scene, fault) as place:
        _empty(place)
        yield


@contextlib.contextmanager
def directory_removed(scene: Scene, fault: Fault) -> Iterator[None]:
    """Remove all that the agent wrote down while it runs, and let it write down again who it is.

    If it were killed before, on a busy machine, it would have lost its directory while it is dead.
    """
    with scene.one_loss:
        _wait_settled(scene, fault)
        place = _place(scene, fault)
        _empty(place)
        yield
        wait_written(place, _SETTLED_LIMIT_S)


@contextlib.contextmanager
def state_older(scene: Scene, fault: Fault) -> Iterator[None]:
    """Replace all that the agent wrote down by a copy from before."""
    _need_our_wire(scene, fault)
    with scene.one_loss, tempfile.TemporaryDirectory(prefix="chaos-copy-") as kept:
        _wait_settled(scene, fault)
        process, place, copy = _process(scene, fault), _place(scene, fault), Path(kept) / "copy"
        with _dead(process):
            shutil.copytree(place, copy)
        try:
            yield
        finally:
            with _dead(process):
                _empty(place)
                shutil.copytree(copy, place, dirs_exist_ok=True)


@contextlib.contextmanager
def store_older(scene: Scene, fault: Fault) -> Iterator[None]:
    """Replace control's store by a copy from before: what was ordered since may be forgotten."""
    del fault
    control, place = scene.world.control, scene.world.control_data
    with scene.one_loss, tempfile.TemporaryDirectory(prefix="chaos-copy-") as kept:
        for number in range(len(scene.world.agents)):
            if not scene.world.wait_settled(number, _SETTLED_LIMIT_S):
                raise Skip("an agent has not settled")
        with _dead(control):
            began_s = scene.history.now_s()
            for name in _STORE:
                if (place / name).exists():
                    shutil.copy(place / name, kept)
        try:
            yield
        finally:
            with _dead(control):
                for name in _STORE:
                    (place / name).unlink(missing_ok=True)
                for file in Path(kept).iterdir():
                    shutil.copy(file, place)
                scene.excuses.gone_back.append((began_s, scene.history.now_s()))


def wait_written(place: Path, within_s: float) -> None:
    """Wait until an agent has written down who it is; raises ``TimeoutError``."""
    deadline = time.monotonic() + within_s
    while not all((place / name).exists() for name in _IDENTITY):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the agent has not written {place} again")
        time.sleep(0.05)


@contextlib.contextmanager
def _loss(scene: Scene, fault: Fault) -> Iterator[Path]:
    with scene.one_loss:
        _wait_settled(scene, fault)
        with _dead(_process(scene, fault)):
            yield _place(scene, fault)


@contextlib.contextmanager
def _dead(process: Supervised) -> Iterator[None]:
    """Kill a process, and start it in the end, whatever becomes of what is done meanwhile."""
    process.kill()
    try:
        yield
    finally:
        process.start()


def _wait_settled(scene: Scene, fault: Fault) -> None:
    """An agent has overcome the loss before; the engine and control may still be in trouble."""
    if not scene.world.wait_settled(scene.number(fault), _SETTLED_LIMIT_S):
        raise Skip("the agent has not settled")


def _need_our_wire(scene: Scene, fault: Fault) -> None:
    """By Amazon's wire, control does not know a host again that has lost its identity."""
    if scene.world.wires[scene.number(fault)] != LONG_POLL:
        raise Skip("not promised by Amazon's wire")


def _process(scene: Scene, fault: Fault) -> Supervised:
    if fault.target == "control":
        return scene.world.control
    return scene.world.agents[scene.number(fault)]


def _place(scene: Scene, fault: Fault) -> Path:
    if fault.target == "control":
        return scene.world.control_data
    return scene.world.agent_data(scene.number(fault))


@contextlib.contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let nothing be written through a mount point.

    Not the whole file system: the kernel refuses that while a removed file is in use, such as the hosts file of
    a container whose agent has lost its directory.
    """
    _remount(place, "ro")
    try:
        yield
    finally:
        _remount(place, "rw")


def _remount(place: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,bind,{how}", str(place)], check=True)


def _empty(place: Path) -> None:
    """Remove all that is in a directory; it is a mount point, and stays."""
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
