"""Rules for a registration of a host, for both protocols. Pure.

The limits are above everything that exists. They keep out values that would break placement (a host
with negative CPU units), the store or its readers; they do not restrict large hosts.
"""

from __future__ import annotations

import re
from typing import Final

from agent.controlplane import bounds
from agent.controlplane.bounds import (
    LINE,
    WORD,
    Anything,
    Form,
    Items,
    Number,
    OutOfBounds,
    Pairs,
    Part,
    Table,
    Text,
)
from agent.model.fleet import FleetHost
from agent.model.resources import Gpu, HostResources
from agent.model.wire import Register

CPU_UNITS_MOST: Final = 16_384 * 1024
"""16,384 cores."""
MEMORY_MIB_MOST: Final = 256 * 1024 * 1024
"""256 TiB."""
ATTRIBUTES_MOST: Final = 512
"""Amazon's agent has about a hundred capabilities and ten attributes of its own."""
GPUS_MOST: Final = 256
TASKS_MOST: Final = 50_000
"""ARNs of tasks that an agent has, including all tasks of the last hours."""
_ARN_MOST: Final = 512
_TAGS_MOST: Final = 50
_VALUES_MOST: Final = 200_000
_PORTS_MOST: Final = 65_536

HOST_NAME: Final = Form(
    re.compile(r"[\w.-]*"), "only letters, digits, dots, hyphens and underscores"
)
TAG: Final = Form(
    # Letters, digits and spaces of any language; no line breaks, which \s would allow.
    re.compile(r"[\w \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000.:/=+\-@]*"),
    "only letters, numbers, spaces and _ . : / = + - @",
)

_PORTS: Final = Items(_PORTS_MOST, Number(0, 65535))

HOST: Final = Table(
    {
        Register: {
            "cluster": Text(_ARN_MOST),
            "client_token": Text(256, least=1),
            "resources": Part(),
            "machine_id": Text(128, form=WORD),
            "machine_key": Text(128, form=WORD),
            "process_id": Text(128, form=WORD),
            "instance_arn": Text(_ARN_MOST),
            "attributes": Pairs(ATTRIBUTES_MOST, Text(256, least=1), Text(1024)),
            "tags": Pairs(_TAGS_MOST, Text(128, least=1, form=TAG), Text(256, form=TAG)),
            "agent_version": Text(128),
            "agent_hash": Text(128),
            "ec2_instance_id": Text(128, form=WORD),
            "known_tasks": Items(TASKS_MOST, Text(_ARN_MOST)),
            "fleet": Part(),
            "seen_control_id": Text(128),
            "seen_history": Text(128),
            "seen_revision": Number(0, 2**63 - 1),
            "seen_generation": Number(0, 2**63 - 1),
        },
        FleetHost: {
            "driver": Text(32, least=1, form=WORD),
            "address": Text(64, form=WORD),
            "range": Text(64, form=WORD),
            "ipv6_range": Text(64, form=WORD),
            "has_ipv6": Anything(),
            "ipv6_only": Anything(),
            "ipv6_address": Text(64, form=WORD),
            "port": Number(0, 65535),
            "public_key": Text(64, form=WORD),
        },
        HostResources: {
            "cpu_units": Number(0, CPU_UNITS_MOST),
            "memory_mib": Number(0, MEMORY_MIB_MOST),
            "reserved_tcp": _PORTS,
            "reserved_udp": _PORTS,
            "gpus": Items(GPUS_MOST, Part()),
            "gpu_driver_version": Text(128),
            "hostname": Text(253, form=HOST_NAME),
            "boot_id": Text(128, form=WORD),
            "machine_id": Text(128, form=WORD),
            "architecture": Text(64, form=WORD),
            "os_family": Text(128, form=LINE),
            "kernel": Text(256, form=LINE),
            "cgroup_version": Number(0, 9),
            "mounts_nfs": Anything(),
            "impairs_networks": Anything(),
            "makes_vlans": Anything(),
            "engine_version": Text(128, form=LINE),
        },
        Gpu: {
            "uuid": Text(128, least=1, form=WORD),
            "name": Text(256),
            "memory_mib": Number(0, MEMORY_MIB_MOST),
        },
    }
)


def check(call: Register) -> None:
    """Check that a registration is within its limits.

    Raises:
        OutOfBounds: it is not; the text names the field.
    """
    HOST.check(call)
    for key in call.tags:
        if key.lower().startswith("aws:"):
            raise OutOfBounds(f"tags: the prefix of {key[:64]!r} is reserved")


def look(body: bytes) -> None:
    """Raise ``OutOfBounds`` for a registration that has too many items to be decoded."""
    bounds.look(body, most_items=_PORTS_MOST, most_values=_VALUES_MOST)
