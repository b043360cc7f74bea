"""The host as checks see it: settings, paths, and answers that several checks share."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.config import json_file_of
from agent.doctor import reading
from agent.model.views import AgentView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Settings

_CREDENTIALS = "3i"
"""``SO_PEERCRED``: pid, user, group."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the container engine says about itself; ``trouble`` says why there is no answer."""

    info: dict[str, Any] = field(default_factory=dict)
    """Answer to ``GET /info``."""
    version: dict[str, Any] = field(default_factory=dict)
    """Answer to ``GET /version``."""
    trouble: str = ""
    refused: str = ""
    """``missing``, ``stopped`` or ``forbidden`` if that is the trouble."""


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What the running agent says; ``trouble`` says why there is no answer."""

    view: AgentView | None = None
    pid: int = 0
    """Process that listens on the operator socket; 0 if there is none."""
    trouble: str = ""
    forbidden: bool = False
    """Whether it runs is unknown, because only root may ask."""


@dataclass(frozen=True)
class HostFacts:
    """Everything that a check may ask for. Belongs to one event loop; close it at the end."""

    settings: Settings
    """The settings of this host; without the invalid ones, if there are any."""
    files: tuple[Path, ...] = ()
    """Settings files, in the order in which they are read."""
    problems: tuple[str, ...] = ()
    """One line per problem in the settings; empty if they are valid."""
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    """The environment with which the settings were read."""
    root: Path = Path("/")
    """Where ``proc``, ``sys``, ``etc`` and the like are."""
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)
    _once: reading.Once = field(default_factory=reading.Once)

    async def close(self) -> None:
        """End reads that are still running."""
        await self._once.close()

    @property
    def json_file(self) -> Path | None:
        """Path of the JSON settings file; None if no settings file is read."""
        beside = json_file_of(self.files[-1]) if self.files else None
        return self.settings.json_file or beside

    @property
    def engine_socket(self) -> str:
        """Path of the container engine's socket; empty if the engine has no Unix socket."""
        path = self.settings.docker_host.removeprefix("unix://")
        return "" if path == self.settings.docker_host else path

    async def text(self, path: str) -> str:
        """Return the text of a file below the root; empty if it cannot be read."""
        return await reading.blocking(lambda: reading.text_of(self.root / path))

    async def engine(self) -> EngineFacts:
        """Return what the container engine says; it is asked only once."""
        return await self._once.of("engine", self._read_engine)

    async def agent(self) -> AgentFacts:
        """Return what the running agent says; it is asked only once."""
        return await self._once.of("agent", self._read_agent)

    async def active_units(self, *names: str) -> frozenset[str] | None:
        """Return which units are active; empty without systemd, None if it does not answer."""
        if not await reading.blocking((self.root / "run/systemd/system").is_dir):
            return frozenset()
        answer = await reading.program("systemctl", "is-active", *names)
        states = answer.out.split()
        if len(states) != len(names):
            return None
        return frozenset(n for n, state in zip(names, states, strict=True) if state == "active")

    async def _read_engine(self) -> EngineFacts:
        path = self.engine_socket
        if not path:
            where = self.settings.docker_host
            return EngineFacts(trouble=f"DOCKER_HOST is {where}, but only unix:// is supported")
        try:
            version = msgspec.json.decode(await reading.get(path, "/version"))
            info = msgspec.json.decode(await reading.get(path, "/info"))
        except FileNotFoundError:
            return EngineFacts(trouble=f"there is no engine socket {path}", refused="missing")
        except ConnectionRefusedError:
            return EngineFacts(trouble=f"no process listens on {path}", refused="stopped")
        except PermissionError:
            return EngineFacts(trouble=f"no permission to open {path}", refused="forbidden")
        except TimeoutError:
            limit_s = reading.ANSWER_LIMIT_S
            return EngineFacts(trouble=f"{path} did not answer within {limit_s:g} s")
        except (OSError, ValueError) as error:
            return EngineFacts(trouble=f"{path} does not answer like a container engine: {error}")
        if not isinstance(info, dict) or not isinstance(version, dict):
            return EngineFacts(trouble=f"{path} does not answer like a container engine")
        return EngineFacts(info=info, version=version)

    async def _read_agent(self) -> AgentFacts:
        path = str(self.settings.socket_path)
        pid = await reading.blocking(lambda: _listener_of(path))
        try:
            body = await reading.get(path, "/v1/agent")
            return AgentFacts(view=msgspec.json.decode(body, type=AgentView), pid=pid)
        except (FileNotFoundError, ConnectionRefusedError):
            return AgentFacts(trouble=f"no process listens on {path}")
        except PermissionError:
            return AgentFacts(trouble=f"only root may ask the agent on {path}", forbidden=True)
        except TimeoutError:
            limit_s = reading.ANSWER_LIMIT_S
            return AgentFacts(pid=pid, trouble=f"no answer on {path} within {limit_s:g} s")
        except (OSError, ValueError) as error:  # a body of another version is a ValueError too
            return AgentFacts(pid=pid, trouble=f"{path} gave an unreadable answer: {error}")


def _listener_of(path: str) -> int:
    """Return the process that listens on a Unix socket; 0 if there is none. Blocks briefly."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as wire:
        wire.settimeout(reading.ANSWER_LIMIT_S)
        wire.connect(path)
        size = struct.calcsize(_CREDENTIALS)
        raw = wire.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return int(struct.unpack(_CREDENTIALS, raw)[0])
    return 0
