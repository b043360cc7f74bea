"""Task-level CPU and memory: the one parser of both. Pure.

Source of the formats and limits: the Amazon ECS API reference, RegisterTaskDefinition ``cpu`` and
``memory``; overrides have the same.
"""

from __future__ import annotations

import re

from agent.errors import AgentError

CPU_UNITS = range(128, 196608 + 1)
"""0.125 to 192 vCPUs."""
MEMORY_MINIMUM_MIB = 4
MEMORY_MAXIMUM_MIB = 2**31 - 1
"""The maximum of a container's own limit, which is a 32-bit integer."""

_CPU = re.compile(r"(\d{1,9})|(\d{0,4}\.?\d{1,3})\s*vcpu", re.IGNORECASE | re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})|(\d{0,6}\.?\d{1,3})\s*gb", re.IGNORECASE | re.ASCII)


class InvalidSize(AgentError):
    """A text is not a CPU or memory size, or is out of range; the message is that of Amazon ECS."""


def cpu_units(text: str) -> int:
    """Return the CPU units of ``1024``, ``1 vCPU`` or ``.5 vcpu``; 0 for an empty text.

    Raises:
        InvalidSize: the text has none of these forms, or the size is out of range.
    """
    if not text:
        return 0
    match = _CPU.fullmatch(text.strip())
    if match is not None:
        units = int(match[1]) if match[1] else round(float(match[2]) * 1024)
        if units in CPU_UNITS:
            return units
    raise InvalidSize("Invalid 'cpu' setting for task.")


def memory_mib(text: str) -> int:
    """Return the MiB of ``1024``, ``1GB`` or ``0.5 gb``; 0 for an empty text.

    Raises:
        InvalidSize: the text has none of these forms, or the size is out of range.
    """
    if not text:
        return 0
    match = _MEMORY.fullmatch(text.strip())
    if match is not None:
        mib = int(match[1]) if match[1] else round(float(match[2]) * 1024)
        if MEMORY_MINIMUM_MIB <= mib <= MEMORY_MAXIMUM_MIB:
            return mib
    raise InvalidSize("Invalid 'memory' setting for task.")
