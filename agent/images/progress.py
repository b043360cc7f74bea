"""How a pull goes, as it is told to everybody who waits for it. Pure data."""

from __future__ import annotations

from msgspec import Struct


class Progress(Struct, frozen=True):
    """The newest word of a pull."""

    line: str
    """For a person: ``pulling busybox:latest``."""
    failed: str = ""
    """Why the last try failed, as ECS words it; empty unless the pull waits for its next try."""
    next_try: float = 0.0
    """When the next try begins, by the steady clock (``time.monotonic``); 0 where none is planned."""
