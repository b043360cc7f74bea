"""Scripted answers of an AWS API and of instance metadata, as objects; no network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Reply = dict[str, Any] | Exception


class ScriptedApi:
    """Answers each operation by its script; the last line of a script is repeated for ever."""

    def __init__(self, **scripts: list[Reply]) -> None:
        self.scripts = scripts
        self.calls: list[tuple[str, dict[str, Any]]] = []

    async def call(
        self,
        operation: str,
        request: Mapping[str, Any],
        *,
        attempts: int = 3,
        limit_s: float = 42.0,
    ) -> dict[str, Any]:
        """Record the call and return, or raise, the next line of the script."""
        del attempts, limit_s
        self.calls.append((operation, dict(request)))
        await asyncio.sleep(0)
        script = self.scripts[operation]
        reply = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def requests(self, operation: str) -> list[dict[str, Any]]:
        """Return the requests of one operation, oldest first."""
        return [request for name, request in self.calls if name == operation]


Value = str | Exception | None


class ScriptedMetadata:
    """Instance metadata from a table; other paths are absent. A list gives one value per call."""

    def __init__(
        self, values: Mapping[str, Value | list[Value]] | None = None, *, enabled: bool = True
    ) -> None:
        self.enabled = enabled
        self.values: dict[str, Value | list[Value]] = dict(values or {})
        self.asked: list[str] = []
        self.on_asked: Callable[[str], None] = lambda path: None

    async def text(self, path: str) -> str | None:
        """Return what the table holds."""
        self.asked.append(path)
        self.on_asked(path)
        await asyncio.sleep(0)
        if not self.enabled:
            raise AwsUnavailable("instance metadata is not used on this host")
        value = self.values.get(path)
        if isinstance(value, list):
            value = value.pop(0) if len(value) > 1 else value[0]
        if isinstance(value, Exception):
            raise value
        return value

    async def insist(self, path: str, *, limit_s: float = 30.0) -> str | None:
        """Ask twice: tests need no more patience."""
        del limit_s
        try:
            return await self.text(path)
        except AwsUnavailable:
            return await self.text(path)
