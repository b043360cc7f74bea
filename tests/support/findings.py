"""Helpers for tests of the doctor: facts about a healthy engine, and queries of findings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.doctor.findings import Finding, Level
from agent.doctor.host import EngineFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD_INFO: dict[str, Any] = {
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "LiveRestoreEnabled": True,
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "LoggingDriver": "local",
    "Plugins": {"Log": ["json-file", "local"]},
}
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41"}


def engine(**changes: Any) -> EngineFacts:
    """Return the answers of a healthy engine, except for these members of its ``info``."""
    return EngineFacts(info={**GOOD_INFO, **changes}, version=VERSION)


def levels(findings: Sequence[Finding]) -> set[str]:
    """Return the levels; check that every text is one line, and that every problem has a fix."""
    for finding in findings:
        assert "\n" not in finding.seen + finding.mend + finding.command
        assert not finding.seen.endswith(".")
        assert bool(finding.mend) is (finding.level is not Level.OK), finding
        assert finding.mend or not finding.command
    return {finding.level.value for finding in findings}


def only(findings: Sequence[Finding], level: Level) -> Finding:
    """Return the one finding of a level."""
    assert level in levels(findings)
    found = [finding for finding in findings if finding.level is level]
    assert len(found) == 1, findings
    return found[0]
