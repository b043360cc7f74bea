"""A call of every API that needs nothing to be there, and the codes with which that API refuses it."""

from __future__ import annotations

from typing import Any, NamedTuple

from agent.controlplane.api.table import APIS

ONE_CALL: dict[str, tuple[str, dict[str, Any]]] = {
    "application-autoscaling": ("describe_scalable_targets", {"ServiceNamespace": "ecs"}),
    "cloudtrail": ("lookup_events", {}),
    "cloudwatch": ("list_metrics", {}),
    "ec2": ("describe_vpcs", {}),
    "ecs": ("list_clusters", {}),
    "elbv2": ("describe_load_balancers", {}),
    "events": ("list_rules", {}),
    "iam": ("list_roles", {}),
    "logs": ("describe_log_groups", {}),
    "scheduler": ("list_schedules", {}),
    "secretsmanager": ("list_secrets", {}),
    "servicediscovery": ("list_namespaces", {}),
    "ssm": ("describe_parameters", {}),
    "sts": ("get_caller_identity", {}),
}
"""A call of each API that needs nothing to be there."""
SERVED = sorted(api.service for api in APIS)
_QUERY = ("elbv2", "iam", "sts", "cloudwatch")


class Codes(NamedTuple):
    """The error of an API for a key that may not do what it asks."""

    missing: str
    unknown: str
    wrong: str
    expired: str
    denied: str


_CODES = {
    "json": Codes(
        missing="MissingAuthenticationTokenException",
        unknown="UnrecognizedClientException",
        wrong="InvalidSignatureException",
        expired="ExpiredTokenException",
        denied="AccessDeniedException",
    ),
    "query": Codes(
        missing="MissingAuthenticationToken",
        unknown="InvalidClientTokenId",
        wrong="SignatureDoesNotMatch",
        expired="ExpiredToken",
        denied="AccessDenied",
    ),
    "ec2": Codes(
        missing="AuthFailure",
        unknown="AuthFailure",
        wrong="AuthFailure",
        expired="RequestExpired",
        denied="UnauthorizedOperation",
    ),
}


def codes(service: str) -> Codes:
    """Return the codes of an API."""
    return _CODES["ec2" if service == "ec2" else "query" if service in _QUERY else "json"]
