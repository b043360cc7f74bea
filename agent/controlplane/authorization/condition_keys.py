"""The keys that conditions and policy variables can name here. Pure.

A key is listed if its value is known when a call is checked. Others are refused when a policy is stored, unless
the statement is only about services that are not served, where nothing depends on it.

Source: "AWS global condition context keys"; the Service Authorization Reference of Amazon ECS, IAM and STS.
"""

from __future__ import annotations

from typing import Final

OF_CALLER: Final = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principaltype",
        "aws:userid",
        "aws:username",
    }
)
OF_CALL: Final = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:requestedregion",
        "aws:securetransport",
        "aws:sourceip",
        "aws:tagkeys",
        "aws:useragent",
    }
)
OF_SERVICES: Final = frozenset(
    {
        "ecs:account-setting",
        "ecs:auto-assign-public-ip",
        "ecs:capacity-provider",
        "ecs:cluster",
        "ecs:compute-compatibility",
        "ecs:container-instances",
        "ecs:container-name",
        "ecs:enable-ecs-managed-tags",
        "ecs:enable-execute-command",
        "ecs:namespace",
        "ecs:privileged",
        "ecs:propagate-tags",
        "ecs:service",
        "ecs:task",
        "ecs:task-cpu",
        "ecs:task-definition",
        "ecs:task-memory",
        "iam:passedtoservice",
        "iam:policyarn",
    }
)
OF_TRUST: Final = frozenset(
    {"aws:sourceaccount", "aws:sourcearn", "sts:externalid", "sts:rolesessionname"}
)
"""Besides the others, in documents that say who may assume a role."""
REQUEST_TAG: Final = "aws:requesttag/"
RESOURCE_TAGS: Final = ("aws:resourcetag/", "ecs:resourcetag/")
_WITH_TAG: Final = (REQUEST_TAG, *RESOURCE_TAGS)


def is_known(key: str, *, in_trust: bool = False) -> bool:
    """Return whether a key, in lower case, can be evaluated here."""
    if key.startswith(_WITH_TAG):
        return bool(key.partition("/")[2])
    return key in OF_CALLER | OF_CALL | OF_SERVICES or (in_trust and key in OF_TRUST)


def is_resource_tag(key: str) -> bool:
    """Return whether a key, in lower case, is a tag of the resource."""
    return key.startswith(RESOURCE_TAGS)
