"""Revokes the identity of a host, and deregisters its container instance.

The identity goes first, so that nothing more is sent; a crash in between leaves an instance that no host can speak for, and
the same call again deregisters it.

Tests: ``tests/unit/cli/test_pki.py``, ``tests/unit/upstream/certificates/test_host.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from agent.controlplane import access, records
from agent.controlplane.agents import bindings
from agent.controlplane.names import parse_arn
from agent.controlplane.records import HostIdentityRecord, InstanceRecord
from agent.controlplane.tasks.retire import retire
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.controlplane.parts import Parts
    from agent.controlplane.pki.identities import HostIdentities

REVOKED: Final = "the identity of its host was revoked"
"""``status_reason`` of an instance that is deregistered with its host's identity."""
_SHOWN: Final = 64
_log = structlog.get_logger(__name__)


class NoSuchHost(AgentError):
    """There is no such identity, and no such container instance that has one."""


async def revoke(
    parts: Parts, identities: HostIdentities, host: str, *, reason: str
) -> tuple[str, str]:
    """Revoke an identity; return its id, and the ARN of the instance that was deregistered, if any.

    Args:
        parts: the store and the clock.
        identities: those of all hosts.
        host: the id of the identity, or the id or the ARN of the container instance that has it.
        reason: why, for display.

    Raises:
        NoSuchHost: there is none.
        StoreFailure: it may not be done; the same call again is safe.
    """
    identity = await _identity_of(identities, host)
    revoked = await identities.revoke(identity.id, reason=reason)
    if revoked is None:
        raise NoSuchHost(f"there is no identity {host[:_SHOWN]!r}")
    key = records.key_of_instance(revoked.instance_arn)
    parts.commands.end_on(records.last_element(revoked.instance_arn))
    found = await access.find(parts.store, InstanceRecord, key)
    arn = ""
    if found is not None and found.record.bound_to == f"{bindings.HOST}{revoked.id}":
        await retire(parts.store, found.record, reason=REVOKED, clock=parts.clock)
        arn = found.record.arn
    _log.warning("identity of a host revoked", identity=revoked.id, instance=arn)
    return revoked.id, arn


async def _identity_of(identities: HostIdentities, host: str) -> HostIdentityRecord:
    parsed = parse_arn(host)
    wanted = parsed.path[-1] if parsed is not None else host
    found = await identities.list()
    of_instance = [
        one
        for one in found
        if one.instance_arn and records.last_element(one.instance_arn) == wanted
    ]
    of_instance.sort(key=lambda one: (bool(one.revoked_at), -one.issued_at))
    for one in (*(one for one in found if one.id == wanted), *of_instance):
        return one
    raise NoSuchHost(
        f"no host has the identity or the container instance {host[:_SHOWN]!r}; 'ecs-agent control pki list' "
        "shows them"
    )
