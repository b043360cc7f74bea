"""The time line of a run: every fault, order and violation in a file, and a line now and then for a person."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_WIDTH = 80


class History:
    """Writes ``history.jsonl`` below a directory; may be told by any thread."""

    def __init__(self, directory: Path, *, is_quiet: bool = False) -> None:
        self.file = directory / "history.jsonl"
        self.counts: Counter[str] = Counter()
        """How many events there were of each kind."""
        self._out = self.file.open("a", buffering=1)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._is_quiet = is_quiet

    def begin(self) -> None:
        """Count times from now on."""
        self._began = time.monotonic()
        self.note("begin")

    def now_s(self) -> float:
        """Return the time since the beginning."""
        return time.monotonic() - self._began

    def note(self, event: str, **details: Any) -> None:
        """Write an event with its time since the beginning, and the time of day."""
        with self._lock:
            self.counts[event] += 1
            at = {"s": round(self.now_s(), 3), "at": round(time.time(), 3), "event": event}
            self._out.write(json.dumps(at | details) + "\n")

    def say(self, text: str) -> None:
        """Tell a person what happens, with the time since the beginning."""
        if self._is_quiet:
            return
        now = int(self.now_s())
        line = f"{now // 60:02d}:{now % 60:02d} {text}"
        sys.stderr.write(line[:_WIDTH] + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """Close the file."""
        self._out.close()
