"""Sessions of roles: temporary keys with a token that says whose they are. Pure, but for random bytes.

Nothing is stored for a session. Its token is what it is, sealed with the session key of the store, so that every
control over that store can check it, and a restart ends none. What a session may do is what its role may do when
it calls: a role that is changed or deleted counts at once.
"""

from __future__ import annotations

import base64
import os
import secrets
from collections import OrderedDict
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

from agent.controlplane.front import keys
from agent.controlplane.iam.role_records import unique_id
from agent.errors import AgentError

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SECRET_BYTES: Final = 30
_REMEMBERED: Final = 1000
_FORMAT: Final = b"ecs-host-agent session 1"


class SessionInvalid(AgentError):
    """A token that was not made here, or for another key."""


class Session(Struct, frozen=True, array_like=True):
    """What a token says; ``repr`` shows no secret."""

    key_id: str
    secret: str
    role_id: str
    role: str
    """Name of the role."""
    name: str
    """Name of the session."""
    issued_at: float
    expires_at: float
    policy: str = ""
    """The document that limits it further; empty if none does."""

    def __repr__(self) -> str:
        return f"Session({self.key_id!r}, role={self.role!r})"


class Sessions:
    """Makes and reads tokens; remembers those that it read."""

    def __init__(self, key: bytes) -> None:
        """Take the session key."""
        self._cipher = AESGCM(key)
        self._read: OrderedDict[str, Session] = OrderedDict()

    def __repr__(self) -> str:
        return "Sessions()"

    def begin(
        self,
        role_id: str,
        role: str,
        name: str,
        *,
        now: float,
        duration_s: float,
        policy: str = "",
    ) -> tuple[Session, str]:
        """Return a new session and its token."""
        session = Session(
            key_id=unique_id(keys.OF_SESSIONS),
            secret=secrets.token_urlsafe(_SECRET_BYTES),
            role_id=role_id,
            role=role,
            name=name,
            issued_at=now,
            expires_at=now + duration_s,
            policy=policy,
        )
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, msgspec.json.encode(session), _FORMAT)
        return session, base64.urlsafe_b64encode(nonce + sealed).decode()

    def read(self, key_id: str, token: str) -> Session:
        """Return the session of a token, expired or not; raises ``SessionInvalid``."""
        known = self._read.get(token)
        if known is None:
            known = self._open(token)
            self._read[token] = known
            if len(self._read) > _REMEMBERED:
                self._read.popitem(last=False)
        if known.key_id != key_id:
            raise SessionInvalid("the token is one of another key")
        return known

    def _open(self, token: str) -> Session:
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
            text = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _FORMAT)
            return msgspec.json.decode(text, type=Session)
        except (InvalidTag, ValueError):
            raise SessionInvalid("the token was not made here") from None
