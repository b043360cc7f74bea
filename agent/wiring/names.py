"""Names of tasks: what answers them is only loaded once control has some."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import NetworkFailure
from agent.network.host.firewall import FAMILY, names_table
from agent.network.kernel import nft

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.dns.answering import Answering
    from agent.model.names import NameUpdates
    from agent.network.settings import NetworkSettings

_RETRY_S: Final = 15.0

_log = structlog.get_logger(__name__)


class TaskNames:
    """Takes what control says of names, and has it answered on this host. For one event loop."""

    def __init__(self, settings: NetworkSettings, namespace_of: Callable[[str], str]) -> None:
        """Take the networks of tasks; nothing is touched before ``run``.

        ``namespace_of`` gives the namespace of Service Connect of the task with an address; empty without.
        """
        self._settings = settings
        self._namespace_of = namespace_of
        self._table = names_table(settings.table)
        self._answering: Answering | None = None
        self._changed = asyncio.Event()

    def take(self, update: NameUpdates) -> None:
        """Take what control has said; effective at once where names are answered already.

        Server and rule only change with the first namespace or alias and the last one.
        """
        if self._answering is None:
            if not update.zones and not update.aliases:
                return
            from agent.dns.answering import Answering  # noqa: PLC0415 - only what is used

            self._answering = Answering(self._settings, self._table, self._namespace_of)
        zones = self._answering.zones
        had_some = bool(zones)
        zones.apply(update)
        if had_some != bool(zones):
            self._changed.set()

    def look_again(self) -> None:
        """Check rule and name servers, which others may have changed, if names are answered."""
        if self._answering is not None and self._answering.zones:
            self._changed.set()

    async def run(self) -> None:
        """Answer names while there are namespaces or aliases, until cancelled."""
        try:
            # An earlier process that was killed has left its rule, which leads nowhere.
            await asyncio.to_thread(_remove_left, self._table)
        except NetworkFailure as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # without nft there is no rule
                _log.warning("the rule for names of tasks was not removed", error=str(error))
        problem = ""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self._answering is not None:
                    await self._answering.settle()
                problem = ""
            except (NetworkFailure, OSError) as error:
                if str(error) != problem:
                    _log.error("names of tasks are not answered; trying again", error=str(error))
                problem = str(error)
                await asyncio.sleep(_RETRY_S)
                self._changed.set()

    async def close(self) -> None:
        """Stop answering; questions of tasks go to their name servers again."""
        if self._answering is None:
            return
        try:
            await self._answering.close()
        except NetworkFailure as error:
            _log.warning("the rule for names of tasks was not removed", error=str(error))


def _remove_left(table: str) -> None:
    """Remove a table if it is there; changes no rules otherwise, which would be checked then."""
    if nft.listed(FAMILY, table) is not None:
        nft.remove(FAMILY, table)
