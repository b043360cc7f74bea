"""The keys that the agent signs with: found in several sources, refreshed before they expire.

Uses what its sources use (`agent.aws.sources`) and keeps keys only in memory. Raises
``CredentialsMissing``. One object per agent, on one event loop, shared by all tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from agent.aws import rotating, sources
from agent.aws.keys import Keys
from agent.aws.reading import Reader
from agent.errors import AwsUnavailable, CredentialsMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from agent.aws.clock import AwsClock
    from agent.aws.imds import Imds
    from agent.aws.sources import Source

__all__ = ["CredentialChain", "Keys", "chain_for", "usual_chain"]

_log = structlog.get_logger()

AHEAD_S: Final = 900.0
"""Keys are replaced this long before they expire, or after half of their lifetime."""
URGENT_S: Final = 60.0
"""When keys expire within this time, a caller waits for new ones."""
LOOK_S: Final = 1.0
"""Files are checked when keys are used, but at most this often."""
LOOK_LIMIT_S: Final = 2.0
PATIENCE_S: Final = 10.0
"""How long a caller waits for new keys while the old ones still work."""
RENEW_S: Final = 60.0
"""Limit for asking all sources once."""
_AGAIN_S: Final = 5.0
_AGAIN_LIMIT_S: Final = 60.0
"""First and longest wait after a refresh that failed or gave no newer keys."""
_REMIND_S: Final = 300.0
"""A lasting failure is logged again after this long."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Keys in use, and where they came from."""

    keys: Keys
    source: Source
    stamp: rotating.Stamp
    read_at: float
    """Monotonic time."""
    due_at: float | None
    """AWS's time after which newer keys are requested; None if the expiry is unknown."""


