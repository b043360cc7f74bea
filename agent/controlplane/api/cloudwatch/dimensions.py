"""Dimensions of metrics, and the scopes that they stand for. Pure.

Source: Amazon ECS developer guide, "CloudWatch metrics"; CloudWatch user guide, "Container Insights
metrics" and "with enhanced observability" (``TaskId``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.api.cloudwatch.errors import InvalidParameterValueException
from agent.controlplane.metric_store.scopes import Kind, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CLUSTER: Final = "ClusterName"
SERVICE: Final = "ServiceName"
FAMILY: Final = "TaskDefinitionFamily"
TASK: Final = "TaskId"
INSTANCE: Final = "ContainerInstanceId"
PROVIDER: Final = "CapacityProviderName"
EC2: Final = "InstanceId"
"""Only of container instances that are EC2 instances."""

_KINDS: Final[Mapping[frozenset[str], Kind]] = {
    frozenset({CLUSTER}): Kind.CLUSTER,
    frozenset({CLUSTER, SERVICE}): Kind.SERVICE,
    frozenset({CLUSTER, FAMILY}): Kind.FAMILY,
    frozenset({CLUSTER, FAMILY, TASK}): Kind.TASK,
    frozenset({CLUSTER, INSTANCE}): Kind.INSTANCE,
    frozenset({CLUSTER, INSTANCE, EC2}): Kind.INSTANCE,
    frozenset({CLUSTER, PROVIDER}): Kind.PROVIDER,
}
_NAMES: Final[Mapping[Kind, tuple[str, str, str]]] = {
    Kind.CLUSTER: (CLUSTER, "", ""),
    Kind.SERVICE: (CLUSTER, SERVICE, ""),
    Kind.FAMILY: (CLUSTER, FAMILY, ""),
    Kind.TASK: (CLUSTER, TASK, FAMILY),
    Kind.INSTANCE: (CLUSTER, INSTANCE, EC2),
    Kind.PROVIDER: (CLUSTER, PROVIDER, ""),
}


def read(dimensions: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the values of dimensions by name.

    Raises:
        InvalidParameterValueException: a name is there twice.
    """
    found: dict[str, str] = {}
    for dimension in dimensions:
        name = dimension["Name"]
        if name in found:
            raise InvalidParameterValueException(
                f"The value {name} for parameter Dimensions is there more than once."
            )
        found[name] = dimension["Value"]
    return found


def scope_of(values: Mapping[str, str]) -> Scope | None:
    """Return the scope that has exactly these dimensions; None if no metric has them."""
    kind = _KINDS.get(frozenset(values))
    if kind is None:
        return None
    cluster, name, detail = _NAMES[kind]
    return Scope(kind, values[cluster], values.get(name, ""), values.get(detail, ""))


def of(scope: Scope) -> dict[str, str]:
    """Return the dimensions of a scope by name."""
    names = _NAMES[scope.kind]
    values = (scope.cluster, scope.name, scope.detail)
    return {name: value for name, value in zip(names, values, strict=True) if name and value}


def shown(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return dimensions as in answers."""
    return [{"Name": name, "Value": value} for name, value in values.items()]
