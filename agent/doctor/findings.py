"""What a check found: level, what was seen, and the mend. Pure data."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field


class Level(StrEnum):
    """How bad a finding is. Only an error makes ``ecs-agent doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(Struct, frozen=True, kw_only=True, rename="camel"):
    """One line of the report."""

    check: str
    """Name of the check: ``docker``, ``disk``."""
    level: Level
    seen: str
    """What was seen, and for a problem what it leads to."""
    mend: str = ""
    """What to do about it, as a sentence; empty when all is well."""
    command: str = ""
    """A command to paste; part of the mend, where there is one."""


class Report(Struct, frozen=True, kw_only=True, rename="camel"):
    """Everything that was found on one host."""

    hostname: str
    version: str
    at: float
    """Unix time at which the checks began."""
    errors: int
    warnings: int
    findings: list[Finding]
    left_out: list[str] = field(default_factory=list)
    """Names of the checks that ``--quick`` left out."""


class Verdict:
    """Collects the findings of one check, in the order in which they are told."""

    def __init__(self, check: str) -> None:
        self.check = check
        self.findings: list[Finding] = []

    def ok(self, seen: str) -> None:
        """Tell what is as it should be."""
        self._add(Level.OK, seen)

    def warn(self, seen: str, mend: str = "", command: str = "") -> None:
        """Tell what works for now, or costs something."""
        self._add(Level.WARNING, seen, mend, command)

    def unknown(self, what: str, why: str, mend: str = "", command: str = "") -> None:
        """Tell what could not be found out: it is neither well nor wrong.

        Without ``mend``, root is what is missing.
        """
        told = f"{what} is not known ({why})" if why else f"{what} is not known"
        if mend:
            self._add(Level.WARNING, told, mend, command)
        else:
            self._add(Level.WARNING, told, "run it as root", "sudo ecs-agent doctor")

    def error(self, seen: str, mend: str = "", command: str = "") -> None:
        """Tell what keeps the agent or its tasks from working."""
        self._add(Level.ERROR, seen, mend, command)

    def _add(self, level: Level, seen: str, mend: str = "", command: str = "") -> None:
        self.findings.append(
            Finding(check=self.check, level=level, seen=seen, mend=mend, command=command)
        )
