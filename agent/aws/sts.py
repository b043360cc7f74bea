"""Calls to STS: credentials of a role, and whose account this is.

Raises only ``AwsRefused``, ``AwsUnavailable`` or ``CredentialsMissing``; no text contains a secret.
Makes one attempt: whoever asks has waits of its own between two. One event loop.

Source: the API reference of AWS STS (AssumeRole, GetCallerIdentity).

Tests: ``tests/unit/aws/test_sts.py``, ``tests/integration/controlplane/test_roles.py``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from agent.aws import rotating
from agent.aws.keys import Keys, checked
from agent.errors import AwsUnavailable, CredentialsMissing

if TYPE_CHECKING:
    from agent.aws.query import QueryApi

CALL_S: Final = 10.0
"""Limit for one call."""
_CALLER: Final = re.compile(r"arn:(aws[a-z-]*):(?:iam|sts)::([0-9]{12}):.+")
_SESSION: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_NOT_IN_A_SESSION: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)


class AssumedRole(Struct, frozen=True):
    """What AssumeRole gave. Shows no secret."""

    keys: Keys
    """With the time when they expire."""
    expiration: str
    """That time as STS wrote it."""


class Caller(Struct, frozen=True):
    """Whose keys a call was signed with."""

    partition: str
    account: str


class Sts:
    """STS at one endpoint."""

    def __init__(self, api: QueryApi, *, limit_s: float = CALL_S) -> None:
        self._api = api
        self._limit_s = limit_s

    async def assume_role(self, role_arn: str, session: str, duration_s: float) -> AssumedRole:
        """Return fresh credentials of a role.

        Args:
            role_arn: the role.
            session: its name in logs of AWS; what AWS does not take in one is replaced by ``-``.
            duration_s: how long they are to be valid.
        """
        root = await self._api.query(
            "AssumeRole",
            {
                "RoleArn": role_arn,
                "RoleSessionName": session_name(session),
                "DurationSeconds": str(int(duration_s)),
            },
            attempts=1,
            limit_s=self._limit_s,
        )
        found = root.find("AssumeRoleResult/Credentials")
        told = {part.tag: part.text or "" for part in found} if found is not None else {}
        expiration = told.get("Expiration", "")
        expires_at = rotating.unix_time(expiration)
        if expires_at is None:
            raise AwsUnavailable("AssumeRole: the answer does not say when the keys expire")
        try:
            keys = checked(
                told.get("AccessKeyId"),
                told.get("SecretAccessKey"),
                told.get("SessionToken"),
                expires_at,
            )
        except CredentialsMissing as error:
            raise AwsUnavailable(f"AssumeRole: the answer is of no use: {error}") from None
        return AssumedRole(keys, expiration)

    async def caller(self) -> Caller:
        """Return whose keys these are."""
        root = await self._api.query("GetCallerIdentity", {}, attempts=1, limit_s=self._limit_s)
        match = _CALLER.fullmatch(root.findtext("GetCallerIdentityResult/Arn") or "")
        if match is None:
            raise AwsUnavailable("GetCallerIdentity: the answer names no account")
        return Caller(*match.groups())


def session_name(text: str) -> str:
    """Return a text as a name of a session. Pure."""
    name = _NOT_IN_A_SESSION.sub("-", text)[:64]
    return name if _SESSION.fullmatch(name) else f"{name}--"
