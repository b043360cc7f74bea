"""HAProxy's statistics of servers, and the health of targets that they show. Pure.

Source: HAProxy 2.6 management guide, section 9.1 "CSV format".
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from agent.ingress.configuration import backend_name, server_name
from agent.model.ingress import TargetReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.model.ingress import Group, Target

COMMAND: Final = "show stat -1 4 -1"
"""Statistics of all servers."""
NOTHING_YET: Final = "INI"
_TIMEOUTS: Final = frozenset({"L4TOUT", "L6TOUT", "L7TOUT"})
_WRONG_CODE: Final = "L7STS"


class ServerFigures(NamedTuple):
    """What HAProxy knows of a server."""

    backend: str
    name: str
    status: str
    """``UP``, ``UP 1/3``, ``DOWN``, ``DRAIN``, ``MAINT``..."""
    check: str
    """Result of the last health check; NOTHING_YET before the first."""
    code: str
    """Status code of it, if there was one."""
    weight: int
    requests: int
    """Those that it has now."""

    @property
    def is_up(self) -> bool:
        """Whether its health checks have passed; also while it gets no new requests."""
        return self.check.endswith("OK") and not self.status.startswith(("DOWN", "MAINT"))

    @property
    def may_serve(self) -> bool:
        """Whether it gets requests, or could: after a reload, one may not have been checked again yet."""
        return self.is_up or (self.weight > 0 and not self.status.startswith(("DOWN", "MAINT")))

    @property
    def is_steady(self) -> bool:
        """Whether its health is decided, and not on its way up or down."""
        return self.check != NOTHING_YET and "/" not in self.status


def read(text: str) -> list[ServerFigures]:
    """Return the servers of an answer to COMMAND; lines that are not complete are left out."""
    lines = text.removeprefix("# ").splitlines()
    found = []
    for row in csv.DictReader(lines):
        try:
            found.append(
                ServerFigures(
                    row["pxname"],
                    row["svname"],
                    row["status"],
                    row["check_status"].removeprefix("* "),
                    row["check_code"] or "",
                    int(row["uweight"] or 0),
                    int(row["scur"] or 0),
                )
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            continue
    return found


def report(server: ServerFigures, *, was: TargetReport | None, drains: bool) -> TargetReport:
    """Return what is reported of a target.

    Args:
        server: its server.
        was: what was reported before; kept while its health is not decided.
        drains: whether it gets no new requests.
    """
    is_idle = drains and server.requests == 0
    if not server.is_steady:
        state = was or TargetReport(state="initial")
        return TargetReport(
            state=state.state,
            reason=state.reason,
            description=state.description,
            is_idle=is_idle,
        )
    if server.is_up:
        return TargetReport(state="healthy", is_idle=is_idle)
    reason, description = _why(server)
    return TargetReport(state="unhealthy", reason=reason, description=description, is_idle=is_idle)


def group_reports(
    groups: Iterable[Group],
    targets: Mapping[str, Sequence[Target]],
    servers: Mapping[tuple[str, str], ServerFigures],
    before: Mapping[str, Mapping[str, TargetReport]],
    *,
    is_alone: bool,
) -> dict[str, dict[str, TargetReport]]:
    """Return what is reported of all targets, by group id and target name.

    Args:
        groups: those that the proxy has.
        targets: by group id.
        servers: by backend and name.
        before: what was returned before.
        is_alone: whether no process from before a reload is left, which could have requests of its own.
    """
    found: dict[str, dict[str, TargetReport]] = {}
    for group in groups:
        old = before.get(group.id, {})
        found[group.id] = {}
        for target in targets.get(group.id, ()):
            server = servers.get((backend_name(group.id), server_name(target)))
            was = old.get(target.name)
            if server is None:
                was = was or TargetReport(state="initial")
                new = replace(was, is_idle=target.drains and is_alone)
            else:
                drains = target.drains and server.weight == 0 and is_alone
                new = report(server, was=was, drains=drains)
            found[group.id][target.name] = new
    return found


def _why(server: ServerFigures) -> tuple[str, str]:
    """Return the reason and its description, in the words of Elastic Load Balancing."""
    if server.check == _WRONG_CODE and server.code:
        return (
            "Target.ResponseCodeMismatch",
            f"Health checks failed with these codes: [{server.code}]",
        )
    if server.check in _TIMEOUTS:
        return "Target.Timeout", "Request timed out"
    return "Target.FailedHealthChecks", "Health checks failed"


def by_place(servers: Iterable[ServerFigures]) -> dict[tuple[str, str], ServerFigures]:
    """Return servers by backend and name."""
    return {(each.backend, each.name): each for each in servers}
