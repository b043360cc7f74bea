"""Encrypts single values: AES-256-GCM, with what the value is bound to it. Pure but for the nonce.

What is bound is the kind, the name and the version of a value. So a ciphertext that is moved to another
record, be it by a faulty program or by somebody who can write to the store, does not open.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from agent.controlplane.secrets.secret_records import Sealed
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.controlplane.secrets.key_file import SecretKey

_NONCE_BYTES: Final = 12
_FORMAT: Final = "ecs-host-agent secret 1"


class SecretsFailure(AgentError):
    """A value cannot be sealed or opened, or the keys cannot be changed."""


class KeyMissing(SecretsFailure):
    """The key that a value is sealed with is not in the file."""


class SealBroken(SecretsFailure):
    """A value is not what was sealed, or not under this name and version."""


class Sealer:
    """Seals with the first of some keys, opens with all of them; ``repr`` shows their ids alone."""

    def __init__(self, keys: Sequence[SecretKey]) -> None:
        """Take the keys; without any, nothing can be sealed."""
        self._ciphers = {key.id: AESGCM(key.key) for key in keys}
        self.key_id = keys[0].id if keys else ""
        """Of the key that seals; empty for none."""

    def seal(self, value: str, what: Sequence[str]) -> Sealed:
        """Return a value sealed.

        Args:
            value: the text.
            what: its kind, name and version, of which none has a NUL.
        """
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._ciphers[self.key_id]
        return Sealed(
            key=self.key_id,
            text=base64.b64encode(
                nonce + cipher.encrypt(nonce, value.encode(), _bound(what))
            ).decode(),
        )

    def open(self, sealed: Sealed, what: Sequence[str]) -> str:
        """Return the value that was sealed.

        Raises:
            KeyMissing: its key is not among these.
            SealBroken: it was changed, or sealed as something else.
        """
        cipher = self._ciphers.get(sealed.key)
        if cipher is None:
            raise KeyMissing(
                f"the key {sealed.key[:32]} of {what[0]} {what[1]} is not in the file of secret keys; put "
                "that file back from a copy"
            )
        try:
            raw = base64.b64decode(sealed.text, validate=True)
            return cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(what)).decode()
        except (InvalidTag, ValueError):
            raise SealBroken(
                f"the stored value of {what[0]} {what[1]} is damaged; store it again"
            ) from None

    def __repr__(self) -> str:
        return f"Sealer({', '.join(self._ciphers)})"


def _bound(what: Sequence[str]) -> bytes:
    return "\0".join((_FORMAT, *what)).encode()
