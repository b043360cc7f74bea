"""The clock: a plausible date, synchronized, and running steadily."""

from __future__ import annotations

import asyncio
import ctypes
import time
from typing import TYPE_CHECKING

import msgspec

from agent.doctor import reading
from agent.doctor.findings import Finding, FindingList

if TYPE_CHECKING:
    from agent.doctor.host import HostFacts

_EARLIEST = 1_735_689_600.0
"""2025-01-01: the software did not exist before."""
_LATEST = 4_102_444_800.0
"""2100-01-01."""
_UNSYNCHRONISED = 0x0040
_LOOK_S = 0.2
_STEP_S = 0.1
_SERVICES = ("chronyd", "chrony", "systemd-timesyncd", "ntpd", "ntpsec", "ntp", "openntpd")


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed of the clock."""

    now: float
    synchronised: bool | None
    """Whether the kernel considers the clock synchronized; None if it cannot be asked."""
    drift_s: float
    """Difference between wall time and monotonic time over the observation."""
    looked_s: float
    """Duration of the observation by the monotonic clock."""
    services: tuple[str, ...] = ()
    """Running time services."""


class _Timex(ctypes.Structure):
    """The beginning of the kernel's ``struct timex``, with space for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


async def check(host: HostFacts) -> list[Finding]:
    """Observe both clocks for a moment and ask the kernel whether the time is synchronized."""
    services = await host.active_units(*_SERVICES)
    wall, steady = time.time(), time.monotonic()
    await asyncio.sleep(_LOOK_S)
    looked_s = time.monotonic() - steady
    drift_s = time.time() - wall - looked_s
    return judge(
        Clock(
            now=time.time(),
            synchronised=await reading.blocking(synchronised),
            drift_s=drift_s,
            looked_s=looked_s,
            services=tuple(sorted(services or ())),
        )
    )


def synchronised() -> bool | None:
    """Return whether the kernel considers the clock synchronized; only reads. Blocks briefly."""
    timex = _Timex()
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return None if answer < 0 else not timex.status & _UNSYNCHRONISED


def judge(clock: Clock) -> list[Finding]:
    """Return the verdict on the clock. Pure."""
    verdict = FindingList("clock")
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(clock.now))
    if not _EARLIEST < clock.now < _LATEST:
        verdict.error(
            f"the date is {shown} UTC, which is impossible: TLS fails, and shown times are wrong",
            "set the clock, and turn on time synchronization",
            "timedatectl set-ntp true",
        )
    if clock.looked_s <= 0 or abs(clock.drift_s) > _STEP_S:
        verdict.warn(
            f"the clock was set by {clock.drift_s:+.1f} s during the check",
            "make sure that only one service sets the time",
            "systemctl list-units '*chron*' '*ntp*' '*timesync*'",
        )
    if clock.synchronised is False:
        who = f", though {' and '.join(clock.services)} runs" if clock.services else ""
        mend = (
            "look at its status"
            if clock.services
            else "turn on time synchronization, or install chrony"
        )
        command = "timedatectl timesync-status || chronyc tracking"
        verdict.warn(
            f"{shown} UTC is not synchronized{who}: clocks drift by seconds a day",
            mend,
            command if clock.services else "timedatectl set-ntp true",
        )
    if clock.synchronised is None:
        verdict.unknown(
            f"whether the clock ({shown} UTC) is synchronized",
            "the kernel does not say",
            "ask the time service",
            "timedatectl timesync-status || chronyc tracking",
        )
    elif not verdict.findings:
        by = f" by {' and '.join(clock.services)}" if clock.services else ""
        verdict.ok(f"{shown} UTC, synchronized{by}")
    return verdict.findings
