"""Who may call the APIs by TCP: callers with a key from the file, or everyone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.front import keys
from agent.controlplane.front.operators import Open, Signed
from agent.controlplane.front.sites import is_loopback, parse_listen
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.authorization.open_calls import OpenCalls
    from agent.controlplane.server.opening import Opened
    from agent.controlplane.server.settings import ControlSettings

_log = structlog.get_logger(__name__)


class OperatorAccess:
    """Access by TCP: for callers with a key from the file, or for everyone."""

    def __init__(
        self,
        file: Path | None,
        operators: Signed | Open,
        open_calls: OpenCalls,
        *,
        is_loopback: bool,
    ) -> None:
        self._file = file
        self._open_calls = open_calls
        self._is_loopback = is_loopback
        self.operators = operators

    @property
    def own_names_only(self) -> bool:
        """Whether to check host names against DNS rebinding by web pages."""
        return self._file is None and self._is_loopback

    @classmethod
    async def open(cls, settings: ControlSettings, opened: Opened) -> OperatorAccess:
        """Read the keys; raises ``ConfigError`` if the file of keys cannot be used."""
        names, open_calls = opened.parts.names, opened.parts.open_calls
        file, is_local = settings.keys_file, is_loopback(parse_listen(settings.listen)[0])
        if file is None:
            return cls(None, Open(names), open_calls, is_loopback=is_local)
        found = await asyncio.to_thread(keys.load, file)
        signed = Signed(
            found, note=opened.agent_tokens.note, names=names, directory=opened.directory
        )
        open_calls.take_root_keys(frozenset(found))
        return cls(file, signed, open_calls, is_loopback=is_local)

    async def reload(self) -> None:
        """Reload the file of keys; an invalid file changes nothing."""
        if self._file is None or not isinstance(self.operators, Signed):
            return
        try:
            found = await asyncio.to_thread(keys.load, self._file)
        except ConfigError as error:
            _log.error("keys not reloaded; the old keys stay in use", error=str(error))
        else:
            self.operators.take(found)
            self._open_calls.take_root_keys(frozenset(found))
            _log.info("keys loaded", file=str(self._file), keys=len(found))
