"""Roles of IAM as they are stored. Plain data and keys.

::

    /iam-roles/<name in lower case>     IamRoleRecord      names differ by more than case
"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Final

from msgspec import field

from agent.controlplane.records import Record

if TYPE_CHECKING:
    from agent.controlplane.names import Names

ROLES: Final = "/iam-roles/"
SESSION_S: Final = 3600
_ID_LETTERS: Final = string.ascii_uppercase + "234567"
_ID_LENGTH: Final = 17


class IamRoleRecord(Record, frozen=True):
    """A role; documents are kept as they were sent."""

    id: str
    name: str
    path: str = "/"
    trust: str = ""
    """The document that says who may assume it."""
    description: str = ""
    max_session_s: int = SESSION_S
    created_at: float = 0.0
    attached: list[str] = field(default_factory=list)
    """ARNs of managed policies, in the order in which they were attached."""
    inline: dict[str, str] = field(default_factory=dict)
    """Documents by the names of its own policies."""
    tags: dict[str, str] = field(default_factory=dict)

    def arn(self, names: Names) -> str:
        """Return its ARN."""
        return f"arn:{names.partition}:iam::{names.account}:role{self.path}{self.name}"


def role_key(name: str) -> str:
    """Return the key of a role; the name has been checked."""
    return f"{ROLES}{name.lower()}"


def new_role_id() -> str:
    """Return the id of a new role, with the prefix of IAM."""
    return unique_id("AROA")


def unique_id(prefix: str) -> str:
    """Return a new id as IAM makes them, with the prefix of its kind."""
    return prefix + "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
