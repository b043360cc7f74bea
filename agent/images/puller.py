"""Brings one image from its registry, or from a mirror of it, to the host; one try, no policy.

A limited number of pulls run side by side; the others wait, first come, first served. A waiting pull
holds nothing. Questions for digests are not counted: they are short.

Touches the container engine. Fails with ``RuntimeFailure`` of the engine, or with what a login raises.

Tests: ``tests/unit/images/test_puller.py``, ``tests/integration/images``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from agent.errors import NoSuchImage, RuntimeFailure
from agent.images import failure_kind
from agent.images.failure_kind import FailureKind
from agent.images.mirrors import Source, sources
from agent.images.progress import Progress
from agent.model.figures import PullFigures

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from agent.images.logins import Login, RegistryLogins
    from agent.images.reference import Reference
    from agent.images.registries import Registries
    from agent.images.single_flight import Report
    from agent.runtime.protocol import ContainerEngine, ImageInfo, RegistryAuth

log = structlog.get_logger(__name__)

LEAST_S: Final = 1.0
"""A pull that has no more than this left of its time is not tried again."""


class DiskRoom(Protocol):
    """Room for images on the engine's disk."""

    async def before_pull(self, report: Report) -> None:
        """Remove unused images if the disk is too full; never fails."""

    async def disk_full(self, report: Report) -> bool:
        """Remove unused images because the engine found the disk full; tell whether any was removed."""

    def pulled(self) -> None:
        """Note that the disk has become fuller."""


