"""HAProxy's sockets: commands and their answers, one connection each.

Every call ends within ``LIMIT_S``. Raises ``ProxyFailure``. For one event loop; calls may run side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIMIT_S: Final = 10.0
_ANSWER_MOST_BYTES: Final = 64 * 1024 * 1024
_BATCH: Final = 64
"""Commands in one connection; HAProxy takes a line of 16 KiB."""


class ProxyFailure(AgentError):
    """HAProxy does not answer, or has refused a command."""

    retryable = True


class RuntimeApi:
    """Talks to one socket."""

    def __init__(self, socket: Path) -> None:
        """Take the path of the socket."""
        self._socket = socket

    async def ask(self, command: str) -> str:
        """Return the answer to a command; raises ``ProxyFailure``."""
        try:
            async with asyncio.timeout(LIMIT_S):
                reader, writer = await asyncio.open_unix_connection(
                    self._socket, limit=_ANSWER_MOST_BYTES
                )
                try:
                    writer.write(command.encode() + b"\n")
                    await writer.drain()
                    return (await reader.read(-1)).decode("utf-8", "replace").strip()
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            raise ProxyFailure(f"HAProxy does not answer on {self._socket}: {error!r}") from None

    async def tell(self, commands: Sequence[str]) -> list[str]:
        """Give commands in their order and return what HAProxy says to them, if it says anything.

        Raises:
            ProxyFailure: it does not answer; nobody knows which of them were done.
        """
        said: list[str] = []
        for start in range(0, len(commands), _BATCH):
            answer = await self.ask(";".join(commands[start : start + _BATCH]))
            said += [line for line in answer.splitlines() if line.strip()]
        return said
