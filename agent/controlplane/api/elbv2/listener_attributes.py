"""Attributes of listeners, all of which have one value here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.elbv2 import attributes, listeners

if TYPE_CHECKING:
    from agent.controlplane.api.elbv2.attributes import Attributes
    from agent.controlplane.parts import Handlers, Parts


async def describe_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Return all attributes of a listener."""
    known = await _known(parts, request["ListenerArn"])
    return {"Attributes": attributes.shown(known, {})}


async def modify_attributes(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Check attributes of a listener, and return all; nothing is stored, as each has one value."""
    known = await _known(parts, request["ListenerArn"])
    return {
        "Attributes": attributes.shown(known, attributes.checked(known, request["Attributes"], {}))
    }


async def _known(parts: Parts, arn: str) -> Attributes:
    found = (await listeners.by_arn(parts, arn)).record
    return attributes.HTTP_LISTENER if found.protocol == "HTTP" else attributes.TCP_LISTENER


HANDLERS: Handlers = {
    "DescribeListenerAttributes": describe_attributes,
    "ModifyListenerAttributes": modify_attributes,
}
