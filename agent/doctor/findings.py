"""The findings of a check: level, observation and fix. Pure data."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field


class Level(StrEnum):
    """Severity of a finding. Only an error makes ``ecs-agent doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of the report."""

    check: str
    """Name of the check: ``docker``, ``disk``."""
    level: Level
    seen: str
    """What was seen and, for a problem, what it leads to."""
    mend: str = ""
    """How to fix it, as a sentence; empty if all is well."""
    command: str = ""
    """A command to paste that is part of the fix, if there is one."""


class Report(Struct, frozen=True, kw_only=True, rename="camel"):
    """All findings of one host."""

    hostname: str
    version: str
    at: float
    """Unix time at which the checks started."""
    errors: int
    warnings: int
    findings: list[Finding]
    left_out: list[str] = field(default_factory=list)
    """Names of the checks that ``--quick`` skipped."""


class FindingList:
    """Collects the findings of one check, in the order of the report."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def ok(self, seen: str) -> None:
        """Report something that is as it should be."""
        self._add(Level.OK, seen)

    def warn(self, seen: str, mend: str = "", command: str = "") -> None:
        """Report something that works for now or has a cost."""
        self._add(Level.WARNING, seen, mend, command)

    def unknown(self, what: str, why: str, mend: str = "", command: str = "") -> None:
        """Report something that could not be found out: neither good nor bad.

        Without ``mend``, the finding tells the operator to run as root.
        """
        told = f"{what} is not known ({why})" if why else f"{what} is not known"
        if mend:
            self._add(Level.WARNING, told, mend, command)
        else:
            self._add(Level.WARNING, told, "run it as root", "sudo ecs-agent doctor")

    def error(self, seen: str, mend: str = "", command: str = "") -> None:
        """Report something that prevents the agent or its tasks from working."""
        self._add(Level.ERROR, seen, mend, command)

    def _add(self, level: Level, seen: str, mend: str = "", command: str = "") -> None:
        self.findings.append(
            Finding(check=self.check, level=level, seen=seen, mend=mend, command=command)
        )
