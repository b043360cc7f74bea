"""A file in the data directory that tells local tools how to reach and use the control endpoint.

Written once the endpoint answers, and again and again while the disk has no room. The file of a process that
has ended stays. Functions that block are called from a thread.

Tests: ``tests/unit/cli/test_env.py``, ``tests/unit/controlplane/front/test_address.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

FILE = "endpoint.json"
AGAIN_AFTER_S = 10.0

_log = structlog.get_logger(__name__)


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


async def keep(
    directory: Path, address: Address, again: Callable[[Coroutine[Any, Any, None]], object]
) -> None:
    """Write the file; if that fails, go on trying, so that a full disk does not keep control from starting.

    Args:
        directory: control's data directory.
        address: what to write.
        again: runs the tries that follow in the background.
    """
    if not await _is_written(directory, address):
        again(_try_again(directory, address))


async def _try_again(directory: Path, address: Address) -> None:
    while True:
        await asyncio.sleep(AGAIN_AFTER_S)  # nobody tells when a disk has room again
        if await _is_written(directory, address):
            _log.info("address of control written", file=str(directory / FILE))
            return


async def _is_written(directory: Path, address: Address) -> bool:
    try:
        await asyncio.to_thread(write, directory, address)
    except OSError as error:
        _log.warning(
            "address of control not written, trying again; commands on this host may not find control",
            file=str(directory / FILE),
            error=str(error),
        )
        return False
    return True


def read(directory: Path) -> Address | None:
    """Return the content of the file; None if there is none or it cannot be read."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _decoder.decode(Path(directory, FILE).read_bytes())
    return None
