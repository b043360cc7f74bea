"""The audit log: who asked for credentials, and what came of it.

Each request is a line of the agent's log. ``ECS_AUDIT_LOGFILE`` gets it in the format of Amazon's agent, too,
for programs that read that. Neither shows an id or a secret.
Source of the format: Amazon ECS agent 1.105.1, ``agent/logger/audit``.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

import structlog

from agent.listening.rates import RateLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from agent.task_endpoint.contract import Peer

_VERSION: Final = 2
_LONGEST_TEXT: Final = 100
_REFUSED_PER_S: Final = 1.0
_REFUSED_BURST: Final = 10
_CREDENTIALS: Final = re.compile(r"/v[12]/credentials(?=/|$)")
_ID: Final = re.compile(r"[^/]{12,}")

_log = structlog.get_logger(__name__)


class AuditLog:
    """The audit log of one agent. Calls return at once."""

    def __init__(
        self,
        cluster: str,
        instance_arn: Callable[[], str],
        write: Callable[[str], object] | None = None,
    ) -> None:
        """Take what is the same in every line.

        Args:
            cluster: of this host.
            instance_arn: returns the ARN of the container instance; empty while it is not known.
            write: takes each line for the file, without an end of line; None if there is no file.
        """
        self._cluster = cluster
        self._instance_arn = instance_arn
        self._write = write
        self._refusals = RateLimits(_REFUSED_PER_S, _REFUSED_BURST)

    def note(
        self, request: web.Request, peer: Peer, *, status: int, task: str = "", kind: str = ""
    ) -> None:
        """Note a request for credentials.

        Args:
            request: the request.
            peer: who sent it.
            status: of the answer.
            task: ARN of the task whose credentials they are; empty if unknown.
            kind: what was given; empty if nothing was.
        """
        client = _shown(request.headers.get("User-Agent", ""))
        _log.info(
            "credentials asked for",
            task=task or "-",
            kind=kind or "-",
            status=status,
            peer=peer.ipv4 or "-",
            client=client,
        )
        self._to_file(request, peer, status, client, task, kind)

    def refused(self, request: web.Request, peer: Peer) -> None:
        """Note a request that the throttle refused; in a flood, only some of them."""
        if self._refusals.take(peer.ipv4):
            client = _shown(request.headers.get("User-Agent", ""))
            _log.info("too many requests", path=_without_id(request.path), peer=peer.ipv4)
            self._to_file(request, peer, 429, client, "", "")

    def _to_file(
        self, request: web.Request, peer: Peer, status: int, client: str, task: str, kind: str
    ) -> None:
        if self._write is None:
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = _without_id(request.path)
        line = f'{at} {status} {peer.text()} "{path}" "{client}" {task or "-"} '
        if kind:
            arn = self._instance_arn() or "-"
            line += f"{kind} {_VERSION} {self._cluster or '-'} {arn}"
        self._write(line)


def _without_id(path: str) -> str:
    """Return a path without what may be an id. Pure."""
    found = _CREDENTIALS.match(path)
    return found[0] if found else _shown(_ID.sub("-", path))


def _shown(text: str) -> str:
    """Return a text as part of a line, within quotation marks."""
    return ascii(text)[1:-1].replace('"', "'")[:_LONGEST_TEXT]
