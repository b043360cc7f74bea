"""Reads published task definitions, and says how each is to be run. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"
REGION = "eu-west-1"
ONLY_DESCRIBED = frozenset(
    {
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "registeredBy",
        "deregisteredAt",
    }
)
"""What DescribeTaskDefinition shows and RegisterTaskDefinition does not take."""
_ARN = re.compile(
    r"arn:(?P<partition>aws|[$<{][^:]*):(?P<service>[a-z0-9-]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<rest>.*)"
)
_ACCOUNT = re.compile(r"[0-9]{12}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]")
_ROLES = frozenset({"taskRoleArn", "executionRoleArn"})
_ROLE = re.compile(r"arn:aws:iam::[0-9]{12}:role/[\w+=,.@/-]+")
_GLOBAL = frozenset({"iam", "s3"})


@dataclass(frozen=True, slots=True)
class Published:
    """One definition as its author wrote it, placeholders filled in."""

    request: dict[str, Any]
    filled: list[str] = field(default_factory=list)
    """Placeholders that were filled in."""

    @property
    def is_fargate(self) -> bool:
        """Whether it is written for Fargate alone."""
        return self.request.get("requiresCompatibilities") == ["FARGATE"]

    def run_request(self) -> dict[str, Any]:
        """Return what RunTask is asked, beside the definition."""
        request: dict[str, Any] = {"launchType": "FARGATE" if self.is_fargate else "EC2"}
        if self.request.get("networkMode") == "awsvpc":
            vpc = {"subnets": ["subnet-1"]}
            public = {"assignPublicIp": "ENABLED"} if self.is_fargate else {}
            request["networkConfiguration"] = {"awsvpcConfiguration": vpc | public}
        return request


def read(text: str) -> Published:
    """Read a file; raises ``ValueError`` if it is not a task definition in JSON."""
    found = json.loads(text)
    if "taskDefinition" in found and "containerDefinitions" not in found:
        found = found["taskDefinition"]
    filled: list[str] = []
    request = {
        name: _role(value, filled) if name in _ROLES else _filled(_without_nulls(value), filled)
        for name, value in found.items()
        if name not in ONLY_DESCRIBED and value is not None
    }
    return Published(request, sorted(set(filled)))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _filled(value: Any, filled: list[str]) -> Any:
    """Return a value with real accounts and regions in its ARNs, and in the log driver's options."""
    if isinstance(value, dict):
        return {
            name: _region(item, filled) if name == "awslogs-region" else _filled(item, filled)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_filled(item, filled) for item in value]
    if isinstance(value, str) and (arn := _ARN.fullmatch(value)):
        return _real_arn(arn, filled)
    return value


def _region(value: Any, filled: list[str]) -> Any:
    """Return a real region where the author left a placeholder."""
    if not isinstance(value, str) or not re.search(r"[<>{}$]", value):
        return value
    filled.append(value)
    return REGION


def _role(value: str, filled: list[str]) -> str:
    """Return the ARN of a role, made from the name where the author left nothing else."""
    arn: str = _filled(value, filled)
    if _ROLE.fullmatch(arn):
        return arn
    filled.append(value)
    name = re.sub(r"[^\w+=,.@-]", "", arn.rpartition("/")[2]) or "role"
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


def _real_arn(arn: re.Match[str], filled: list[str]) -> str:
    service, region, account, rest = arn["service"], arn["region"], arn["account"], arn["rest"]
    if arn["partition"] != "aws":
        filled.append(arn["partition"])
    if service not in _GLOBAL and not _REGION.fullmatch(region):
        filled.append(region)
        region = REGION
    if service != "s3":
        if not _ACCOUNT.fullmatch(account):
            filled.append(account)
        account = ACCOUNT  # the AWS on the loopback has no other one
    clean = re.sub(r"[<>{}$]", "", rest)
    if clean != rest:
        filled.append(rest)
    return f"arn:aws:{service}:{region}:{account}:{clean}"
