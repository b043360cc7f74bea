"""The keys that the agent signs with: found in several places, refreshed ahead, never a gap.

Touches what its places touch (`agent.aws.sources`) and keeps keys in memory alone. Fails with
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

__all__ = ["CredentialChain", "Keys", "chain_for"]

_log = structlog.get_logger()

AHEAD_S: Final = 900.0
"""Keys are replaced this long before they expire, or when half of their life is over."""
URGENT_S: Final = 60.0
"""From this long before they expire on, a caller waits for the new ones."""
LOOK_S: Final = 1.0
"""Files are looked at when keys are used, and not more often than this."""
LOOK_LIMIT_S: Final = 2.0
PATIENCE_S: Final = 10.0
"""How long a caller waits for better keys than those that still work."""
RENEW_S: Final = 60.0
"""Limit of asking all places once."""
_AGAIN_S: Final = 5.0
_AGAIN_LIMIT_S: Final = 60.0
"""After a failed refresh, and after one that gave nothing better: the waits before the next."""
_REMIND_S: Final = 300.0
"""A lasting trouble is logged again after this long."""


@dataclass(frozen=True, slots=True)
class _Held:
    """Keys in use, and where they came from."""

    keys: Keys
    source: Source
    stamp: rotating.Stamp
    read_at: float
    """By the steady clock."""
    due_at: float | None
    """AWS's time from which on better ones are looked for; None where nothing is known."""


class CredentialChain:
    """Keys from the first place that has some.

    What was found stays in use while it is valid, however the places fail. Refreshes run in the
    background; however many callers there are, there is one at a time.
    """

    def __init__(
        self,
        places: Sequence[Source],
        clock: AwsClock,
        *,
        reader: Reader | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """``places`` are asked in order; ``reader`` is the thread that they read files in."""
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
        """Return keys to sign with, at once where there are some that are good for a while.

        Raises:
            CredentialsMissing: there are none, or what there was has expired and no place gives new
                ones; the text says where was looked, and what was wrong there.
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
        """Take note that AWS did not take these keys: the next ``keys`` reads the places anew.

        Keys that were replaced meanwhile are ignored. Where the places still give the same ones, they
        stay in use: whether they are right is AWS's to say.
        """
        held, now = self._held, self._steady()
        if held is not None and held.keys == keys and now - self._refused_at >= _AGAIN_S:
            self._refused, self._refused_at = keys, now

    async def close(self) -> None:
        """End a refresh that is under way. Idempotent."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _look(self) -> None:
        """Ask for a refresh when a file has changed since its keys were read."""
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
        """Wait for a refresh; not for long where there are keys that are still good."""
        held = self._held
        is_good = held is not None and not self._is_past(held.keys.expires_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S if is_good else None):
                # One caller's cancellation must not end what others wait for.
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
        """Return the refresh that is under way; begin one where there is none."""
        if self._renewing is None or self._renewing.done():
            self._renewing = asyncio.create_task(self._renew(), name="aws credentials")
        return self._renewing

    async def _renew(self) -> None:
        """Ask the places once; what comes of it is in ``_held`` and ``_trouble``."""
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
        # Keys that are nearly over as soon as they are read must not be asked for at every call.
        self._next_try = self._steady() + _AGAIN_S

    async def _ask(self) -> tuple[_Held | None, list[str]]:
        """Return what the first place with keys has; or what was wrong with each."""
        told = []
        for place in self._places:
            try:
                stamp = await self._stamp_of(place)
                keys = await place.load()
            except (CredentialsMissing, AwsUnavailable) as error:
                told.append(f"{place.name}: {error}")
                if self._is_in_use(place):
                    break  # a place that stumbles must not make the agent somebody else
                continue
            if keys is not None:
                return self._hold(keys, place, stamp), []
            told.append(f"{place.name}: nothing there")
        return None, told

    async def _stamp_of(self, place: Source) -> rotating.Stamp:
        """Return the version of a place's files; taken before they are read, so as to miss nothing."""
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
        self._trouble = f"no credentials for AWS; looked at {told}"
        self._failures += 1
        now = self._steady()
        wait_s = min(_AGAIN_S * 2.0 ** min(self._failures - 1, 8), _AGAIN_LIMIT_S)
        if self._held is not None and self._held.keys.expires_at is not None:
            # From the moment that the old keys expire, those of any other place will do.
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

    ``given`` are keys in the settings; ``profile`` is that of the rotating file. ``environ`` says what
    botocore reads from it: other keys, ``AWS_PROFILE``, where the shared files are.
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
