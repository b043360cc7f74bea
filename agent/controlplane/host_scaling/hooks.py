"""The programs that keep the hosts of capacity providers: the file that names them, and how they do.

::

    {"web": {"command": ["/usr/local/sbin/web-hosts"], "minimumSize": 0, "maximumSize": 8}}
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from agent.errors import BAD_JSON, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

DEFAULT_LIMIT_S: Final = 300.0
LONGEST_LIMIT_S: Final = 24 * 3600.0
LARGEST: Final = 10_000
_OPTION: Final = "--host-hooks"


class Hook(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The program of one capacity provider, and how many hosts it may have in a cluster."""

    command: tuple[str, ...]
    """The absolute path of the program, and its arguments."""
    maximum_size: int
    minimum_size: int = 0
    time_limit_seconds: float = DEFAULT_LIMIT_S
    """After which a run is ended."""


class Pair(NamedTuple):
    """A capacity provider in one of its clusters."""

    cluster: str
    provider: str


class Figures(NamedTuple):
    """What is known of the hosts of a capacity provider in a cluster."""

    needed: int
    """How many the tasks need, besides bounds and target."""
    there: int
    desired: int
    reservation: float
    """``CapacityProviderReservation``, per cent."""


class HostHooks:
    """The programs of one control, and what became of their runs; for one event loop."""

    def __init__(self, file: Path | None, hooks: Mapping[str, Hook]) -> None:
        """Take what ``open`` read."""
        self.file = file
        self.on_reload: list[Callable[[], object]] = []
        """Called when there may be other programs."""
        self._hooks = hooks
        self.troubles: dict[Pair, str] = {}
        """What is in the way of hosts being added or removed, for a person."""
        self.unfit: dict[Pair, int] = {}
        """How many tasks wait that no host can take."""
        self.figures: dict[Pair, Figures] = {}
        self.runs: Counter[tuple[str, str]] = Counter()
        """Of programs, by capacity provider and by ``done`` or ``failed``."""

    @classmethod
    async def open(cls, file: Path | None) -> HostHooks:
        """Read the file, if there is one; raises ``ConfigError`` if it is not one of programs."""
        return cls(file, await asyncio.to_thread(read, file) if file is not None else {})

    async def reload(self) -> None:
        """Read the file again; raises ``ConfigError``, and then the old programs stay."""
        if self.file is not None:
            self._hooks = await asyncio.to_thread(read, self.file)
            for call in self.on_reload:
                call()

    def of(self, provider: str) -> Hook | None:
        """Return the program of a capacity provider; None if the file names none."""
        return self._hooks.get(provider)

    def keep(self, pairs: Collection[Pair]) -> None:
        """Forget what is known of all others."""
        known: tuple[dict[Pair, Any], ...] = (self.troubles, self.unfit, self.figures)
        for each in known:
            for pair in [pair for pair in each if pair not in pairs]:
                del each[pair]

    def trouble(self, provider: str) -> str:
        """Return what is in the way of a capacity provider, in all of its clusters; empty for nothing."""
        told = [text for pair, text in sorted(self.troubles.items()) if pair.provider == provider]
        told += [
            f"Tasks that no host of it can take wait in the cluster {pair.cluster}: {count}."
            for pair, count in sorted(self.unfit.items())
            if pair.provider == provider
        ]
        return " ".join(dict.fromkeys(told))

    def problem(self) -> str:
        """Return what does not work, for a person; empty for nothing."""
        names = sorted({pair.provider for pair in self.troubles})
        return f"hosts of {', '.join(names)}: {self.trouble(names[0])}" if names else ""


def read(file: Path) -> dict[str, Hook]:
    """Return the programs that a file names, by capacity provider. Blocking.

    Raises:
        ConfigError: it cannot be read, says something else, or names a program that is none.
    """
    try:
        found = msgspec.json.decode(file.read_bytes(), type=dict[str, Hook])
    except OSError as error:
        raise ConfigError(f"{_OPTION} {file}: {error.strerror}") from None
    except BAD_JSON as error:
        raise ConfigError(
            f"{_OPTION} {file}: {error}; write a JSON object with the names of capacity providers, each with "
            "command (a list), maximumSize and, if need be, minimumSize and timeLimitSeconds"
        ) from None
    for name, hook in found.items():
        problem = _problem(hook)
        if problem:
            raise ConfigError(f"{_OPTION} {file}: {name}: {problem}")
    return found


def _problem(hook: Hook) -> str:
    if not 0 <= hook.minimum_size <= hook.maximum_size <= LARGEST:
        return f"minimumSize and maximumSize must be from 0 to {LARGEST}, the maximum not below"
    if not 1 <= hook.time_limit_seconds <= LONGEST_LIMIT_S:
        return f"timeLimitSeconds must be from 1 to {LONGEST_LIMIT_S:g}"
    program = hook.command[0] if hook.command else ""
    if not program.startswith("/"):
        return f"command must begin with the absolute path of a program, not with {program!r}"
    if any("\0" in each for each in hook.command):
        return "command has a NUL character"
    try:
        mode = Path(program).stat().st_mode
    except OSError as error:
        return f"{program}: {error.strerror}"
    if not stat.S_ISREG(mode) or not os.access(program, os.X_OK):
        return f"{program}: is not a program that control's user may run; chmod +x it"
    if mode & stat.S_IWOTH:
        return f"{program}: may be changed by every user of this machine; chmod o-w it"
    return ""
