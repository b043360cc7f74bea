"""Tells when a step of a task's life begins or ends, as far as that can be seen from outside."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_LOOK_EVERY_S = 0.002


class Boundaries:
    """Counts boundaries as they pass, and lets faults wait for the next one."""

    def __init__(self) -> None:
        self._passed: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._files: dict[str, Callable[[], list[Path]]] = {}

    def watch_files(self, name: str, files: Callable[[], list[Path]]) -> None:
        """Have a boundary pass whenever one of some files is written."""
        self._files[name] = files

    def passes(self, name: str) -> None:
        """Note that a boundary is passed now."""
        with self._changed:
            self._passed[name] += 1
            self._changed.notify_all()

    def wait(self, name: str, within_s: float) -> bool:
        """Return as soon as a boundary is passed, or False if none is in time."""
        if name in self._files:
            return self._wait_for_files(self._files[name], within_s)
        with self._changed:
            before = self._passed[name]
            return self._changed.wait_for(lambda: self._passed[name] > before, within_s)

    def _wait_for_files(self, files: Callable[[], list[Path]], within_s: float) -> bool:
        """Look again and again: what is waited for is over before a message of the kernel is read."""
        before, deadline = _written(files()), time.monotonic() + within_s
        while time.monotonic() < deadline:
            time.sleep(_LOOK_EVERY_S)
            if _written(files()) != before:
                return True
        return False

    @contextlib.contextmanager
    def links_followed(self, name: str) -> Iterator[None]:
        """Have a boundary pass whenever a link of this host is made, changed or removed."""
        follower = subprocess.Popen(["ip", "-o", "monitor", "link"], stdout=subprocess.PIPE)
        assert follower.stdout is not None
        lines = follower.stdout

        def follow() -> None:
            for _ in lines:
                self.passes(name)

        thread = threading.Thread(target=follow, name="links", daemon=True)
        thread.start()
        try:
            yield
        finally:
            follower.terminate()
            follower.wait(30)
            thread.join(30)
            lines.close()


def _written(files: list[Path]) -> list[tuple[int, int]]:
    found = []
    for file in files:
        with contextlib.suppress(OSError):
            told = file.stat()
            found.append((told.st_mtime_ns, told.st_size))
    return found