class NoDiskRoom:
    """Stands for a host whose images are never removed."""

    async def before_pull(self, report: Report) -> None:
        """Do nothing."""

    async def disk_full(self, report: Report) -> bool:
        """Nothing was removed."""
        return False

    def pulled(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullLimits:
    """Limits of pulls. Times in seconds."""

    side_by_side: int = 8
    inactivity_s: float = 60.0
    """Longest time without progress during a pull."""
    total_s: float = 7200.0
    """For all tries of a pull together, without the time in which it waits for its turn."""
    manifest_s: float = 60.0
    """For a question for a digest."""
    mirrors: Mapping[str, str] = field(default_factory=dict)


class Wanted(NamedTuple):
    """An image, and how it is got."""

    reference: Reference
    login: Login
    by_tag: bool = False
    """Pull what its tag names when the pull begins, not the digest that the tag had before."""

    @property
    def key(self) -> str:
        """What is shared by all who want the same with the same login."""
        tagged = " by tag" if self.by_tag else ""
        return f"{self.reference.text} {self.login.key}{tagged}".rstrip()


@dataclass(frozen=True, slots=True)
class Obtained:
    """An image on the host."""

    digest: str = ""
    """``sha256:...`` in its registry; empty if its name has one, or no registry is known to have it."""
    local_name: str = ""
    """The name under which the engine has it, if not the ordered one."""
    variables: frozenset[str] | None = field(default=None, compare=False)
    """Names of the environment variables that it sets; None if nobody has looked."""


class Budget:
    """Time for all tries of one pull together."""

    def __init__(self, total_s: float) -> None:
        self._left_s = total_s

    @property
    def left_s(self) -> float:
        """Seconds that are left, never less than ``LEAST_S``."""
        return max(self._left_s, LEAST_S)

    @property
    def is_spent(self) -> bool:
        """True if there is no time for another try."""
        return self._left_s <= LEAST_S

    def spend(self, seconds: float) -> None:
        """Take the time of one try."""
        self._left_s -= seconds


class Puller:
    """Asks registries and pulls; one object serves all tasks. Belongs to one event loop."""

    def __init__(
        self,
        engine: ContainerEngine,
        logins: RegistryLogins,
        registries: Registries,
        limits: PullLimits,
        room: DiskRoom,
    ) -> None:
        self._engine = engine
        self._logins = logins
        self._registries = registries
        self._limits = limits
        self._room = room
        self._turns = asyncio.Semaphore(limits.side_by_side)  # wakes waiters in their order
        self.figures = PullFigures()
        """What is known of all pulls so far."""

    def sources(self, reference: Reference) -> tuple[Source, ...]:
        """Return where an image is asked for, in this order."""
        return sources(reference, self._limits.mirrors)

    async def find_local(self, reference: Reference) -> tuple[ImageInfo, str] | None:
        """Return an image that the engine has, and its name if it is not the ordered one.

        An image with a digest in its name keeps the name of the mirror that it came from: an engine
        gives no other name with a digest.
        """
        for source in self.sources(reference):
            if source.is_mirror and not reference.digest:
                continue
            try:
                found = await self._engine.inspect_image(source.reference.text)
            except NoSuchImage:
                continue
            return found, source.reference.text if source.is_mirror else ""
        return None

    def known_digest(self, reference: Reference, image: ImageInfo) -> str:
        """Return the digest under which the host got an image; empty if its name has one."""
        if reference.digest:
            return ""
        digests = (s.reference.local_digest(image.repo_digests) for s in self.sources(reference))
        return next((digest for digest in digests if digest), "")

    async def fetch(
        self,
        image: Wanted,
        cached: ImageInfo | None,
        report: Report,
        budget: Budget,
        *,
        question_s: float | None = None,
    ) -> Obtained:
        """Get the newest image; what the host has already is not pulled again.

        Args:
            image: what is wanted.
            cached: what the host has under that name.
            report: called with the progress.
            budget: time for pulling.
            question_s: deadline of questions for digests, all sources together.

        Raises:
            RuntimeFailure: from the registry itself; a mirror that fails is passed over.
        """
        asked = [source for source in self.sources(image.reference) if self._may_ask(source)]
        limit_s = (question_s or self._limits.manifest_s) / len(asked)
        for source in asked:
            try:
                return await self._fetch_from(source, image, cached, report, budget, limit_s)
            except RuntimeFailure as error:
                if not source.is_mirror or failure_kind.of(error) in {
                    FailureKind.ENGINE,
                    FailureKind.NO_SPACE,
                }:
                    raise
                log.info(
                    "a mirror does not give an image; asking its registry",
                    image=source.reference.text,
                    error=str(error),
                )
        raise AssertionError("unreachable: the registry itself is always asked")  # pragma: no cover

    async def ask(self, image: Wanted, *, limit_s: float) -> None:
        """Ask the first source that answers for the digest of an image; raises like ``fetch``."""
        asked = self.sources(image.reference)
        for source in asked:
            try:
                auth = await self._auth(source, image)
                await self._digest(source, image, auth, limit_s=limit_s / len(asked))
            except RuntimeFailure:
                if not source.is_mirror:
                    raise
            else:
                return

    def _may_ask(self, source: Source) -> bool:
        registry = source.reference.registry
        return (
            not source.is_mirror
            or not self._registries.is_away(registry)
            or self._registries.may_probe(registry, time.monotonic())
        )

    async def _fetch_from(
        self,
        source: Source,
        image: Wanted,
        cached: ImageInfo | None,
        report: Report,
        budget: Budget,
        limit_s: float,
    ) -> Obtained:
        reference = image.reference
        auth = await self._auth(source, image)
        try:
            digest = await self._digest(source, image, auth, limit_s=limit_s)
        except RuntimeFailure as error:
            absent = failure_kind.of(error) in {FailureKind.ABSENT, FailureKind.FINAL}
            if source.is_mirror or not absent:
                raise
            # If the pull fails too, its error has the text that operators know.
            digest = ""
        if cached is not None and digest and digest == self.known_digest(reference, cached):
            return Obtained(digest)
        pinned = digest and not image.by_tag
        wanted = source.reference.pinned(digest) if pinned else source.reference.text
        await self._pull(source, image, wanted, auth, report, budget)
        if reference.digest:
            return Obtained("", wanted if source.is_mirror else "")
        if wanted != reference.text:
            # Containers and people refer to the image by its own name.
            await self._engine.tag_image(wanted, reference.text)
        if pinned:
            return Obtained(digest)
        return Obtained(self.known_digest(reference, await self._engine.inspect_image(wanted)))

    async def _auth(self, source: Source, image: Wanted) -> RegistryAuth | None:
        """Return the login for a source; a mirror never gets that of the registry."""
        if source.is_mirror:
            return self._logins.of_host(source.reference)
        return await image.login.auth()

    async def _digest(
        self, source: Source, image: Wanted, auth: RegistryAuth | None, *, limit_s: float
    ) -> str:
        """Ask for a digest, and note whether the registry works."""
        if source.reference.digest:
            return ""
        try:
            digest = await self._engine.resolve_digest(
                source.reference.text, auth=auth, limit_s=limit_s
            )
        except RuntimeFailure as error:
            self._learn(source, image, error)
            raise
        self._answered(source, image)
        return digest

    async def _pull(
        self,
        source: Source,
        image: Wanted,
        wanted: str,
        auth: RegistryAuth | None,
        report: Report,
        budget: Budget,
    ) -> None:
        if self._turns.locked():
            most = self._limits.side_by_side
            line = f"waiting for a turn to pull {wanted}: {most} images are being pulled"
            report(Progress(f"{line} (ECS_IMAGE_PULL_LIMIT)"))
        async with self._turn():
            await self._room.before_pull(report)
            report(Progress(f"pulling {wanted}"))
            began = time.monotonic()
            try:
                downloaded = await self._engine.pull_image(
                    wanted,
                    auth=auth,
                    inactivity_s=self._limits.inactivity_s,
                    limit_s=budget.left_s,
                    on_progress=lambda line: report(Progress(line)),
                )
            except RuntimeFailure as error:
                self.figures.failed += 1
                self._learn(source, image, error)
                raise
            finally:
                budget.spend(time.monotonic() - began)
                self._room.pulled()
            self.figures.durations.observe(time.monotonic() - began)
            self.figures.downloaded_bytes += downloaded
        self._answered(source, image)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for a turn to pull, and have it."""
        figures = self.figures
        figures.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            figures.waiting -= 1
        figures.running += 1
        try:
            yield
        finally:
            figures.running -= 1
            self._turns.release()

    def _answered(self, source: Source, image: Wanted) -> None:
        self._registries.answered(source.reference.registry)
        self._registries.has(image.key)

    def _learn(self, source: Source, image: Wanted, error: RuntimeFailure) -> None:
        found = failure_kind.of(error)
        registry = source.reference.registry
        if found in {FailureKind.TROUBLE, FailureKind.LIMITED}:
            self._registries.failed(registry, time.monotonic())
        elif found in {FailureKind.ABSENT, FailureKind.FINAL}:
            self._registries.answered(registry)
            if not source.is_mirror:
                self._registries.lacks(image.key, time.monotonic())
                image.login.refused()
