"""Secrets of Secrets Manager: one at a time, in a stage or a version.

Uses the network. Raises what ``api.JsonApi`` raises, and ``ValueError`` for an invalid reference.
Values are returned and kept nowhere.

Source: Amazon ECS agent 1.105.1, ``agent/asm`` (form of a reference).

Tests: ``tests/unit/aws/test_secrets_manager.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from agent.aws.api import JsonApi

TARGET: Final = "secretsmanager"


class SecretVersion(Struct, frozen=True, kw_only=True):
    """Which value of a secret; equal ones are fetched once."""

    secret_id: str
    """ARN or name."""
    stage: str = ""
    """``AWSPREVIOUS``, say; empty for the current one."""
    version: str = ""


async def secret_text(
    api: JsonApi, wanted: SecretVersion, *, attempts: int, limit_s: float
) -> str | None:
    """Return the text of a secret; None for a secret that is binary.

    Raises as ``JsonApi.call`` does.
    """
    request = {
        "SecretId": wanted.secret_id,
        "VersionStage": wanted.stage,
        "VersionId": wanted.version,
    }
    answer = await api.call(
        "GetSecretValue",
        {name: value for name, value in request.items() if value},
        attempts=attempts,
        limit_s=limit_s,
    )
    text = answer.get("SecretString")
    return text if isinstance(text, str) else None
