"""Permissions of Parameter Store and Secrets Manager. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.controlplane.authorization.actions.rows import (
    Asked,
    Kind,
    Resource,
    Row,
    listed,
    looked_up,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLONS_OF_ARN: Final = 5


def _parameters(asked: Asked) -> list[Resource]:
    texts = listed(asked.members.get("Name")) + listed(asked.members.get("Names"))
    return [_parameter(asked, text) for text in texts]


def _parameter(asked: Asked, text: str) -> str:
    """Return the ARN of a parameter that a request names, without a version or label behind it."""
    parts = text.split(":")
    if text.startswith("arn:"):
        return ":".join(parts[: _COLONS_OF_ARN + 1])
    return asked.names.parameter(parts[0])


def _tagged(asked: Asked) -> list[Resource]:
    return [_parameter(asked, asked.members["ResourceId"])]


def _below(asked: Asked) -> list[Resource]:
    return [asked.names.parameter(f"{asked.members['Path'].strip('/')}/")]


def _new_secret(asked: Asked) -> list[Resource]:
    return [asked.names.stored_secret(f"{asked.members['Name']}-??????")]


SSM: Final[Mapping[str, Row]] = {
    **{
        name: Row(f"ssm:{name}", _parameters)
        for name in (
            "DeleteParameter",
            "DeleteParameters",
            "GetParameter",
            "GetParameters",
            "PutParameter",
        )
    },
    **{
        name: Row(f"ssm:{name}", _tagged)
        for name in ("AddTagsToResource", "ListTagsForResource", "RemoveTagsFromResource")
    },
    "DescribeParameters": Row("ssm:DescribeParameters"),
    "GetParametersByPath": Row("ssm:GetParametersByPath", _below),
}
SECRETS: Final[Mapping[str, Row]] = {
    **{
        name: Row(f"secretsmanager:{name}", looked_up(Kind.SECRET, "SecretId"))
        for name in (
            "DeleteSecret",
            "DescribeSecret",
            "GetResourcePolicy",
            "GetSecretValue",
            "ListSecretVersionIds",
            "PutSecretValue",
            "RestoreSecret",
            "TagResource",
            "UntagResource",
            "UpdateSecret",
            "UpdateSecretVersionStage",
        )
    },
    "CreateSecret": Row("secretsmanager:CreateSecret", _new_secret),
    "ListSecrets": Row("secretsmanager:ListSecrets"),
}
