"""Users of IAM and their access keys as they are stored, and the key that sessions of roles are sealed with.

::

    /iam-users/<name in lower case>     IamUserRecord        names differ by more than case
    /iam-session-keys/<id>              SessionKeyRecord     one, made when it is first needed

What is secret in them is sealed as all secrets are (``secrets.sealing``), and sealed anew with them.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from msgspec import field
from msgspec.structs import replace

from agent.controlplane.front import keys
from agent.controlplane.iam.role_records import unique_id
from agent.controlplane.records import Record
from agent.controlplane.secrets.keeper import SealedKind
from agent.controlplane.secrets.secret_records import Sealed  # noqa: TC001 - msgspec reads it

if TYPE_CHECKING:
    from agent.controlplane.names import Names
    from agent.controlplane.secrets.keeper import Reseal

EVERYTHING: Final = "/iam-"
"""Prefix of all that the directory follows: users, roles, session keys."""
USERS: Final = "/iam-users/"
SESSION_KEYS: Final = "/iam-session-keys/"
_ACCESS_KEY: Final = "access key"
_SESSION_KEY: Final = "session key"
_SECRET_BYTES: Final = 30
"""40 characters in base64, as on AWS."""


class AccessKeyRecord(Record, frozen=True):
    """One access key of a user."""

    id: str
    secret: Sealed
    is_active: bool = True
    created_at: float = 0.0


class IamUserRecord(Record, frozen=True):
    """A user; documents are kept as they were sent."""

    id: str
    name: str
    path: str = "/"
    created_at: float = 0.0
    keys: list[AccessKeyRecord] = field(default_factory=list)
    """In the order in which they were created."""
    attached: list[str] = field(default_factory=list)
    """ARNs of managed policies, in the order in which they were attached."""
    inline: dict[str, str] = field(default_factory=dict)
    """Documents by the names of its own policies."""
    tags: dict[str, str] = field(default_factory=dict)

    def arn(self, names: Names) -> str:
        """Return its ARN."""
        return f"arn:{names.partition}:iam::{names.account}:user{self.path}{self.name}"


class SessionKeyRecord(Record, frozen=True):
    """The key that seals sessions of roles (``iam.sessions``)."""

    id: str
    key: Sealed


def user_key(name: str) -> str:
    """Return the key of a user; the name has been checked."""
    return f"{USERS}{name.lower()}"


def session_key_key(key_id: str) -> str:
    """Return the key of a session key."""
    return f"{SESSION_KEYS}{key_id}"


def new_user_id() -> str:
    """Return the id of a new user, with the prefix of IAM."""
    return unique_id("AIDA")


def new_key_id() -> str:
    """Return the id of a new access key of a user."""
    return unique_id(keys.OF_USERS)


def new_secret() -> str:
    """Return a new secret of an access key."""
    return secrets.token_urlsafe(_SECRET_BYTES)


def bound_key(key_id: str) -> tuple[str, str, str]:
    """Return what the secret of an access key is bound to when it is sealed."""
    return (_ACCESS_KEY, key_id, "")


def bound_session_key(key_id: str) -> tuple[str, str, str]:
    """Return what a session key is bound to when it is sealed."""
    return (_SESSION_KEY, key_id, "")


def _reseal_user(user: IamUserRecord, again: Reseal) -> IamUserRecord:
    found = [replace(key, secret=again(key.secret, bound_key(key.id))) for key in user.keys]
    return replace(user, keys=found)


def _reseal_session_key(record: SessionKeyRecord, again: Reseal) -> SessionKeyRecord:
    return replace(record, key=again(record.key, bound_session_key(record.id)))


def sealed_kinds() -> tuple[SealedKind, ...]:
    """Return what the keeper of secrets has to seal anew with its own records."""
    return (
        SealedKind(USERS, IamUserRecord, _reseal_user),
        SealedKind(SESSION_KEYS, SessionKeyRecord, _reseal_session_key),
    )
