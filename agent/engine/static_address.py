"""The address that a task asks for by a label of one of its containers. Pure.

Amazon ECS has no parameter for it. A docker label of the task definition arrives over every wire, with
RunTask and with services alike, and other agents ignore it.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from agent.engine.labels import LABEL_ADDRESS
from agent.errors import PayloadError
from agent.model import reasons
from agent.model.status import NetworkMode

if TYPE_CHECKING:
    from agent.model.payload import Container, TaskPayload


def asked_for(payload: TaskPayload) -> str:
    """Return the IPv4 or IPv6 address that a task asks for; empty if it leaves the choice to the host.

    Raises:
        PayloadError: it is not an address, containers differ in it, or the task gets no address from its host.
    """
    asked = {
        container.name: text for container in payload.containers if (text := _label(container))
    }
    if not asked:
        return ""
    name, text = next(iter(asked.items()))
    about = f"label {LABEL_ADDRESS} of container {name}"
    cause = ""
    try:
        addresses = {ip_address(each) for each in asked.values()}
    except ValueError:
        addresses = set()
        cause = f"{about}: {text[:40]!r} is not an IP address"
    if len(addresses) > 1:
        cause = f"{about} is not the same as that of another container"
    elif payload.mode is not NetworkMode.AWSVPC:
        cause = (
            f"{about}: only tasks in awsvpc mode have an address, and this one is in {payload.mode}"
        )
    elif payload.elastic_network_interfaces:
        cause = f"{about}: the address of this task is that of its ENI"
    if cause:
        raise PayloadError(reasons.resource_unusable(payload.arn, cause))
    return str(addresses.pop())


def _label(container: Container) -> str:
    config = container.docker_config.config
    labels = config.get("Labels") if isinstance(config, dict) else None
    text = labels.get(LABEL_ADDRESS) if isinstance(labels, dict) else None
    return text if isinstance(text, str) else ""
