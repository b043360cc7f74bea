"""Tokens of programs that watch the fleet, such as Prometheus: they can read metrics and targets, nothing else.

Only reads the token file, and creates it with one token if it is missing. A token in a call is compared by its
digest, in constant time, with all tokens.

Tests: ``tests/unit/controlplane/monitoring/test_calls.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from agent.controlplane.agents import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPTION: Final = "--metrics-token-file"
_HEAD: Final = """\
# Tokens of programs that read metrics and scrape targets (GET /metrics, GET /prometheus/...), one per line. They
# allow nothing else. Prometheus sends one with 'authorization: {credentials_file: ...}'. SIGHUP reloads the file.
"""


class ReaderTokens:
    """Admits calls with a token of the file; without a file, all calls. For one event loop."""

    def __init__(self, file: Path | None, found: Sequence[str]) -> None:
        """Admit the tokens ``found`` in ``file``; see ``open``."""
        self.file = file
        self._digests = [_digest(token) for token in found]

    @classmethod
    async def open(cls, file: Path | None) -> ReaderTokens:
        """Load the tokens of a file; creates a missing file.

        Raises:
            ConfigError: the file cannot be used; the text says how to fix it.
        """
        return cls(file, await asyncio.to_thread(_read, file))

    async def reload(self) -> int:
        """Load the file again, and return the number of its tokens; the old ones stay if that fails.

        Raises:
            ConfigError: the file cannot be used.
        """
        found = await asyncio.to_thread(_read, self.file)
        self._digests = [_digest(token) for token in found]
        return len(found)

    def admits(self, header: str | None) -> bool:
        """Tell whether a call with this ``Authorization`` header may read."""
        if self.file is None:
            return True
        token = tokens.carried(header)
        digest = _digest(token)
        known = [hmac.compare_digest(digest, other) for other in self._digests]
        return bool(token) and any(known)


def _read(file: Path | None) -> list[str]:
    return list(tokens.read(file, option=OPTION, head=_HEAD))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
