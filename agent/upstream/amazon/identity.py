"""Decides whether the saved state belongs to this machine.

The state of another host must not be used, because two hosts would claim the same container
instance. It can get here with an image made from a used host, a cloned disk, or a moved disk. The
facts that distinguish hosts change only while a host is down. So within one boot the state is
always kept: a wrong guess cannot lose a running task.

Reads ``/proc``, ``/etc``, ``/sys/class/dmi`` and instance metadata. Accesses the ``meta`` table,
and renames the state file in ``put_aside``. A fact that cannot be read is empty and has no
influence. Source of the rule on EC2: Amazon ECS agent 1.105.1, ``agent/app/agent.go``.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.errors import AwsUnavailable, StateFailure
from agent.state import Batch
from agent.upstream import host_identity
from agent.upstream.amazon.calls import asked

if TYPE_CHECKING:
    from agent.state import StateStore
    from agent.upstream.amazon.calls import InstanceMetadata

_log = structlog.get_logger()

BOOT: Final = "ecs.bootId"
MACHINE: Final = "ecs.machineId"
PRODUCT: Final = "ecs.productUuid"
INSTANCE: Final = "ecs.instanceArn"

_COMPANIONS: Final = ("", "-wal", "-shm", ".identity")
"""The state file, its SQLite companions, and the mirror."""
METADATA_LIMIT_S: Final = 10.0
"""How long the start waits for instance metadata to return the instance id."""

_EC2_ID = re.compile(r"i-[0-9a-f]{8,32}")


class HostIdentity(Struct, frozen=True, kw_only=True):
    """Facts that distinguish this host from others; empty if unknown."""

    boot_id: str = ""
    """Created by the kernel at each boot."""
    machine_id: str = ""
    """``/etc/machine-id``: created at installation, and copied when a disk is copied."""
    product_uuid: str = ""
    """The firmware's UUID of this machine, in lower case."""
    ec2_instance_id: str = ""


def difference(saved: HostIdentity, now: HostIdentity) -> str:
    """Return why the state saved on ``saved`` is not this host's; empty if it may be.

    Pure. The EC2 instance id decides if both are known, else the product UUID, else the machine id.
    The latter two count only after a reboot, because an update may change them.
    """
    if saved.boot_id and saved.boot_id == now.boot_id:
        return ""
    if saved.ec2_instance_id and now.ec2_instance_id:
        if saved.ec2_instance_id == now.ec2_instance_id:
            return ""
        return (
            f"it is of the EC2 instance {saved.ec2_instance_id}, but this is {now.ec2_instance_id}"
        )
    if not saved.boot_id or not now.boot_id:
        return ""
    if saved.product_uuid and now.product_uuid:
        if _same_product(saved.product_uuid, now.product_uuid):
            return ""
        return (
            f"it is of the machine {saved.product_uuid}, but this is {now.product_uuid}"
            " (product UUID of the firmware)"
        )
    if saved.machine_id and now.machine_id and saved.machine_id != now.machine_id:
        return (
            f"it is of the machine {saved.machine_id}, but this is {now.machine_id}"
            " (/etc/machine-id)"
        )
    return ""


async def verdict(store: StateStore, now: HostIdentity) -> str:
    """Return why the state in this store is of another host; empty if it should be kept.

    Raises:
        StateFailure: the store cannot be read.
    """
    return difference(await _saved(store), now)


async def remember(store: StateStore, now: HostIdentity) -> None:
    """Store, durably, that the state is of this host in this boot. Idempotent.

    Facts that are unknown now keep their old value. A full disk must not prevent the start: the
    next start then compares with what was stored last.

    Raises:
        StateFailure: the store cannot be read.
    """
    known = {
        BOOT: now.boot_id,
        MACHINE: now.machine_id,
        PRODUCT: now.product_uuid,
        host_identity.EC2_INSTANCE: now.ec2_instance_id,
    }
    batch = Batch()
    for key, value in known.items():
        if value and await store.get_meta(key) != value:
            batch.put_meta(key, value)
    if len(batch):
        try:
            await store.commit(batch)
        except StateFailure as error:
            _log.warning("the identity of the state's host could not be saved", error=str(error))


