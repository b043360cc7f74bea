"""The clock is stepped; only where no other host shares it."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.plan import Fault
    from tests.chaos.scene import Scene

_STEPS_S = (-3600.0, -90.0, -5.0, 5.0, 90.0, 3600.0)


def is_ours() -> bool:
    """Return whether this host's clock is its own; a host of ``scripts/own-host`` shares it."""
    return "OWN_HOST" not in os.environ


@contextlib.contextmanager
def stepped(scene: Scene, fault: Fault) -> Iterator[None]:
    """Step the wall clock, and step it back as far in the end."""
    del scene
    step_s = _STEPS_S[int(fault.chance * len(_STEPS_S))]
    _step(step_s)
    try:
        yield
    finally:
        _step(-step_s)


def _step(by_s: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by_s)
