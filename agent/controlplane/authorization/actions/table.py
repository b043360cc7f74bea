"""The permissions of all APIs, by botocore's name of the API. Pure.

An operation without a row needs the action of its name on ``*``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.actions import (
    ecs,
    identity,
    kept,
    networks,
    observed,
    timed,
)
from agent.controlplane.authorization.actions.rows import Row

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIXES: Final[Mapping[str, str]] = {"elbv2": "elasticloadbalancing"}
"""Where actions have another prefix than botocore's name of the API."""
OWN: Final = "control"
"""The prefix of actions that no API of AWS has."""

TABLE: Final[Mapping[str, Mapping[str, Row]]] = {
    "application-autoscaling": timed.AUTOSCALING,
    "cloudtrail": observed.CLOUDTRAIL,
    "cloudwatch": observed.CLOUDWATCH,
    "ec2": networks.EC2,
    "ecs": ecs.ROWS,
    "elbv2": networks.ELBV2,
    "events": timed.EVENTS,
    "iam": identity.IAM,
    "logs": observed.LOGS,
    "scheduler": timed.SCHEDULER,
    "secretsmanager": kept.SECRETS,
    "servicediscovery": networks.SERVICEDISCOVERY,
    "ssm": kept.SSM,
    "sts": identity.STS,
}
SERVICES: Final = frozenset({_PREFIXES.get(name, name) for name in TABLE} | {OWN})
"""Prefixes of the actions that policies can permit here; statements about others match nothing."""


def row(service: str, operation: str) -> Row:
    """Return what an operation needs; ``service`` is botocore's name of its API."""
    found = TABLE.get(service, {}).get(operation)
    return found or Row(f"{_PREFIXES.get(service, service)}:{operation}")
