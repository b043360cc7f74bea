"""Who this host is, also after it has lost what it wrote down.

Three answers, each for when the one before is lost:

1. The state file has the values of ``KEPT``.
2. So has the second place, a small file beside it (``state.mirrored_values``).
3. Where both are gone, the machine says the same as before: an id, and a key that only it can make. By
   them control gives it the instance that it had (``controlplane.agents.registration``), and the name by
   which it knows its containers is made from them.

Id and key are made from what root alone can read together: ``/etc/machine-id``, which no container
sees, and the firmware's number, which no ordinary user sees; and from host name and data directory, so
that two agents of one machine are two. Neither can be found from what is sent. Touches ``/etc``,
``/proc`` and ``/sys/class/dmi`` (reads only).
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

from agent.state import Batch

if TYPE_CHECKING:
    from agent.state import StateStore

OWNER: Final = "owner"
"""Name of the value by which the agent knows its own containers."""

LONG_POLL: Final = (
    *("clientToken", "cluster", "instanceArn", "generation", "controlId"),
    *("seenControl", "seenHistory"),
)
AMAZON: Final = (
    *("ecs.bootId", "ecs.machineId", "ecs.productUuid", "ecs.ec2InstanceId"),
    *("ecs.instanceArn", "ecs.cluster", "ecs.availabilityZone"),
)
KEPT: Final = frozenset({OWNER, *LONG_POLL, *AMAZON})
"""Single values of the state file that are also in the second place."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PLACEHOLDERS: Final = frozenset({"03000200-0400-0500-0006-000700080009"})
"""Numbers that boards carry whose maker never gave them one."""


class Machine(Struct, frozen=True, kw_only=True):
    """What the machine itself says; all but ``boot_id`` is empty where it has no machine id."""

    id: str = ""
    key: str = ""
    """Secret: whoever has it is let in as this host."""
    owner: str = ""
    """Made of the same, for the labels of containers."""
    boot_id: str = ""


def read_machine(data_dir: Path, *, root: Path = Path("/")) -> Machine:
    """Return what the machine says of itself, for an agent with this data directory; blocks.

    The same on every call until the host is renamed or becomes another one.
    """
    boot = boot_id(root)
    machine = machine_id(root)
    if not machine:
        return Machine(boot_id=boot)
    facts = (machine, product_uuid(root), os.uname().nodename, str(data_dir.resolve()))
    secret = "\0".join(facts).encode()

    def made(what: str) -> str:
        return hmac.new(secret, f"ecs-host-agent {what}".encode(), hashlib.sha256).hexdigest()

    return Machine(id=made("id")[:32], key=made("key"), owner=made("owner")[:32], boot_id=boot)


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


def boot_id(root: Path = Path("/")) -> str:
    """Return the number that the kernel made at this boot; empty where it cannot be read."""
    return _read(root / "proc/sys/kernel/random/boot_id")


def machine_id(root: Path = Path("/")) -> str:
    """Return the number that the host got at its installation; empty where it has none."""
    found = _read(root / "etc/machine-id")
    return "" if found == "uninitialized" else found


def product_uuid(root: Path = Path("/")) -> str:
    """Return the firmware's number of the machine, in lower case; empty where it is not worth it."""
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
