"""Resource ids and ARNs of Application Auto Scaling, and what a request is about. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.controlplane.api.autoscaling.errors import ValidationException
from agent.controlplane.scaling.target import DIMENSION, NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.names import Names
    from agent.controlplane.scaling.target import ScalableTarget

_RESOURCE: Final = re.compile(r"service/([A-Za-z0-9_-]{1,255})/([A-Za-z0-9_-]{1,255})")
_NAME: Final = re.compile(r"[^\x00-\x1f|/:]+")


class Resource(NamedTuple):
    """The service that a request is about."""

    cluster: str
    service: str


def resource(request: Mapping[str, Any]) -> Resource:
    """Return the service of a request.

    Raises:
        ValidationException: it is about something else.
    """
    check_kind(request)
    return resource_of(request["ResourceId"])


def resource_of(text: str) -> Resource:
    """Return the service of a resource id; raises ``ValidationException``."""
    match = _RESOURCE.fullmatch(text)
    if match is None:
        raise ValidationException(
            f"Unsupported service namespace, resource type or scalable dimension: {text[:255]} is not "
            "service/CLUSTER/SERVICE"
        )
    return Resource(match[1], match[2])


def check_kind(request: Mapping[str, Any]) -> None:
    """Refuse what is not the desired count of a service; raises ``ValidationException``."""
    given = request["ServiceNamespace"]
    if given != NAMESPACE:
        raise ValidationException(
            f"Unsupported service namespace: this control endpoint scales {NAMESPACE}, not {given[:64]}"
        )
    dimension = request.get("ScalableDimension", DIMENSION)
    if dimension != DIMENSION:
        raise ValidationException(
            f"Unsupported scalable dimension: this control endpoint scales {DIMENSION}, not "
            f"{dimension[:64]}"
        )


def new_name(request: Mapping[str, Any], member: str) -> str:
    """Return the name of a policy or a scheduled action to be made; raises ``ValidationException``."""
    name: str = request[member]
    if not _NAME.fullmatch(name):
        raise ValidationException(f"{member} must not contain |, /, : and control characters")
    return name


def target_arn(names: Names, target: ScalableTarget) -> str:
    """Return the ARN of a target."""
    return (
        f"arn:{names.partition}:application-autoscaling:{names.region}:{names.account}:"
        f"scalable-target/{target.id}"
    )


def role_arn(names: Names) -> str:
    """Return the role that AWS would use; nothing here has it."""
    return (
        f"arn:{names.partition}:iam::{names.account}:role/aws-service-role/"
        "ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService"
    )
