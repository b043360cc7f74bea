"""DescribeCapacityProviders: FARGATE and FARGATE_SPOT, which always exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.controlplane.api.ecs.naming import DESCRIBE_LIMIT, active_cluster, at_most
from agent.controlplane.front.pages import page_size
from agent.controlplane.tasks import capacity

if TYPE_CHECKING:
    from agent.controlplane.parts import Handlers, Parts

_PAGE_LIMIT = 10


async def describe_capacity_providers(parts: Parts, request: dict[str, Any]) -> dict[str, Any]:
    """Describe capacity providers by name or ARN; without names, all, or those of ``cluster``."""
    page_size(request, most=_PAGE_LIMIT)  # there are never so many that a page could be full
    given = request.get("capacityProviders", [])
    at_most(given, DESCRIBE_LIMIT, "capacityProviders")
    known = {name: _show(parts, name) for name in sorted(capacity.FARGATE_PROVIDERS)}
    if request.get("cluster"):
        cluster = await active_cluster(parts, request)
        known = {name: known[name] for name in cluster.capacity_providers if name in known}
    if not given:
        return {"capacityProviders": list(known.values()), "failures": []}
    arns = {one["capacityProviderArn"]: name for name, one in known.items()}
    names = dict.fromkeys(arns.get(text, text) for text in given)
    return {
        "capacityProviders": [known[name] for name in names if name in known],
        "failures": [
            {"arn": name if name.startswith("arn:") else _arn(parts, name), "reason": "MISSING"}
            for name in names
            if name not in known
        ],
    }


def _show(parts: Parts, name: str) -> dict[str, Any]:
    return {
        "capacityProviderArn": _arn(parts, name),
        "name": name,
        "status": "ACTIVE",
        "type": name,
        "tags": [],
    }


def _arn(parts: Parts, name: str) -> str:
    return parts.names.capacity_provider(name)


HANDLERS: Handlers = {"DescribeCapacityProviders": describe_capacity_providers}
