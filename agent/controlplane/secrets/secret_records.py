"""What the control endpoint stores of secrets: values are ciphertext (``sealing``). No I/O.

::

    /parameters/<name>    ParameterRecord
    /secrets/<name>       SecretRecord

They are read and written as all records are (``controlplane.records``).
"""

from __future__ import annotations

from typing import Final

from msgspec import field

from agent.controlplane.records import Record

PARAMETERS: Final = "/parameters/"
SECRETS: Final = "/secrets/"


class Sealed(Record, frozen=True):
    """An encrypted value (``secrets.sealing``)."""

    key: str
    """Id of the key."""
    text: str
    """Nonce and ciphertext in base64."""


class ParameterRecord(Record, frozen=True):
    """A parameter of Parameter Store that control keeps."""

    name: str
    type: str
    """``String``, ``StringList`` or ``SecureString``; all are encrypted here."""
    value: Sealed
    version: int = 1
    """Grows with every value."""
    description: str = ""
    modified_at: float = 0.0
    modified_by: str = ""
    """ARN of who gave the value; empty for the root."""
    tags: dict[str, str] = field(default_factory=dict)


class SecretVersionRecord(Record, frozen=True):
    """One value of a secret."""

    id: str
    value: Sealed
    is_binary: bool = False
    """The value is binary, in base64."""
    stages: list[str] = field(default_factory=list)
    """``AWSCURRENT`` and the like; a version without any is forgotten."""
    created_at: float = 0.0


class SecretRecord(Record, frozen=True):
    """A secret of Secrets Manager that control keeps."""

    name: str
    arn: str
    versions: list[SecretVersionRecord] = field(default_factory=list)
    description: str = ""
    created_at: float = 0.0
    changed_at: float = 0.0
    deleted_at: float = 0.0
    """When it will be deleted for good; 0 for never."""
    tags: dict[str, str] = field(default_factory=dict)


def parameter_key(name: str) -> str:
    """Return the key of a parameter."""
    return f"{PARAMETERS}{name}"


def secret_key(name: str) -> str:
    """Return the key of a secret."""
    return f"{SECRETS}{name}"
