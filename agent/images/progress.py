"""The progress of a pull, as reported to all waiting callers. Pure data."""

from __future__ import annotations

from msgspec import Struct


class Progress(Struct, frozen=True):
    """The latest progress of a pull."""

    line: str
    """For a person: ``pulling busybox:latest``."""
    failed: str = ""
    """Why the last try failed, in ECS's wording; empty unless the pull waits for its next try."""
    next_try: float = 0.0
    """Monotonic time (``time.monotonic``) of the next try; 0 if none is planned."""
