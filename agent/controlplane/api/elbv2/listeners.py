"""Listeners: create, modify, describe, delete."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.controlplane.api.elbv2 import actions, requests
from agent.controlplane.api.elbv2.errors import (
    IncompatibleProtocolsException,
    ListenerNotFoundException,
    TooManyListenersException,
    UnsupportedProtocolException,
    ValidationError,
)
from agent.controlplane.loadbalancing import forwarding, naming, stored
from agent.controlplane.loadbalancing.balancer_records import (
    APPLICATION,
    ActionRecord,
    ListenerRecord,
    RuleRecord,
)

if TYPE_CHECKING:
    from agent.controlplane.access import Found
    from agent.controlplane.parts import Handlers, Parts

LISTENERS_MOST: Final = 50
"""Of one load balancer; Amazon's quota."""
_PROTOCOLS: Final = {"application": "HTTP", "network": "TCP"}
"""The one that is served, by the kind of load balancer; also that of its target groups."""
NOT_SERVED: Final = {
    "SslPolicy": "listeners have no TLS here",
    "Certificates": "listeners have no TLS here",
    "AlpnPolicy": "listeners have no TLS here",
    "MutualAuthentication": "listeners have no TLS here",
}


async def create_listener(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Create a listener; the same call again returns the one that it created."""
    requests.refuse(request, NOT_SERVED)
    of = (await stored.balancer(parts.store, parts.names, request["LoadBalancerArn"])).record
    if "Port" not in request or not request.get("Protocol"):
        raise ValidationError("A listener protocol and port must be specified")
    protocol = _protocol(request["Protocol"], of.kind)
    action = actions.read(request["DefaultActions"], is_http=of.kind == APPLICATION)
    await check_groups(parts, action, protocol)
    listener_id = naming.new_id()
    wanted = ListenerRecord(
        id=listener_id,
        arn=naming.listener_arn(of.arn, listener_id),
        load_balancer=of.name,
        load_balancer_arn=of.arn,
        protocol=protocol,
        port=requests.port(request["Port"]),
        rules=[RuleRecord(id=naming.new_id(), action=action)],
        tags=requests.tags(request.get("Tags", ())),
    )
    others = await stored.listeners(parts.store, of.name)
    same = next((each for each in others if each.port == wanted.port), None)
    if same is not None:
        return {"Listeners": [_shown(_repeated(same, wanted))]}
    if len(others) >= LISTENERS_MOST:
        raise TooManyListenersException(
            f"The maximum number of listeners of a load balancer, {LISTENERS_MOST}, has been reached"
        )
    await stored.create_listener(parts.store, parts.names, wanted)
    return {"Listeners": [_shown(wanted)]}


def _repeated(known: ListenerRecord, wanted: ListenerRecord) -> ListenerRecord:
    """Return the existing listener, if it is the one that is wanted; raises ``PortTaken``."""
    if (known.default_rule.action, known.tags) != (wanted.default_rule.action, wanted.tags):
        raise stored.PortTaken
    return known


async def modify_listener(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Change the port or the default action of a listener."""
    requests.refuse(request, NOT_SERVED)
    arn = request["ListenerArn"]
    found = (await by_arn(parts, arn)).record
    of = await stored.balancer(parts.store, parts.names, found.load_balancer_arn)
    if request.get("Protocol"):
        _protocol(request["Protocol"], of.record.kind)
    port = requests.port(request["Port"]) if "Port" in request else found.port
    action: ActionRecord | None = None
    if "DefaultActions" in request:
        is_http = of.record.kind == APPLICATION
        action = actions.read(request["DefaultActions"], is_http=is_http)
        await check_groups(parts, action, found.protocol)

    def changed(old: ListenerRecord) -> ListenerRecord:
        old = replace(old, port=port)
        if action is None:
            return old
        return forwarding.with_rule(old, replace(old.default_rule, action=action))

    new = await stored.change_listener(parts.store, parts.names, arn, changed)
    return {"Listeners": [_shown(new)]}


async def describe_listeners(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return the listeners of a load balancer, or those that are named, in pages."""
    of, named = request.get("LoadBalancerArn"), request.get("ListenerArns")
    if bool(of) == bool(named):
        raise ValidationError("You must specify either listener ARNs or a load balancer ARN")
    if of:
        name = (await stored.balancer(parts.store, parts.names, of)).record.name
        found = await stored.listeners(parts.store, name)
    else:
        found = requests.chosen(
            request,
            "ListenerArns",
            await stored.listeners_named(parts.store, parts.names, named or ()),
            attrgetter("arn"),
            ListenerNotFoundException,
            "listeners",
        )
    shown, marker = requests.page("DescribeListeners", request, found, attrgetter("arn"))
    return {"Listeners": [_shown(each) for each in shown], "NextMarker": marker}


async def delete_listener(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Delete a listener with its rules."""
    await by_arn(parts, request["ListenerArn"])
    await stored.delete_listener(parts.store, parts.names, request["ListenerArn"])
    return {}


async def check_groups(parts: Parts, action: ActionRecord, protocol: str) -> None:
    """Check that a listener of a protocol can forward to the groups of an action.

    Raises:
        GroupMissing: one does not exist.
        IncompatibleProtocolsException: one has another protocol.
    """
    for each in forwarding.groups_of_action(action):
        group = (await stored.group(parts.store, parts.names, each.target_group_arn)).record
        if group.protocol != protocol:
            raise IncompatibleProtocolsException(
                f"Target group '{group.arn}' has the protocol {group.protocol}, which is incompatible "
                f"with the listener's protocol {protocol}"
            )


async def by_arn(parts: Parts, arn: str) -> Found[ListenerRecord]:
    """Return a listener by its own ARN, not that of a rule; raises ``ListenerMissing``."""
    named = naming.parse_listener(parts.names, arn)
    if named is None or named.rule_id:
        raise stored.ListenerMissing(arn)
    return await stored.listener(parts.store, parts.names, arn)


def _protocol(given: str, kind: str) -> str:
    served = _PROTOCOLS[kind]
    if given != served:
        raise UnsupportedProtocolException(
            f"Protocol '{given}' is not supported by this control endpoint for listeners of {kind} "
            f"load balancers; use {served}"
        )
    return given


def _shown(listener: ListenerRecord) -> dict[str, Any]:
    return {
        "ListenerArn": listener.arn,
        "LoadBalancerArn": listener.load_balancer_arn,
        "Port": listener.port,
        "Protocol": listener.protocol,
        "DefaultActions": actions.shown(listener.default_rule.action),
    }


HANDLERS: Handlers = {
    "CreateListener": create_listener,
    "ModifyListener": modify_listener,
    "DescribeListeners": describe_listeners,
    "DeleteListener": delete_listener,
}
