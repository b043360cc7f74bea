"""Pulls, digests and loads: calls whose answer is a stream that may contain an error.

Blocks; runs in a lane's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

from docker.utils import parse_repository_tag

from agent.errors import EngineRefused, NoSuchImage
from agent.runtime.docker import faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from agent.runtime.docker.client import EngineClient
    from agent.runtime.docker.lanes import BlockingCall
    from agent.runtime.protocol import RegistryAuth

_BEGIN_SILENCE_S = 300.0
_REPORT_EVERY_S = 0.2
_FIRST_SCHEMA = "application/vnd.docker.distribution.manifest.v1"
_ABSENT = re.compile(
    r"manifest unknown|repository does not exist|not found: does not exist|name unknown"
    r"|no matching manifest|was found but does not match the specified platform",
    re.IGNORECASE,
)


def pull(
    client: EngineClient,
    call: BlockingCall,
    reference: str,
    auth: RegistryAuth | None,
    *,
    inactivity_s: float,
    report: Callable[[str], None] | None,
) -> int:
    """Pull one image to the end, and return how many bytes the engine says that it downloaded.

    Args:
        client: the engine.
        call: the call of this thread; its silence limit is set here.
        reference: image name with tag or digest; without either, ``latest``.
        auth: registry credentials; None pulls anonymously.
        inactivity_s: longest silence once the pull has started.
        report: called with a progress line from time to time.
    """
    repository, tag = parse_repository_tag(reference)
    ended, call.operation = call.operation, faults.PULL_BEGIN
    call.limit_silence(max(_BEGIN_SILENCE_S, inactivity_s))
    messages = client.pull(
        repository, tag or "latest", stream=True, auth_config=_auth(auth), decode=True
    )
    call.operation = ended
    call.limit_silence(inactivity_s)
    downloads = _Downloads()
    raise_refusals(downloads.noting(messages), operation=faults.PULLED, report=report)
    return downloads.total


def digest(client: EngineClient, reference: str, auth: RegistryAuth | None) -> str:
    """Return the registry's digest of a reference; empty for a schema 1 manifest."""
    answer = client.inspect_distribution(reference, auth_config=_auth(auth))
    descriptor = answer.get("Descriptor") or {}
    if str(descriptor.get("mediaType", "")).startswith(_FIRST_SCHEMA):
        return ""
    return str(descriptor.get("digest", ""))


class _Downloads:
    """The layers that a pull downloads, as its messages tell."""

    def __init__(self) -> None:
        self._by_layer: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Bytes of all layers."""
        return sum(self._by_layer.values())

    def noting(self, messages: Iterable[Any]) -> Iterator[Any]:
        """Pass messages on, and note how far their downloads are."""
        for message in messages:
            if isinstance(message, dict) and message.get("status") == "Downloading":
                detail = message.get("progressDetail")
                size = detail.get("current") if isinstance(detail, dict) else None
                if isinstance(size, int):
                    layer = str(message.get("id"))
                    self._by_layer[layer] = max(size, self._by_layer.get(layer, 0))
            yield message


def raise_refusals(
    messages: Iterable[Any], *, operation: str, report: Callable[[str], None] | None = None
) -> None:
    """Read a progress stream to its end.

    Raises:
        NoSuchImage: the registry does not have the image, or not for this architecture.
        EngineRefused: the stream contains any other error.
    """
    next_report = 0.0
    for message in messages:
        if not isinstance(message, dict):
            continue
        if text := _refusal(message):
            kind = NoSuchImage if _ABSENT.search(text) else EngineRefused
            raise kind(text, operation=operation)
        if report is not None and time.monotonic() >= next_report:
            next_report = time.monotonic() + _REPORT_EVERY_S
            report(_line(message))


def in_loop(callback: Callable[[str], None] | None) -> Callable[[str], None] | None:
    """Return a function for threads that calls ``callback`` in the running loop."""
    if callback is None:
        return None
    loop = asyncio.get_running_loop()

    def report(line: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(callback, line)

    return report


def _auth(auth: RegistryAuth | None) -> dict[str, Any]:
    # An empty object means anonymous; with None, the SDK would look for root's credentials.
    return {} if auth is None else {"username": auth.username, "password": auth.password}


def _refusal(message: Mapping[str, Any]) -> str:
    detail = message.get("errorDetail")
    if isinstance(detail, dict) and detail.get("message"):
        return str(detail["message"])
    return str(message.get("error") or "")


def _line(message: Mapping[str, Any]) -> str:
    parts = (message.get("id"), message.get("status"), message.get("progress"))
    return " ".join(str(part) for part in parts if part)
