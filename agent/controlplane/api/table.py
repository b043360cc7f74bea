"""The APIs that are served. To serve another one, write its package and add it here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agent.controlplane.api.autoscaling import operations as autoscaling
from agent.controlplane.api.cloudtrail import operations as cloudtrail
from agent.controlplane.api.cloudwatch import operations as cloudwatch
from agent.controlplane.api.ec2 import operations as ec2
from agent.controlplane.api.ecs import characters, refused
from agent.controlplane.api.ecs import operations as ecs
from agent.controlplane.api.elbv2 import operations as elbv2
from agent.controlplane.api.events import operations as events
from agent.controlplane.api.iam import errors as iam_errors
from agent.controlplane.api.iam import operations as iam
from agent.controlplane.api.logs import operations as logs
from agent.controlplane.api.scheduler import operations as scheduler
from agent.controlplane.api.secretsmanager import operations as secretsmanager
from agent.controlplane.api.servicediscovery import errors as discovery_errors
from agent.controlplane.api.servicediscovery import operations as servicediscovery
from agent.controlplane.api.ssm import operations as ssm
from agent.controlplane.api.sts import operations as sts
from agent.controlplane.front.service_api import BODY_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.controlplane.parts import Handlers


def _anything(_request: Mapping[str, Any]) -> None:
    """Accept everything that the model accepts."""


class ApiNames(NamedTuple):
    """How clients and people name an API; the same as in its model (``service_model.ApiModel``)."""

    signing_name: str
    title: str
    endpoint_variable: str


class Api(NamedTuple):
    """One API, in the protocols of its model that are served (``front.codecs``)."""

    service: str
    """The name in botocore's data; the model there has the details."""
    handlers: Callable[[], Handlers]
    """Builds the table of its operations; called once for each server."""
    check: Callable[[Mapping[str, Any]], None] = _anything
    """Refuses requests of operators that the model accepts but the API does not; raises ``ApiError``."""
    body_limit_bytes: int = BODY_LIMIT_BYTES
    """Larger requests are refused."""
    reasons: Mapping[str, str] = {}
    """Why operations that are not served are refused, and what to do instead; not of all of them."""
    named: ApiNames | None = None
    """Its names, for a model so large that it is only read at the first request; None for others."""


ECS = Api("ecs", ecs.handlers, characters.check, reasons=refused.REASONS)
"""The default, and the API that agents call."""

LOGS = Api("logs", logs.handlers, body_limit_bytes=8 * 1024 * 1024)
"""A batch of 1 MiB takes up to six times that in JSON, where every character is escaped."""

PARAMETERS = Api("ssm", ssm.handlers)
SECRETS = Api("secretsmanager", secretsmanager.handlers)

METRICS = Api("cloudwatch", cloudwatch.handlers)

GROUPS = Api("ec2", ec2.handlers, named=ApiNames("ec2", "Amazon EC2", "AWS_ENDPOINT_URL_EC2"))
"""Security groups, and what there is of networks and hosts. The model of EC2 is fifty times as large as that of ECS."""

SCALING = Api(
    "application-autoscaling",
    autoscaling.handlers,
    named=ApiNames(
        "application-autoscaling",
        "Application Auto Scaling",
        "AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING",
    ),
)
"""Of services alone. Many operators never call it, so its model is read at the first call."""

SCHEDULES = Api(
    "scheduler",
    scheduler.handlers,
    named=ApiNames("scheduler", "Amazon EventBridge Scheduler", "AWS_ENDPOINT_URL_SCHEDULER"),
)
RULES = Api(
    "events",
    events.handlers,
    named=ApiNames("events", "Amazon EventBridge", "AWS_ENDPOINT_URL_EVENTBRIDGE"),
)
"""Rules with a schedule alone."""

DISCOVERY = Api(
    "servicediscovery",
    servicediscovery.handlers,
    reasons=discovery_errors.REASONS,
    named=ApiNames("servicediscovery", "ServiceDiscovery", "AWS_ENDPOINT_URL_SERVICEDISCOVERY"),
)
"""AWS Cloud Map."""

BALANCERS = Api(
    "elbv2",
    elbv2.handlers,
    named=ApiNames(
        "elasticloadbalancing",
        "Elastic Load Balancing v2",
        "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
    ),
)
"""Of HTTP and TCP alone."""

IDENTITY = Api(
    "sts",
    sts.handlers,
    reasons=sts.REASONS,
    named=ApiNames("sts", "AWS STS", "AWS_ENDPOINT_URL_STS"),
)
"""Who calls."""

ROLES = Api(
    "iam",
    iam.handlers,
    reasons=iam_errors.REASONS,
    named=ApiNames("iam", "IAM", "AWS_ENDPOINT_URL_IAM"),
)
"""Users, their keys, and roles."""

TRAIL = Api(
    "cloudtrail",
    cloudtrail.handlers,
    reasons=cloudtrail.REASONS,
    named=ApiNames("cloudtrail", "CloudTrail", "AWS_ENDPOINT_URL_CLOUDTRAIL"),
)
"""Looks up calls that were made here."""

APIS: tuple[Api, ...] = (
    ECS,
    LOGS,
    PARAMETERS,
    SECRETS,
    METRICS,
    GROUPS,
    SCALING,
    SCHEDULES,
    RULES,
    DISCOVERY,
    BALANCERS,
    IDENTITY,
    ROLES,
    TRAIL,
)
