"""Which roles a task needs credentials of. Pure.

The task role is needed wherever it is named. The execution role is for the agent, which needs it only to
ask AWS for something: where control keeps all secrets and no image is in ECR, nothing is asked of AWS.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.model.payload import RoleType

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ECR_IMAGE: Final = re.compile(
    r"([0-9]{12})\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)/.+"
)


class NeededRole(NamedTuple):
    """A role of a task, and what of the task needs it."""

    role_type: RoleType
    arn: str
    """As it is given: an ARN or a name."""
    used_by: str = ""
    """What of the task asks AWS for something: ``secret 'KEY' of container 'web'``; empty for the task
    role, which the containers use as they like."""


class EcrImage(NamedTuple):
    """The registry of an image in Amazon ECR."""

    account: str
    region: str


def needed(
    body: Mapping[str, Any], kept_here: Collection[str], *, keeps_logs: bool = True
) -> list[NeededRole]:
    """Return the roles that credentials are needed of.

    Args:
        body: the definition with the overrides applied.
        kept_here: each ``valueFrom`` whose value control keeps (``secret_refs.kept_here``).
        keeps_logs: whether control keeps the logs of the driver ``awslogs``.
    """
    found = []
    if body.get("taskRoleArn"):
        found.append(NeededRole(RoleType.APPLICATION, body["taskRoleArn"]))
    if body.get("executionRoleArn"):
        used_by = asked_of_aws(body, kept_here) or _ecr_image_of(body)
        used_by = used_by or ("" if keeps_logs else _logs_of(body))
        if used_by:
            found.append(NeededRole(RoleType.EXECUTION, body["executionRoleArn"], used_by))
    return found


def asked_of_aws(body: Mapping[str, Any], kept_here: Collection[str]) -> str:
    """Return the first thing of a task that can be had only with an execution role; empty for none."""
    for container in body.get("containerDefinitions", ()):
        of = f"of container '{container.get('name', '')}'"
        log = container.get("logConfiguration") or {}
        for member, items in (
            ("secret", container.get("secrets", ())),
            ("log option", log.get("secretOptions", ())),
        ):
            for item in items:
                if item["valueFrom"] not in kept_here:
                    return f"{member} '{item['name']}' {of}"
        parameter = (container.get("repositoryCredentials") or {}).get("credentialsParameter")
        if parameter and parameter not in kept_here:
            return f"'repositoryCredentials' {of}"
        if container.get("environmentFiles"):
            return f"'environmentFiles' {of}"
        router = (container.get("firelensConfiguration") or {}).get("options") or {}
        if router.get("config-file-type") == "s3":
            return f"the log router's configuration {of}"
    return ""


def ecr_image(image: str) -> EcrImage | None:
    """Return the registry of an image in Amazon ECR; None for an image of another registry."""
    match = ECR_IMAGE.fullmatch(image)
    return None if match is None else EcrImage(*match.groups())


def _logs_of(body: Mapping[str, Any]) -> str:
    """Return whose logs go to CloudWatch Logs; empty for none."""
    for container in body.get("containerDefinitions", ()):
        log = container.get("logConfiguration") or {}
        options = log.get("options") or {}
        if log.get("logDriver") == "awslogs" and not options.get("awslogs-endpoint"):
            return f"the log driver of container '{container.get('name', '')}'"
    return ""


def _ecr_image_of(body: Mapping[str, Any]) -> str:
    for container in body.get("containerDefinitions", ()):
        if ecr_image(container.get("image", "")) is not None:
            return f"the image of container '{container.get('name', '')}'"
    return ""
