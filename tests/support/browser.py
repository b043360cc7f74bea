"""A real Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
START_LIMIT_S = 120.0
WAIT_LIMIT_S = 60.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def executable() -> str | None:
    """Return the browser of this machine; None if it has none."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Navigating(Exception):
    """The page is being replaced by another, and answers nothing."""


class Page:
    """One page of a browser; what it complains about is in ``errors``."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.errors: list[str] = []
        self.requests: list[str] = []
        """URLs of what the page has asked for."""
        self.sent: list[str] = []
        """All of each request: headers, body."""

    async def read(self) -> None:
        """Take what the browser tells until it ends."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                waiting = self._waiting.pop(told["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(told)
            else:
                self._note(told["method"], told["params"])

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(str(told["entry"]))
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.errors.append(str(told["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
            self.sent.append(str(told["request"]))

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Make a call of the protocol and return its result; raises ``Navigating``."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        async with asyncio.timeout(WAIT_LIMIT_S):
            answer = await self._waiting[number]
        if "error" in answer:
            raise Navigating(str(answer["error"]))
        result: dict[str, Any] = answer["result"]
        return result

    async def value(self, expression: str) -> Any:
        """Return what an expression is in the page; it may be a promise."""
        answer = await self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression is true in the page."""
        async with asyncio.timeout(WAIT_LIMIT_S):
            while True:
                with contextlib.suppress(Navigating):
                    if await self.value(f"Boolean({expression})"):
                        return
                await asyncio.sleep(0.05)

    async def go(self, url: str) -> None:
        """Open a page."""
        await self.send("Page.navigate", url=url)

    async def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        """Show it on a screen of this size."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    async def prefer(self, scheme: str) -> None:
        """Show it to somebody who prefers ``light`` or ``dark`` pages."""
        await self.send(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    async def press(self, key: str, code: int) -> None:
        """Press a key and let it go."""
        for kind in ("rawKeyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
            )

    async def picture(self) -> bytes:
        """Return what is seen, as PNG."""
        answer = await self.send("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@contextlib.asynccontextmanager
async def browser_page(command: str, folder: Path) -> AsyncIterator[Page]:
    """Start a browser with an empty profile in a folder, and yield its page."""
    process = await asyncio.create_subprocess_exec(
        command,
        *_FLAGS,
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_LIMIT_S):
            port = await _port(folder)
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                found = await answer.json()
            url = next(one["webSocketDebuggerUrl"] for one in found if one["type"] == "page")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                page = Page(socket)
                reading = asyncio.create_task(page.read())
                for room in ("Page", "Runtime", "Log", "Network"):
                    await page.send(f"{room}.enable")
                try:
                    yield page
                finally:
                    reading.cancel()
                    await asyncio.wait([reading])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _port(folder: Path) -> int:
    file = folder / "DevToolsActivePort"
    while not (file.exists() and file.read_text().strip()):  # noqa: ASYNC110 - the other side is a process
        await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])
