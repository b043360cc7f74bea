"""What the engines of several hosts have started and ended, from their own events."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.second_host import Place

_TASK = "com.amazonaws.ecs.task-arn"
_FAMILY = "com.amazonaws.ecs.task-definition-family"


class Event(NamedTuple):
    """A container has started or ended."""

    at_ns: int
    host: str
    action: str
    """``start`` or ``die``."""
    family: str
    task: str


@dataclass
class ContainerRecord:
    """Follows the containers of tasks on some hosts."""

    directory: Path
    hosts: Mapping[str, Place]
    _read: dict[str, int] = field(default_factory=dict)
    _known: list[Event] = field(default_factory=list)

    @contextlib.contextmanager
    def followed(self) -> Iterator[ContainerRecord]:
        """Follow the engines' events until the end."""
        with contextlib.ExitStack() as stack:
            for name, place in self.hosts.items():
                file = stack.enter_context(self._file(name).open("wb"))
                words = ["docker", "events", "--format", "{{json .}}", "--filter", "type=container"]
                words += ["--filter", "event=start", "--filter", "event=die"]
                words += ["--filter", f"label={_TASK}"]
                follower = subprocess.Popen([*place.wrapper, *words], stdout=file)
                stack.callback(follower.wait, 30)
                stack.callback(follower.terminate)
            yield self

    def events(self) -> list[Event]:
        """Return all so far, in their order."""
        for name in self.hosts:
            with self._file(name).open() as file:
                file.seek(self._read.get(name, 0))
                while (line := file.readline()).endswith("\n"):
                    self._known.append(_event(name, json.loads(line)))
                    self._read[name] = file.tell()
        self._known.sort()
        return list(self._known)

    def started(self, family: str, since_ns: int = 0) -> list[Event]:
        """Return the starts of a family's containers since a time of Unix."""
        return [
            each
            for each in self.events()
            if (each.action, each.family) == ("start", family) and each.at_ns >= since_ns
        ]

    def most(self, family: str, since_ns: int = 0) -> int:
        """Return how many of a family's containers ran at once at most since then."""
        count = most = 0
        for event in self.events():
            if event.family == family:
                count += 1 if event.action == "start" else -1
                most = max(most, count) if event.at_ns >= since_ns else count
        return most

    def running(self) -> Counter[tuple[str, str]]:
        """Return how many containers each host has of each task now, by the engines' lists."""
        words = [
            "docker",
            "ps",
            "--filter",
            f"label={_TASK}",
            "--format",
            f'{{{{.Label "{_TASK}"}}}}',
        ]
        found: Counter[tuple[str, str]] = Counter()
        for name, place in self.hosts.items():
            done = subprocess.run(
                [*place.wrapper, *words], capture_output=True, text=True, check=True, timeout=60
            )
            found.update((name, task) for task in done.stdout.split())
        return found

    def _file(self, name: str) -> Path:
        return self.directory / f"events-{name}.jsonl"


def _event(host: str, raw: Mapping[str, Any]) -> Event:
    labels = raw["Actor"]["Attributes"]
    return Event(int(raw["timeNano"]), host, raw["Action"], labels.get(_FAMILY, ""), labels[_TASK])
