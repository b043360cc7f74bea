"""Where a control endpoint is and what opens it, in a file of its data directory, for its own tools.

Written when it answers; one of a process that has ended is left, and names where it was. Blocking.

Tests: ``tests/unit/cli/test_env.py``.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "endpoint.json"


class Address(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """How its owner reaches a control endpoint."""

    url: str
    region: str
    keys_file: str = ""
    """Empty where nobody is asked for a key."""
    certificate: str = ""
    """PEM file to trust; empty without TLS."""
    socket: str = ""
    """Unix socket by which the owner needs no key; empty for none."""
    serves_logs: bool = False
    """Whether it keeps logs of tasks, and serves CloudWatch Logs."""


_decoder = msgspec.json.Decoder(Address)


def write(directory: Path, address: Address) -> None:
    """Write the file, whole or not at all; raises ``OSError``."""
    fresh = directory / f".{FILE}.new"
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(address)) + b"\n")
    fresh.replace(directory / FILE)


def read(directory: Path) -> Address | None:
    """Return what the file says; None where there is none that can be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _decoder.decode(Path(directory, FILE).read_bytes())
    return None
