"""Keeps HAProxy as control wants it, and control informed about the health of targets.

Each turn compares what is wanted with what runs: it starts HAProxy, reloads it if listeners or groups have
changed, changes servers at run time, and reads their health. A turn comes when control has told something, when
HAProxy has ended or has told something about the health of a server, and each second while a target drains or its
health is being decided.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import ConfigError
from agent.ingress import configuration, figures, servers
from agent.ingress.health_log import HealthLog
from agent.ingress.runtime import ProxyFailure

if TYPE_CHECKING:
    from agent.ingress.configuration import Place
    from agent.ingress.figures import ServerFigures
    from agent.ingress.link import Link
    from agent.ingress.process import Haproxy
    from agent.model.ingress import Group, Listener, TargetReport

RESTLESS_S: Final = 0.5
CALM_S: Final = 30.0
_FAILED_S: Final = 2.0
_FIRST_REPORT_S: Final = 5.0
"""How long the first report waits for the first health checks, so that healthy targets are not told as new."""

_log = structlog.get_logger(__name__)

_Shape = tuple[tuple["Listener", ...], tuple["Group", ...]]


class Proxy:
    """One HAProxy that follows one link; for one event loop."""

    def __init__(self, haproxy: Haproxy, link: Link, place: Place) -> None:
        """Take what runs, what is wanted, and where it is on this host."""
        self._haproxy = haproxy
        self._link = link
        self._place = place
        self._serial = 0
        """Number of the newest configuration."""
        self._shape: _Shape | None = None
        """Of the configuration that HAProxy has; None while it does not run."""
        self._refused: _Shape | None = None
        """The one that HAProxy has not taken."""
        self._told = asyncio.Event()
        self._servers: dict[tuple[str, str], ServerFigures] = {}
        self._reports: dict[str, dict[str, TargetReport]] = {}
        self._began_s = 0.0
        self._has_reported = False
        self._failure = ""

    async def run(self) -> None:
        """Serve until cancelled.

        Raises:
            ConfigError: the socket for HAProxy's messages cannot be made.
        """
        try:
            health_log = await HealthLog.open(self._place.log, self._told)
        except OSError as error:
            raise ConfigError(
                f"--run-dir: {self._place.log} cannot be made: {error.strerror}; choose another directory"
            ) from None
        try:
            while True:
                await self._wait(await self._turn_or_later())
        finally:
            health_log.close()

    async def _turn_or_later(self) -> float:
        """Do one turn; return after how many seconds the next one comes at the latest."""
        try:
            wait_s = await self._turn()
        except ProxyFailure as error:
            if str(error) != self._failure:
                _log.error("the proxy is not as it should be; trying again", error=str(error))
            self._failure = str(error)
            if not self._haproxy.is_running:
                self._shape = None
                self._link.report(None)
                self._has_reported = False
            return _FAILED_S
        if self._failure:
            _log.info("the proxy is as it should be again")
            self._failure = ""
        return wait_s

    async def _wait(self, limit_s: float) -> None:
        events = [self._link.changed, self._told]
        if self._haproxy.is_running:
            events.append(self._haproxy.ended)
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
            await asyncio.wait(waits)
        if self._haproxy.ended.is_set() and self._shape is not None:
            _log.error("HAProxy has ended; it is started again")

    async def _turn(self) -> float:
        self._link.changed.clear()
        self._told.clear()
        if self._link.listeners is None:
            return CALM_S
        shape = (self._link.listeners, self._link.groups)
        if not self._haproxy.is_running:
            await self._start(shape)
        elif shape != self._shape:
            await self._reload(shape)
        await self._change_servers()
        return await self._report()

    async def _start(self, shape: _Shape) -> None:
        self._shape = None
        await self._haproxy.stop(0.0)  # what is left of one that has ended
        await self._write(shape)
        await self._haproxy.start(self._serial)
        self._shape = shape
        self._began_s = asyncio.get_running_loop().time()

    async def _reload(self, shape: _Shape) -> None:
        """Take another configuration; raises ``ProxyFailure`` if HAProxy goes on with the old one."""
        if shape == self._refused:
            # It is tried again, but first the servers of what runs are looked after.
            with contextlib.suppress(ProxyFailure):
                await self._change_servers()
        self._refused = shape
        await self._read()
        await self._write(shape)
        await self._haproxy.reload(self._serial)
        self._refused = None
        self._shape = shape
        _log.info("HAProxy has the new listeners", listeners=len(shape[0]), groups=len(shape[1]))

    async def _write(self, shape: _Shape) -> None:
        served, others = configuration.without_conflicts(shape[0])
        for each in others:
            _log.error(
                "two listeners have the same port, so one is not served here; give the ingress the load "
                "balancers that it serves with --load-balancer",
                port=each.port,
                listener=each.id,
            )
        self._serial += 1
        await self._haproxy.check(
            configuration.text(
                served,
                shape[1],
                self._link.targets,
                place=self._place,
                serial=self._serial,
                healthy={key for key, each in self._servers.items() if each.may_serve},
            )
        )

    async def _change_servers(self) -> None:
        groups = self._shape[1] if self._shape is not None else ()
        await self._read()
        commands = servers.commands(groups, self._link.targets, self._servers)
        if commands:
            await self._haproxy.api.tell(commands)
            await self._read()

    async def _read(self) -> None:
        answer = await self._haproxy.api.ask(figures.COMMAND)
        self._servers = figures.by_place(figures.read(answer))

    async def _report(self) -> float:
        """Have control told what there is to tell; return when to look again."""
        assert self._shape is not None  # noqa: S101 - a turn that has come so far has one
        targets = self._link.targets
        drains = any(each.drains for those in targets.values() for each in those)
        self._reports = figures.group_reports(
            self._shape[1],
            targets,
            self._servers,
            self._reports,
            is_alone=not drains or await self._haproxy.is_alone(),
        )
        restless = drains or any(not each.is_steady for each in self._servers.values())
        count = sum(map(len, targets.values()))
        restless = restless or len(self._servers) != count
        waited_s = asyncio.get_running_loop().time() - self._began_s
        if not self._has_reported and restless and waited_s < _FIRST_REPORT_S:
            return RESTLESS_S / 2
        self._has_reported = True
        self._link.report(self._reports)
        return RESTLESS_S if restless else CALM_S
