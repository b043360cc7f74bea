"""What a fuzzer needs to know of a decoder: how to call it, what it refuses with, and what it accepts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Decoder(NamedTuple):
    """One decoder, pure or nearly so."""

    name: str
    family: str
    read: Callable[[bytes], Any]
    """Gets any bytes; whatever it raises besides ``refusals`` is a defect."""
    samples: tuple[bytes, ...]
    """What it accepts: fuzzers change these."""
    refusals: tuple[type[Exception], ...] = ()

    def try_(self, data: bytes) -> None:
        """Decode; raises what is a defect."""
        try:
            self.read(data)
        except self.refusals as error:
            if not str(error):
                raise AssertionError(f"{self.name} does not say what is wrong") from error


def of_text(read: Callable[[str], Any], errors: str = "replace") -> Callable[[bytes], Any]:
    """Return a decoder of bytes that hands on their text."""
    return lambda data: read(data.decode("utf-8", errors))


def of_environment(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    """Return a decoder of a value of the environment, which may have bytes that are no text."""
    return of_text(read, "surrogateescape")


def of_object(read: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], Any]:
    """Return a decoder of what a JSON object holds; other bytes are skipped."""

    def found(data: bytes) -> Any:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return None
        return read(value) if isinstance(value, dict) else None

    return found


def packed(value: Any) -> bytes:
    """Return a value as JSON."""
    return json.dumps(value).encode()
