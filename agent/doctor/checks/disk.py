"""Disks for state, images and containers: space, inodes, and type of file system."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from agent.doctor.host import HostFacts

_GIB, _MIB = 1024**3, 1024**2
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "fuse.sshfs"})
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory and the file system that holds it."""

    what: str
    """What is kept there: ``the agent's state``."""
    path: str
    exists: bool
    mode: int = 0
    owner: int = 0
    size: int = 0
    free: int = 0
    """Free bytes, without the reserve for root."""
    inodes: int = 0
    """0 if the file system creates inodes as needed."""
    inodes_free: int = 0
    read_only: bool = False
    kind: str = ""
    """Type of the file system: ``ext4``."""
    trouble: str = ""
    unread: bool = False
    """This user may not access it."""
    need: int = 0
    """With fewer free bytes, it cannot work."""
    comfort: int = 0
    """With fewer free bytes, it will soon stop working."""


async def check(host: HostFacts) -> list[Finding]:
    """Check the data directories of the agent and the engine."""
    mounts = await host.text("proc/self/mountinfo")
    state = host.settings.data_dir
    places = [
        await reading.blocking(
            lambda: look_at(state, "the agent's state", mounts, 50 * _MIB, 500 * _MIB)
        )
    ]
    engine_root = str((await host.engine()).info.get("DockerRootDir", ""))
    if engine_root and host.engine_socket:
        directory = Path(engine_root)
        places.append(
            await reading.blocking(
                lambda: look_at(directory, "images and containers", mounts, 200 * _MIB, 5 * _GIB)
            )
        )
    findings = [finding for place in places for finding in judge(place)]
    if not engine_root:
        findings += _without_engine()
    return findings


def _without_engine() -> list[Finding]:
    verdict = FindingList("disk")
    verdict.unknown(
        "where images and containers are stored, and how much space is left,",
        "the engine does not say",
        "fix the findings about docker first",
    )
    return verdict.findings


def look_at(path: Path, what: str, mounts: str, need: int, comfort: int) -> Place:
    """Read the facts about a directory, or about its closest existing parent. Blocks."""
    there = path
    try:
        while not there.exists() and there != there.parent:
            there = there.parent
        facts, room = there.stat(), os.statvfs(there)
    except PermissionError as error:
        reading.note_refusal(there, error)
        return Place(what=what, path=str(path), exists=False, unread=True)
    except OSError as error:
        return Place(what=what, path=str(path), exists=False, trouble=str(error.strerror))
    return Place(
        what=what,
        path=str(path),
        exists=there == path,
        mode=stat.S_IMODE(facts.st_mode),
        owner=facts.st_uid,
        size=room.f_blocks * room.f_frsize,
        free=room.f_bavail * room.f_frsize,
        inodes=room.f_files,
        inodes_free=room.f_favail,
        read_only=bool(room.f_flag & os.ST_RDONLY),
        kind=file_system_of(there.resolve(), mounts),
        need=need,
        comfort=comfort,
    )


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds a path, from a ``mountinfo``; or empty."""
    best, kind = "", ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields, about = left.split(), right.split()
        if len(fields) < 5 or not about:
            continue
        point = fields[4].replace("\\040", " ")
        # If two mounts have the same mount point, the later one is visible.
        if len(point) >= len(best) and path.is_relative_to(point):
            best, kind = point, about[0]
    return kind


def judge(place: Place) -> list[Finding]:
    """Return the verdict on one directory. Pure."""
    verdict = FindingList("disk")
    where = f"{place.path} ({place.what})"
    if place.unread:
        return verdict.findings  # reported with everything that could not be read
    if place.trouble:
        verdict.error(f"{where} cannot be accessed: {place.trouble}", "fix the file system")
        return verdict.findings
    if place.read_only:
        verdict.error(
            f"the file system of {where} is read-only, often because of disk errors",
            "look at the kernel messages; repair the file system and mount it again",
            "dmesg | grep -iE 'ext4|xfs|i/o error' | tail",
        )
    _judge_room(verdict, place, where)
    if place.what == "the agent's state":
        _judge_state(verdict, place, where)
    if not verdict.findings:
        made = "" if place.exists else ", created at the first start"
        verdict.ok(f"{where}{made}: {_size(place.free)} free of {_size(place.size)}")
    return verdict.findings


def _judge_room(verdict: FindingList, place: Place, where: str) -> None:
    room = f"{where} has {_size(place.free)} free of {_size(place.size)}"
    mend = "free space: remove images that no container uses, and old logs"
    command = "docker system df && docker image prune -a"
    if place.what == "the agent's state":
        mend, command = "free space on that disk", f"du -xh --max-depth=2 {place.path} | sort -h"
    if place.free < place.need:
        verdict.error(f"{room}: it needs at least {_size(place.need)}", mend, command)
    elif place.free < place.comfort and place.free < place.size // 2:
        verdict.warn(f"{room}: the disk will soon be full", mend, command)
    if place.inodes and place.inodes_free < place.inodes // 50:
        left = f"{place.inodes_free} of {place.inodes} inodes left"
        tell = verdict.error if place.inodes_free < 1000 else verdict.warn
        tell(
            f"{where} has {left}: without inodes, no file can be created although there is space",
            "remove directories with very many small files",
            f"du -x --inodes --max-depth=3 {place.path} | sort -n | tail",
        )


def _judge_state(verdict: FindingList, place: Place, where: str) -> None:
    if place.kind in _NETWORK:
        verdict.error(
            f"{where} is on {place.kind}, a network file system, where databases can be damaged",
            "set ECS_DATADIR to a directory on a local disk",
        )
    if place.kind in _IN_MEMORY:
        verdict.warn(
            f"{where} is on {place.kind}: after a reboot, this host loses its registration",
            "set ECS_DATADIR to a directory on a disk",
        )
    if place.exists and place.owner != 0:
        verdict.error(
            f"{where} belongs to user {place.owner}, who could change what the agent runs",
            "give it to root",
            f"chown -R root:root {place.path}",
        )
    if place.exists and place.mode & 0o077:
        verdict.warn(
            f"{where} has mode {place.mode:04o}: other users of this host can read it",
            "make it accessible only to root",
            f"chmod 700 {place.path}",
        )


def _size(count: int) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB else f"{count / _MIB:.0f} MiB"
