"""A file in the data directory that tells local tools how to reach and use the control endpoint.

Written once the endpoint answers. The file of a process that has ended stays. Blocking.

Tests: ``tests/unit/cli/test_env.py``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct, field

FILE = "endpoint.json"


class Address(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How the owner of a control endpoint reaches it."""

    url: str
    region: str
    keys_file: str = ""
    """Empty if no key is required."""
    certificate: str = ""
    """PEM file to trust; empty without TLS."""
    socket: str = ""
    """Unix socket on which the owner needs no key; empty if there is none."""
    audit_file: str = ""
    """The newest file of the audit trail; empty if there is none."""
    endpoint_variables: list[str] = field(default_factory=list)
    """The variables in which AWS tools look for the URL of a service that control serves; ECS is always one."""


_decoder = msgspec.json.Decoder(Address)


def write(directory: Path, address: Address) -> None:
    """Write the file atomically; raises ``OSError``."""
    fresh = directory / f".{FILE}.new"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(address)) + b"\n")
    fresh.replace(directory / FILE)


def read(directory: Path) -> Address | None:
    """Return the content of the file; None if there is none or it cannot be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _decoder.decode(Path(directory, FILE).read_bytes())
    return None
