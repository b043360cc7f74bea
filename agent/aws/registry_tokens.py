"""Logins to registries of ECR. Uses the network; raises what ``api.JsonApi`` raises.

Source: Amazon ECS agent 1.105.1, ``agent/ecr``.

Tests: ``tests/unit/aws/test_registry_tokens.py``.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.errors import AwsRefused

if TYPE_CHECKING:
    from agent.aws.api import JsonApi

TARGET: Final = "AmazonEC2ContainerRegistry_V20150921"
USUAL_LIFE_S: Final = 12 * 3600.0
"""How long a token is good that names no end."""


class RegistryToken(Struct, frozen=True, kw_only=True):
    """User name and password for the registries of one account in one region."""

    username: str
    password: str
    good_s: float
    """How long it is good from now on."""

    def __repr__(self) -> str:
        """Hide the password from logs and tracebacks."""
        return f"RegistryToken(username={self.username!r}, good_s={self.good_s:g})"


async def registry_token(
    api: JsonApi, registry_id: str, *, now: float, attempts: int, limit_s: float
) -> RegistryToken:
    """Return a login to the registries of an account.

    Args:
        api: the API of ECR in the registry's region.
        registry_id: account of the registry; empty for that of the keys.
        now: Unix time by AWS's clock.
        attempts: at most so many.
        limit_s: for each attempt.

    Raises:
        AwsRefused: AWS refused, or gave what is not a login; as ``JsonApi.call`` otherwise.
    """
    request = {"registryIds": [registry_id]} if registry_id else {}
    answer = await api.call("GetAuthorizationToken", request, attempts=attempts, limit_s=limit_s)
    told = answer.get("authorizationData")
    if not isinstance(told, list) or len(told) != 1 or not isinstance(told[0], dict):
        raise _unreadable("the answer has not exactly one token")
    username, password = _pair(told[0].get("authorizationToken"))
    ends = told[0].get("expiresAt")
    good_s = float(ends) - now if isinstance(ends, int | float) else USUAL_LIFE_S
    return RegistryToken(username=username, password=password, good_s=good_s)


def _pair(token: object) -> tuple[str, str]:
    try:
        text = base64.b64decode(str(token or ""), validate=True).decode()
    except (binascii.Error, UnicodeError):
        raise _unreadable("the token is not Base64") from None
    username, colon, password = text.partition(":")
    if not colon or not username or not password:
        raise _unreadable("the token is not a user name and password")
    return username, password


def _unreadable(why: str) -> AwsRefused:
    return AwsRefused(f"GetAuthorizationToken: {why}", code="InvalidToken", status=200)
