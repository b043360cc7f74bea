"""Reads keys, tokens and programs again; a file that cannot be used is logged, and the old ones stay in use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from agent.controlplane.agents import tokens
from agent.controlplane.store.contract import StoreFailure
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.controlplane.monitoring.reader_tokens import ReaderTokens
    from agent.controlplane.server.opening import Opened
    from agent.controlplane.server.operator_access import OperatorAccess

_log = structlog.get_logger(__name__)


async def reload_when_asked(
    opened: Opened, access: OperatorAccess, readers: ReaderTokens, asked: asyncio.Event
) -> None:
    """Read everything again each time ``asked`` is set, until cancelled."""
    while True:
        await asked.wait()
        asked.clear()
        await access.reload()
        await opened.keeper.reload()
        await _read_directory(opened)
        await _read_readers(readers)
        await _read_hooks(opened)
        await _read_agent_tokens(opened)


async def _read_directory(opened: Opened) -> None:
    try:
        await opened.directory.reopen()
    except StoreFailure as error:
        _log.error("sessions of roles not reloaded", error=str(error))


async def _read_readers(readers: ReaderTokens) -> None:
    try:
        await readers.reload()
    except ConfigError as error:
        _log.error("tokens of readers not reloaded; the old ones stay", error=str(error))


async def _read_hooks(opened: Opened) -> None:
    try:
        await opened.hooks.reload()
    except ConfigError as error:
        _log.error("programs of hosts not reloaded; the old ones stay", error=str(error))


async def _read_agent_tokens(opened: Opened) -> None:
    """Read the tokens of agents; agents whose token is gone are cut off at once."""
    agent_tokens = opened.agent_tokens
    try:
        found = await asyncio.to_thread(tokens.read, agent_tokens.file)
    except ConfigError as error:
        _log.error("token file not reloaded; the old tokens stay in use", error=str(error))
        return
    ended = agent_tokens.take(found)
    _log.info(
        "token file loaded",
        file=str(agent_tokens.file or ""),
        tokens=len(found),
        calls_ended=ended,
    )
