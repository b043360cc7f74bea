"""What the engine started and ended, from its own events, through all of its ends and starts."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASK = "com.amazonaws.ecs.task-arn"
CONTAINER = "com.amazonaws.ecs.container-name"
_BOUNDARIES = {
    "create": "container created",
    "start": "container started",
    "die": "container ended",
    "destroy": "container removed",
}
_AGAIN_AFTER_S = 0.1


@dataclass
class EngineLog:
    """Starts and ends of tasks' containers, by task and container name."""

    passed: Callable[[str], None]
    starts: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))
    """Ids of the containers, one for each start."""
    ends: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    """When a task's containers ended, in seconds of the wall clock, and their exit codes."""
    _seen: set[tuple[str, str, int]] = field(default_factory=set)
    _since_ns: int = field(default_factory=time.time_ns)
    _is_over: bool = False
    _follower: subprocess.Popen[str] | None = None

    @contextlib.contextmanager
    def followed(self) -> Iterator[EngineLog]:
        """Follow the events until the end."""
        thread = threading.Thread(target=self._follow, name="engine events", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._is_over = True
            if self._follower is not None:
                self._follower.terminate()
            thread.join(60)

    def _follow(self) -> None:
        words = ["docker", "events", "--format", "{{json .}}", "--filter", "type=container"]
        while not self._is_over:
            since = f"{self._since_ns // 10**9}.{self._since_ns % 10**9:09d}"
            self._follower = subprocess.Popen(
                [*words, "--since", since],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert self._follower.stdout is not None
            with self._follower.stdout as lines:
                for line in lines:
                    with contextlib.suppress(ValueError):  # cut off with the engine
                        self._note(json.loads(line))
            self._follower.wait()
            time.sleep(_AGAIN_AFTER_S)

    def _note(self, event: dict[str, Any]) -> None:
        action, at_ns = event.get("Action", ""), int(event.get("timeNano", 0))
        told = event.get("Actor", {})
        key = (told.get("ID", ""), action, at_ns)
        if action not in _BOUNDARIES or key in self._seen:
            return
        self._seen.add(key)
        self._since_ns = max(self._since_ns, at_ns)
        self.passed(_BOUNDARIES[action])
        labels = told.get("Attributes", {})
        task = labels.get(TASK)
        if not task:
            return
        if action == "start":
            self.starts[task, labels.get(CONTAINER, "")].append(told["ID"])
        elif action == "die":
            self.ends[task].append((at_ns / 1e9, labels.get("exitCode", "")))
