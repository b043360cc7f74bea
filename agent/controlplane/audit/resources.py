"""The resources that a call is about: the ARNs in its request and response. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST: Final = 20
"""Of one record; CloudTrail has no more."""
_DEEPEST: Final = 4
_LONGEST: Final = 2048
_ARN: Final = re.compile(r"arn:[a-z-]+:([a-z0-9-]+):[a-z0-9-]*:([0-9]*|aws):([^\s]+)")
_SERVICES: Final = {
    "ecs": "ECS",
    "ec2": "EC2",
    "iam": "IAM",
    "sts": "STS",
    "ssm": "SSM",
    "logs": "Logs",
    "events": "Events",
    "scheduler": "Scheduler",
    "secretsmanager": "SecretsManager",
    "servicediscovery": "ServiceDiscovery",
    "elasticloadbalancing": "ElasticLoadBalancingV2",
    "cloudwatch": "CloudWatch",
}
_KINDS: Final = {
    ("elasticloadbalancing", "targetgroup"): "TargetGroup",
    ("elasticloadbalancing", "loadbalancer"): "LoadBalancer",
    ("elasticloadbalancing", "listener-rule"): "ListenerRule",
    ("secretsmanager", "secret"): "Secret",
    ("logs", "log-group"): "LogGroup",
}


def resources(*values: Any) -> list[dict[str, str]]:
    """Return the resources of ARNs in some values, the first ``MOST``, each once."""
    found: dict[str, dict[str, str]] = {}
    for value in values:
        for text in _texts(value, 0):
            match = _ARN.fullmatch(text)
            if match is None or text in found:
                continue
            if len(found) == MOST:
                return list(found.values())
            found[text] = {"ARN": text, "accountId": match[2], "type": _type(match[1], match[3])}
    return list(found.values())


def _type(service: str, resource: str) -> str:
    """Return the type as CloudFormation names it: ``AWS::ECS::TaskDefinition``."""
    kind = re.split(r"[:/]", resource)[0]
    name = _KINDS.get((service, kind)) or "".join(part.capitalize() for part in kind.split("-"))
    return f"AWS::{_SERVICES.get(service, service)}::{name}"


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith("arn:") and len(value) <= _LONGEST:
            yield value
    elif depth < _DEEPEST and isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each, depth + 1)