async def owner_name(store: StateStore) -> str:
    """Return a short name of the host that the state is of, safe as part of a file name.

    Raises:
        StateFailure: the store cannot be read.
    """
    saved = await _saved(store)
    arn = await store.get_meta(INSTANCE) or ""
    name = saved.ec2_instance_id or arn.rsplit("/", 1)[-1] or saved.product_uuid
    return re.sub(r"[^A-Za-z0-9-]", "", name)[:64] or "another-host"


def put_aside(path: Path, suffix: str) -> Path:
    """Rename a state file and its companions to ``<name>.<suffix>``; blocks.

    The store must be closed. If the name is taken, a number is added. After a crash in between, the
    state file is still there, and the next start decides again. Nothing is ever overwritten or
    removed.

    Returns:
        The new name of the state file.

    Raises:
        StateFailure: the file cannot be renamed.
    """
    for number in itertools.count(1):
        target = path.with_name(f"{path.name}.{suffix}" + (f".{number}" if number > 1 else ""))
        if not any(os.path.lexists(f"{target}{ending}") for ending in _COMPANIONS):
            break
    try:
        # The state file is renamed last: a new one must never find an old journal beside it.
        for ending in _COMPANIONS[1:]:
            beside = Path(f"{path}{ending}")
            if beside.exists():
                beside.rename(f"{target}{ending}")
        path.rename(target)
        _sync(path.parent)
    except OSError as error:
        raise StateFailure(
            f"{path} is the state of another host and cannot be renamed to {target.name}:"
            f" {error.strerror}; move it away and start the agent again"
        ) from error
    return target


async def read_host_identity(
    imds: InstanceMetadata | None,
    *,
    root: Path = Path("/"),
    limit_s: float = METADATA_LIMIT_S,
) -> HostIdentity:
    """Return this host's identity; takes at most ``limit_s`` if instance metadata does not answer.

    Args:
        imds: instance metadata; None if it is not used.
        root: where ``proc``, ``etc`` and ``sys`` are; for tests.
        limit_s: how long to wait for the EC2 instance id.
    """
    here, ec2_instance_id = await asyncio.gather(
        asyncio.to_thread(_read_here, root), _ec2_instance_id(imds, limit_s)
    )
    return HostIdentity(
        boot_id=here.boot_id,
        machine_id=here.machine_id,
        product_uuid=here.product_uuid,
        ec2_instance_id=ec2_instance_id,
    )


async def _saved(store: StateStore) -> HostIdentity:
    return HostIdentity(
        boot_id=await store.get_meta(BOOT) or "",
        machine_id=await store.get_meta(MACHINE) or "",
        product_uuid=await store.get_meta(PRODUCT) or "",
        ec2_instance_id=await store.get_meta(host_identity.EC2_INSTANCE) or "",
    )


async def _ec2_instance_id(imds: InstanceMetadata | None, limit_s: float) -> str:
    metadata = asked(imds)
    if metadata is None:
        return ""
    try:
        found = await metadata.insist("meta-data/instance-id", limit_s=limit_s) or ""
    except AwsUnavailable as error:
        _log.warning(
            "instance metadata does not say which EC2 instance this is; the saved state is checked"
            " only against the machine",
            error=str(error),
        )
        return ""
    return found if _EC2_ID.fullmatch(found) else ""


def _same_product(one: str, other: str) -> bool:
    """Compare UUIDs; firmware may write the first three parts in either byte order."""
    return other in (one, _swapped(one))


def _swapped(uuid: str) -> str:
    parts = uuid.split("-")
    if len(parts) != 5:
        return uuid
    return "-".join([*(_reversed_bytes(part) for part in parts[:3]), *parts[3:]])


def _reversed_bytes(digits: str) -> str:
    return "".join(digits[at : at + 2] for at in range(len(digits) - 2, -2, -2))


def _read_here(root: Path) -> HostIdentity:
    return HostIdentity(
        boot_id=host_identity.boot_id(root),
        machine_id=host_identity.machine_id(root),
        product_uuid=host_identity.product_uuid(root),
    )


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
