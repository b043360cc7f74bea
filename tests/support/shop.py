"""A registry in a separate thread, for tests that are not coroutines."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import uuid
from pathlib import Path
from typing import Any

from agent.resources.inventory import architecture_name
from agent.runtime import pause
from tests.support.registry import Registry


class Shop:
    """A registry in a separate thread, with one image that runs until it is stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="registry")
        self._thread.start()
        self.registry = self._do(self._open())
        kind = "amd64" if architecture_name(os.uname().machine) == "x86_64" else "arm64"
        program = Path(pause.__file__).with_name(f"pause-{kind}").read_bytes()
        self.repository = f"test/{uuid.uuid4().hex[:12]}"
        self.digest = self.registry.push(self.repository, "v1", program, architecture=kind)
        self.name = f"{self.registry.host}/{self.repository}:v1"

    @staticmethod
    async def _open() -> Registry:
        made = Registry()
        await made.start()
        return made

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def hang(self, *, on: bool) -> None:
        gate = self.registry.open
        self._loop.call_soon_threadsafe(gate.clear if on else gate.set)

    def close(self) -> None:
        self._do(self.registry.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for name in (self.name, f"{self.name.rpartition(':')[0]}@{self.digest}"):
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)
