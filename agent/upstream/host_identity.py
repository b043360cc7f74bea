"""The host's identity, also after the files that contain it were lost.

There are three sources; each is used if the one before is lost:

1. The state file has the values of ``KEPT``.
2. So has the mirror, a small file beside it (``state.mirrored_values``).
3. If both are lost, the machine itself yields the same id as before, and a key that only it can
   compute. From them control recognizes the instance (``controlplane.agents.registration``), and
   the agent derives the name under which it recognizes its containers.

Id and key are computed from two values that only root can read together: ``/etc/machine-id``, which
containers cannot see, and the firmware's product UUID, which ordinary users cannot see. Host name
and data directory are included, so that two agents on one machine differ. Neither source can be
derived from what is sent. Reads ``/etc``, ``/proc`` and ``/sys/class/dmi``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.model import logs
from agent.state import Batch

if TYPE_CHECKING:
    from agent.state import StateStore

OWNER: Final = "owner"
"""Name of the value by which the agent recognizes its own containers."""

LONG_POLL: Final = (
    *("clientToken", "cluster", "instanceArn", "generation", "controlId"),
    *("seenControl", "seenHistory", "hostKey"),
)
EC2_INSTANCE: Final = "ecs.ec2InstanceId"
AVAILABILITY_ZONE: Final = "ecs.availabilityZone"
AMAZON: Final = (
    *("ecs.bootId", "ecs.machineId", "ecs.productUuid", EC2_INSTANCE),
    *("ecs.instanceArn", "ecs.cluster", AVAILABILITY_ZONE),
)
ENDPOINT_SECRET: Final = "endpointSecret"  # noqa: S105 - a name
"""Name of the value from which the ids are made by which containers ask the agent."""
KEPT: Final = frozenset({OWNER, logs.SECRET, ENDPOINT_SECRET, *LONG_POLL, *AMAZON})
"""Single values of the state file that are also kept in the mirror."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PLACEHOLDERS: Final = frozenset({"03000200-0400-0500-0006-000700080009"})
"""Product UUIDs that some vendors use for all their boards."""


class Machine(Struct, frozen=True, kw_only=True):
    """The machine's own identity; without a machine id, everything but ``boot_id`` is empty."""

    id: str = ""
    key: str = ""
    """Secret: control accepts whoever has it as this host."""
    owner: str = ""
    """Computed from the same values, for the labels of containers."""
    log_secret: str = ""
    """Computed from the same values, for the keys that container logs are written with. Secret."""
    endpoint_secret: str = ""
    """Computed from the same values, for the ids by which containers ask the agent. Secret."""
    boot_id: str = ""


def read_machine(data_dir: Path, *, root: Path = Path("/")) -> Machine:
    """Return the machine's identity for an agent with this data directory; blocks.

    Stays the same until the host is renamed, reinstalled, or moved to another machine.
    """
    boot = boot_id(root)
    machine = machine_id(root)
    if not machine:
        return Machine(boot_id=boot)
    facts = (machine, product_uuid(root), os.uname().nodename, str(data_dir.resolve()))
    secret = "\0".join(facts).encode()

    def made(what: str) -> str:
        return hmac.new(secret, f"ecs-host-agent {what}".encode(), hashlib.sha256).hexdigest()

    return Machine(
        id=made("id")[:32],
        key=made("key"),
        owner=made("owner")[:32],
        log_secret=made("logs"),
        endpoint_secret=made("endpoints"),
        boot_id=boot,
    )


async def owner_id(store: StateStore, machine: Machine) -> str:
    """Return the name by which this agent knows its own containers; made once per data directory.

    The same again where everything in that directory was lost, so that they are still its own.

    Raises:
        StateFailure: the store cannot be read, or not be written the first time.
    """
    owner = await store.get_meta(OWNER)
    if owner is None:
        owner = machine.owner or uuid.uuid4().hex
        batch = Batch()
        batch.put_meta(OWNER, owner)
        await store.commit(batch)
    return owner


async def ec2_instance_id(store: StateStore) -> str:
    """Return the EC2 instance that this host is, as instance metadata said; empty elsewhere.

    Raises:
        StateFailure: the store cannot be read.
    """
    return await store.get_meta(EC2_INSTANCE) or ""


def boot_id(root: Path = Path("/")) -> str:
    """Return the kernel's id of this boot; empty if it cannot be read."""
    return _read(root / "proc/sys/kernel/random/boot_id")


def machine_id(root: Path = Path("/")) -> str:
    """Return the machine id, which is created at installation; empty if there is none."""
    found = _read(root / "etc/machine-id")
    return "" if found == "uninitialized" else found


def product_uuid(root: Path = Path("/")) -> str:
    """Return the firmware's product UUID in lower case; empty if it is not unique."""
    found = _read(root / "sys/class/dmi/id/product_uuid").lower()
    usable = (
        _UUID.fullmatch(found)
        and len(set(found.replace("-", ""))) > 1
        and found not in _PLACEHOLDERS
    )
    return found if usable else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
