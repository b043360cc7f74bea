"""What AWS keeps for tasks: values, files and logins, fetched with the keys of a task's role.

Opens ``agent.aws`` at the first use and not before: most hosts run tasks that need none of it, and
botocore's signing costs time and memory. Fails as ``aws.services`` does, and with ``ConfigError`` where
the URL of a proxy is invalid. One object per agent, on one event loop.

Tests: ``tests/unit/test_fetching.py``.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.aws.registry_tokens import RegistryToken
    from agent.aws.services import Services
    from agent.config import Settings
    from agent.model.lookups import AskRole


class TaskServices:
    """Implements ``preparations.contract.TaskAws`` and ``images.logins.TokenSource``.

    ``role`` gives the newest credentials of a role, other than those that AWS refused. An empty
    region stands for this host's own. See ``aws.services.Services`` for each call.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._opening = asyncio.Lock()
        self._opened: Services | None = None
        self._stack = contextlib.AsyncExitStack()

    async def parameters(self, role: AskRole, region: str, names: list[str]) -> dict[str, str]:
        """Return the values of parameters, by name or ARN as asked for; unknown ones lack."""
        return await (await self._services()).parameters(role, region, names)

    async def secret(
        self, role: AskRole, region: str, secret_id: str, *, stage: str = "", version: str = ""
    ) -> str | None:
        """Return the text of a secret; None for one that is binary."""
        services = await self._services()
        return await services.secret(role, region, secret_id, stage=stage, version=version)

    async def object(
        self, role: AskRole, region: str, bucket: str, key: str, *, limit_bytes: int
    ) -> bytes:
        """Return an object of S3, refused beyond a size."""
        services = await self._services()
        return await services.object(role, region, bucket, key, limit_bytes=limit_bytes)

    async def registry_token(
        self, role: AskRole | None, region: str, registry_id: str, *, endpoint: str = ""
    ) -> RegistryToken:
        """Return a login to ECR registries; without a role, with this host's own keys."""
        services = await self._services()
        return await services.registry_token(role, region, registry_id, endpoint=endpoint)

    async def close(self) -> None:
        """Close all connections. Idempotent; no call may be under way."""
        await self._stack.aclose()
        self._opened = None

    async def _services(self) -> Services:
        if self._opened is None:
            async with self._opening:
                if self._opened is None:
                    self._opened = await self._open()
        return self._opened

    async def _open(self) -> Services:
        open_services = await asyncio.to_thread(_load)
        return await self._stack.enter_async_context(open_services(self._settings, self._environ))


def _load() -> Callable[
    [Settings, Mapping[str, str]], contextlib.AbstractAsyncContextManager[Services]
]:
    """Import what AWS needs; blocks for as long as its files take to read."""
    from agent.aws.services import open_services  # noqa: PLC0415 - see the top

    return open_services
