"""Stands for what AWS and control keep for tasks, in tests of what uses them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.errors import AwsRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.model.lookups import AskRole


class FakeAws:
    """Keeps values in memory; ``asked`` has every call, ``failures`` what is raised first."""

    def __init__(self) -> None:
        self.known_parameters: dict[str, str] = {}
        self.known_secrets: dict[str, str | None] = {}
        """By id, or by id, stage and version with spaces between."""
        self.known_objects: dict[str, bytes] = {}
        """By bucket and key with a slash between."""
        self.asked: list[tuple[Any, ...]] = []
        self.roles: list[str] = []
        """Ids of the credentials that the calls were made with."""
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.under_way = self.most = 0

    async def parameters(self, role: AskRole, region: str, names: list[str]) -> dict[str, str]:
        await self._called(role, "ssm", region, *names)
        return {n: self.known_parameters[n] for n in names if n in self.known_parameters}

    async def secret(
        self, role: AskRole, region: str, secret_id: str, *, stage: str = "", version: str = ""
    ) -> str | None:
        name = " ".join(part for part in (secret_id, stage, version) if part)
        await self._called(role, "asm", region, name)
        if name not in self.known_secrets:
            text = "GetSecretValue: ResourceNotFoundException: Secrets Manager can't find it."
            raise AwsRefused(text, code="ResourceNotFoundException")
        return self.known_secrets[name]

    async def object(
        self, role: AskRole, region: str, bucket: str, key: str, *, limit_bytes: int
    ) -> bytes:
        await self._called(role, "s3", region, bucket, key)
        content = self.known_objects.get(f"{bucket}/{key}")
        if content is None:
            raise AwsRefused("GetObject: NoSuchKey: The key does not exist.", code="NoSuchKey")
        if len(content) > limit_bytes:
            text = f"GetObject: the answer is larger than {limit_bytes} bytes"
            raise AwsRefused(text, code="EntityTooLarge")
        return content

    async def _called(self, role: AskRole, *call: str) -> None:
        self.roles.append((await role(None)).credentials_id)
        self.asked.append(call)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0)
            await self.open.wait()
        finally:
            self.under_way -= 1
        if self.failures:
            raise self.failures.pop(0)


class FakeControl:
    """Keeps secrets of its own; ``failures`` are raised first."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked: list[tuple[str, list[str]]] = []
        self.failures: list[Exception] = []

    async def secrets(self, task_arn: str, names: list[str]) -> Mapping[str, str]:
        self.asked.append((task_arn, names))
        if self.failures:
            raise self.failures.pop(0)
        return {name: self.known[name] for name in names if name in self.known}