class CredentialChain:
    """Keys from the first source that has any.

    Keys stay in use while they are valid, even if the sources fail. Refreshes run in the
    background, one at a time, regardless of the number of callers.
    """

    def __init__(
        self,
        places: Sequence[Source],
        clock: AwsClock,
        *,
        reader: Reader | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """``places`` are asked in order; ``reader`` runs their file reads in a thread."""
        self._places = tuple(places)
        self._clock = clock
        self._reader = reader or Reader()
        self._steady = steady
        self._held: _Held | None = None
        self._refused: Keys | None = None
        self._refused_at = -_AGAIN_S
        self._trouble = ""
        self._failures = 0
        self._next_try = 0.0
        self._looked_at = -LOOK_S
        self._logged_at = -_REMIND_S
        self._told = False
        self._renewing: asyncio.Task[None] | None = None

    async def keys(self) -> Keys:
        """Return keys to sign with; returns at once if the current ones stay valid for a while.

        Raises:
            CredentialsMissing: there are no keys, or they have expired and no source gives new
                ones; the text lists the sources and what was wrong with each.
        """
        await self._look()
        if self._held is None or self._must_renew(self._held):
            await self._renewed()
        elif self._should_renew(self._held):
            self._renewal()
        held = self._held
        if held is None or (self._trouble and self._is_past(held.keys.expires_at)):
            raise CredentialsMissing(self._trouble)
        return held.keys

    def refused(self, keys: Keys) -> None:
        """Note that AWS refused these keys: the next ``keys`` call asks the sources again.

        Keys that have been replaced in the meantime are ignored. If the sources still give the same
        keys, those stay in use: only AWS decides whether they are valid.
        """
        held, now = self._held, self._steady()
        if held is not None and held.keys == keys and now - self._refused_at >= _AGAIN_S:
            self._refused, self._refused_at = keys, now

    async def close(self) -> None:
        """End a running refresh. Idempotent."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _look(self) -> None:
        """Request a refresh if a file has changed since its keys were read."""
        held, now = self._held, self._steady()
        if held is None or not held.source.paths or now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        try:
            paths = held.source.paths
            found = await self._reader.read(lambda: rotating.stamp(paths), LOOK_LIMIT_S)
        except TimeoutError:
            return
        if found != held.stamp and not (self._trouble and self._steady() < self._next_try):
            await self._renewed()

    async def _renewed(self) -> None:
        """Wait for a refresh, but not long if the current keys are still valid."""
        held = self._held
        is_good = held is not None and not self._is_past(held.keys.expires_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S if is_good else None):
                # Cancelling one caller must not end the refresh that others wait for.
                await asyncio.shield(self._renewal())

    def _must_renew(self, held: _Held) -> bool:
        if self._refused == held.keys:
            return True
        expires_at = held.keys.expires_at
        return (
            expires_at is not None
            and self._is_past(expires_at - URGENT_S)
            and self._steady() >= self._next_try
        )

    def _should_renew(self, held: _Held) -> bool:
        if self._steady() < self._next_try:
            return False
        aged = bool(held.source.paths) and self._steady() - held.read_at >= rotating.READ_AGAIN_S
        return bool(self._trouble) or aged or self._is_past(held.due_at)

    def _is_past(self, moment: float | None) -> bool:
        return moment is not None and self._clock.time() >= moment

    def _renewal(self) -> asyncio.Task[None]:
        """Return the running refresh; start one if there is none."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="aws credentials")
        return self._renewing

    async def _renew(self) -> None:
        """Ask the sources once; the result is in ``_held`` and ``_trouble``."""
        self._refused = None
        try:
            async with asyncio.timeout(RENEW_S):
                held, told = await self._ask()
        except TimeoutError:
            held, told = None, [f"nothing found within {RENEW_S:g} s"]
        if held is None:
            self._fail("; ".join(told))
            return
        if self._held is None or self._held.source is not held.source:
            _log.info("credentials found", place=held.source.name)
        elif self._told:
            _log.info("credentials found again", place=held.source.name)
        self._held = held
        self._trouble, self._failures, self._told = "", 0, False
        # Keys that are about to expire when they are read must not cause a refresh at every call.
        self._next_try = self._steady() + _AGAIN_S

    async def _ask(self) -> tuple[_Held | None, list[str]]:
        """Return the keys of the first source that has any, or what was wrong with each source."""
        told = []
        for place in self._places:
            try:
                stamp = await self._stamp_of(place)
                keys = await place.load()
            except (CredentialsMissing, AwsUnavailable) as error:
                told.append(f"{place.name}: {error}")
                if self._is_in_use(place):
                    break  # a temporary failure must not change the agent's identity
                continue
            if keys is not None:
                return self._hold(keys, place, stamp), []
            told.append(f"{place.name}: nothing there")
        return None, told

    async def _stamp_of(self, place: Source) -> rotating.Stamp:
        """Return the version of a source's files, before reading them, so that no change is missed."""
        if not place.paths:
            return ()
        paths = place.paths
        try:
            return await self._reader.read(lambda: rotating.stamp(paths), sources.FILE_S)
        except TimeoutError:
            raise CredentialsMissing(f"not read within {sources.FILE_S:g} s") from None

    def _is_in_use(self, place: Source) -> bool:
        held = self._held
        return held is not None and held.source is place and not self._is_past(held.keys.expires_at)

    def _hold(self, keys: Keys, place: Source, stamp: rotating.Stamp) -> _Held:
        due_at = None
        if keys.expires_at is not None:
            left_s = max(keys.expires_at - self._clock.time(), 0.0)
            due_at = keys.expires_at - min(AHEAD_S, left_s / 2)
        return _Held(keys, place, stamp, self._steady(), due_at)

    def _fail(self, told: str) -> None:
        self._trouble = f"no credentials for AWS; searched {told}"
        self._failures += 1
        now = self._steady()
        wait_s = min(_AGAIN_S * 2.0 ** min(self._failures - 1, 8), _AGAIN_LIMIT_S)
        if self._held is not None and self._held.keys.expires_at is not None:
            # Once the old keys have expired, keys of any other source may be used.
            left_s = self._held.keys.expires_at - self._clock.time()
            wait_s = min(wait_s, left_s) if left_s > 0 else wait_s
        self._next_try = now + wait_s
        if now - self._logged_at >= _REMIND_S:
            self._logged_at, self._told = now, True
            _log.warning(
                "credentials cannot be read",
                error=self._trouble,
                in_use="old ones" if self._held else "none",
            )


def chain_for(
    *,
    given: Keys | None,
    external: bool,
    profile: str,
    rotating_file: Path,
    imds: Imds,
    environ: Mapping[str, str],
    clock: AwsClock,
) -> CredentialChain:
    """Return the chain of an EC2 host or of an external one; see ``sources.in_order``.

    ``given`` are the keys in the settings; ``profile`` is the profile in the rotating file.
    botocore reads other keys, ``AWS_PROFILE`` and the locations of the shared files from
    ``environ``.
    """
    reader = Reader()
    places = sources.in_order(
        given=given,
        external=external,
        profile=profile,
        rotating_file=rotating_file,
        imds=imds,
        environ=environ,
        reader=reader,
    )
    return CredentialChain(places, clock, reader=reader)


def usual_chain(*, imds: Imds, environ: Mapping[str, str], clock: AwsClock) -> CredentialChain:
    """Return the chain of any program that calls AWS; see ``sources.usual``."""
    reader = Reader()
    places = sources.usual(imds=imds, environ=environ, reader=reader)
    return CredentialChain(places, clock, reader=reader)
