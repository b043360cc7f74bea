"""Bodies of fault requests: read and checked. Pure.

Names are matched in any case, and unknown ones are ignored. Source of the rules and texts: Amazon ECS
agent 1.105.1, ``ecs-agent/tmds/handlers/fault/v1/types``.

Tests: ``tests/unit/task_endpoint/test_fault_requests.py``.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from agent.config.addresses import TASK_ADDRESS
from agent.network.faults.fault import EVERY_FLOW, Blackhole, Impairment, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.network.faults.fault import Direction, Network, Protocol

_UINT16: Final = 2**16
_UINT64: Final = 2**64
_LONGEST_MS: Final = 2**32 // 1000
"""The kernel counts microseconds with 32 bits."""
_MOST_NETWORKS: Final = 1000
_SHOWN: Final = 100
_AGENT_PORT: Final = 80


class BadFault(Exception):
    """A body that describes no fault; the text is the answer's."""


def blackhole(body: bytes) -> Blackhole:
    """Return the black hole that a body describes; raises ``BadFault``.

    The agent itself stays in reach of a task that closes port 80.
    """
    given = _Given(body)
    port = given.whole("Port", _UINT16)
    protocol = cast("Protocol", given.word("Protocol", ("tcp", "udp")))
    direction = cast("Direction", given.word("TrafficType", ("ingress", "egress")))
    spared = given.networks("SourcesToFilter", needed=False)
    if direction == "egress" and port == _AGENT_PORT:
        spared = (*spared, ip_network(TASK_ADDRESS))
    return Blackhole(port=port, protocol=protocol, direction=direction, spared=spared)


def latency(body: bytes) -> Impairment:
    """Return the latency that a body describes; raises ``BadFault``."""
    given = _Given(body)
    delay_ms = given.whole("DelayMilliseconds", _UINT64)
    jitter_ms = given.whole("JitterMilliseconds", _UINT64)
    if not delay_ms and not jitter_ms:
        raise BadFault("required either DelayMilliseconds or JitterMilliseconds to be non-zero")
    for name, value in (("DelayMilliseconds", delay_ms), ("JitterMilliseconds", jitter_ms)):
        if value > _LONGEST_MS:
            raise BadFault(f"invalid value {value} for parameter {name}")
    return given.impairment(Kind.LATENCY, delay_ms=delay_ms, jitter_ms=jitter_ms)


def packet_loss(body: bytes) -> Impairment:
    """Return the packet loss that a body describes; raises ``BadFault``."""
    given = _Given(body)
    percent = given.whole("LossPercent", _UINT64)
    if not 1 <= percent <= 100:
        raise BadFault(f"invalid value {percent} for parameter LossPercent")
    return given.impairment(Kind.LOSS, loss_percent=percent)


IMPAIRMENTS: Final[Mapping[Kind, Callable[[bytes], Impairment]]] = {
    Kind.LATENCY: latency,
    Kind.LOSS: packet_loss,
}
"""What reads the body of a start, by kind."""


class _Given:
    """The fields of a body."""

    def __init__(self, body: bytes) -> None:
        if not body.strip():
            raise BadFault("required request body is missing")
        try:
            fields = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            raise BadFault("the request body is not JSON") from None
        if not isinstance(fields, dict):
            raise BadFault("the request body is not a JSON object")
        self._fields: dict[str, Any] = {name.lower(): value for name, value in fields.items()}

    def impairment(self, kind: Kind, **what: int) -> Impairment:
        """Return a fault with the fields that all faults with ``netem`` have."""
        destinations = self.networks("Sources", needed=True)
        spared = self.networks("SourcesToFilter", needed=False)
        percent = self._fields.get("flowspercent")
        if percent is None:
            percent = EVERY_FLOW
        if type(percent) is not int:
            raise BadFault("FlowsPercent is not an integer")
        if not 1 <= percent <= EVERY_FLOW:
            raise BadFault(f"invalid value {percent} for parameter flowsPercent")
        return Impairment(
            kind=kind, destinations=destinations, spared=spared, flows_percent=percent, **what
        )

    def whole(self, name: str, below: int) -> int:
        """Return a needed number."""
        value = self._needed(name)
        if type(value) is not int or not 0 <= value < below:
            raise BadFault(f"{name} is not an integer from 0 to {below - 1}")
        return value

    def word(self, name: str, words: tuple[str, ...]) -> str:
        """Return a needed text, one of these."""
        value = self._needed(name)
        if not isinstance(value, str):
            raise BadFault(f"{name} is not text")
        if value not in words:
            raise BadFault(f"invalid value {value[:_SHOWN]} for parameter {name}")
        return value

    def networks(self, name: str, *, needed: bool) -> tuple[Network, ...]:
        """Return addresses and prefixes."""
        value = self._needed(name) if needed else self._fields.get(name.lower()) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise BadFault(f"{name} is not a list of texts")
        if needed and not value:
            raise BadFault(f"required parameter {name} is missing")
        if len(value) > _MOST_NETWORKS:
            raise BadFault(f"{name} has more than {_MOST_NETWORKS} entries")
        found = []
        for each in value:
            try:
                found.append(ip_network(each, strict=False))
            except ValueError:
                raise BadFault(f"invalid value {each[:_SHOWN]} for parameter {name}") from None
        return tuple(dict.fromkeys(found))

    def _needed(self, name: str) -> Any:
        value = self._fields.get(name.lower())
        if value is None:
            raise BadFault(f"required parameter {name} is missing")
        return value
