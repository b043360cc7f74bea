"""Which instance a host was before: by the ARN that it names, by a token, or by its machine.

Reads the store; raises what the store raises.

Tests: ``tests/unit/controlplane/agents/test_agents.py``, ``tests/unit/controlplane/agents/test_machines.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.controlplane import access, records
from agent.controlplane.agents import bindings, machines
from agent.controlplane.agents.longpoll.errors import StaleGeneration
from agent.controlplane.names import parse_arn
from agent.controlplane.records import InstanceRecord
from agent.controlplane.tasks.retire import LEFT

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.agents.bindings import Shown
    from agent.controlplane.agents.bound_hosts import BoundHosts
    from agent.controlplane.store.contract import KeyValue, Store
    from agent.model.wire import Register

_log = structlog.get_logger(__name__)


class Caller(NamedTuple):
    """Who registers."""

    call: Register
    machine: str
    """Digest of the identifiers of its machine; empty if it sends none."""
    shown: Shown


async def find(
    store: Store, hosts: BoundHosts, caller: Caller
) -> tuple[Found[InstanceRecord] | None, KeyValue | None]:
    """Return the instance that a call registers again, None for a new host; and the client token.

    The ARN takes precedence over the client token, that over the machine, and that over a token with a name. The client
    token is checked even if the instance of the ARN is gone: the call may repeat one that has already created
    a new instance.

    Raises:
        StaleGeneration: an operator deregistered the instance.
        NotItsHost: the caller's token is for another host.
    """
    call, machine = caller.call, caller.machine
    token = await store.get(records.registration_key(call.client_token))
    named = await _named(store, caller)
    if named is not None:
        return named, token
    known = await _instance(store, token.value.decode()) if token is not None else None
    if known is not None and known.record.status == "INACTIVE":
        known = None
    known = known or await _of_machine(store, call, machine)
    return known or await _of_token_name(store, hosts, caller), token


async def _named(store: Store, caller: Caller) -> Found[InstanceRecord] | None:
    """Return the instance of the caller's ARN, if the caller proves that it is its host."""
    call = caller.call
    named = await _instance(store, call.instance_arn)
    if named is None:
        return None
    if not bindings.is_proved(
        named.record, caller.shown, machine=caller.machine, client_token=call.client_token
    ):
        _log.warning(
            "a host names the instance of another machine and is not admitted as it",
            instance=call.instance_arn,
            hostname=call.resources.hostname,
        )
        return None
    if named.record.status != "INACTIVE":
        return named
    if named.record.status_reason != LEFT:
        raise StaleGeneration(
            "this container instance was deregistered; to register the host as a new one, "
            "stop the agent and remove its state directory"
        )
    return None


async def _of_token_name(
    store: Store, hosts: BoundHosts, caller: Caller
) -> Found[InstanceRecord] | None:
    """Return the instance whose host alone has the caller's token: that host lost its state."""
    owner = await hosts.owner_of_name(caller.shown.name)
    if owner is not None and await machines.is_another_host(store, owner.record, caller.call):
        raise hosts.refuse(owner.record.arn, caller.shown)
    return owner


async def _of_machine(store: Store, call: Register, machine: str) -> Found[InstanceRecord] | None:
    """Return the instance that the caller's machine had before it lost its state."""
    arn, _ = await machines.arn_of(store, machine)
    known = await _instance(store, arn)
    if known is None or known.record.status == "INACTIVE":
        return None
    if await machines.is_another_host(store, known.record, call):
        _log.warning(
            "two hosts send the same machine id; give each its own "
            "(rm /etc/machine-id; systemd-machine-id-setup)",
            instance=known.record.arn,
            hostname=call.resources.hostname,
        )
        return None
    _log.warning(
        "a host lost its state and is recognized by its machine",
        instance=known.record.arn,
        hostname=call.resources.hostname,
    )
    return known


async def _instance(store: Store, arn: str) -> Found[InstanceRecord] | None:
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind != "container-instance" or len(parsed.path) != 2:
        return None
    key = records.instance_key(*parsed.path)
    found = await access.find(store, InstanceRecord, key)
    return found if found is not None and found.record.arn == arn else None
