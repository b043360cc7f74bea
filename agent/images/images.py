"""``Images``: ensures that a container's image is on the host before the container is created.

The behaviour for each ``ECS_IMAGE_PULL_BEHAVIOR`` (Amazon ECS agent 1.105.1,
``docker_task_engine.go``):

============= ======================================== =======================================
behaviour     the registry is asked                    if that fails
============= ======================================== =======================================
default       at every launch                          the cached image is used, if there is one
always        at every launch                          the container fails
once          unless the image was pulled here before  the container fails
prefer-cached only if the image is not here            the container fails
============= ======================================== =======================================

Differences from the Go agent:

- "Pulled before" (``once``) comes from the engine: the image is present and has a digest of its
  repository. There is no list to lose, and an image that was removed manually is pulled again.
- The agent asks the registry for the digest first. If the host has that digest, nothing is pulled.
- "Not found" and "denied" are final at once; only network and registry errors are retried
  (``retries``), and a full disk once, if unused images could be removed. A login that cannot be
  fetched is final, too, unless a cached image is enough.
- If a cached image is enough (``default``), a launch never waits long for a registry: one request
  with a short deadline and no retry. If the registry fails, launches use their cached images at
  once, and a single background request, at growing intervals, checks whether it is back. "Not
  found" is remembered for a minute, so that images that exist only on the host cost one request per
  minute.

All callers that wait for the same reference with the same login share one pull, which continues
while one of them waits. ``puller`` limits how many pulls run side by side and asks mirrors first.
A container with ``versionConsistency`` disabled gets what its tag names when the pull begins.

Tests: ``tests/unit/images/test_retries.py``, ``tests/integration/images/test_pulls.py``,
``tests/unit/engine/test_engine_pulls.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from agent.errors import (
    AgentError,
    EngineRefused,
    EngineTimeout,
    PayloadError,
    RuntimeFailure,
)
from agent.images import failure_kind, retries
from agent.images import reference as names
from agent.images.auth import Credentials
from agent.images.failure_kind import FailureKind
from agent.images.locks import ImageLocks
from agent.images.logins import RegistryLogins
from agent.images.progress import Progress
from agent.images.puller import Budget, NoDiskRoom, Obtained, Puller, PullLimits, Wanted
from agent.images.registries import Registries
from agent.images.single_flight import SingleFlight
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.images.logins import ExecutionRole
    from agent.images.puller import DiskRoom
    from agent.images.reference import Reference
    from agent.images.single_flight import Report
    from agent.images.uses import ImageUses
    from agent.model.figures import PullFigures
    from agent.model.payload import Container
    from agent.runtime.protocol import ContainerEngine, ImageInfo

log = structlog.get_logger(__name__)

REFRESH_LIMIT_S = 5.0
"""How long a launch with a cached image waits for a registry that has not failed."""
PROBE_LIMIT_S = 30.0

CACHED_WILL_DO = frozenset({"default", "prefer-cached"})
BY_TAG = "disabled"
"""``versionConsistency`` of a container that gets what its tag names."""


class Images:
    """Pulls by policy; one instance serves all tasks. Belongs to one event loop.

    Args:
        engine: the container engine.
        behavior: ``default``, ``always``, ``once`` or ``prefer-cached``.
        logins: user names and passwords; without any, everything is pulled anonymously.
        limits: of pulls.
        uses: notes which images were got and used; without it, nothing is noted.
        locks: keep removals of an image apart from pulls of it.
        room: makes room on the engine's disk.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        *,
        behavior: str = "default",
        logins: RegistryLogins | None = None,
        limits: PullLimits | None = None,
        uses: ImageUses | None = None,
        locks: ImageLocks | None = None,
        room: DiskRoom | None = None,
    ) -> None:
        self._behavior = behavior
        self._logins = logins or RegistryLogins(Credentials())
        self._limits = limits or PullLimits()
        self._uses = uses
        self._locks = locks or ImageLocks()
        self._room = room or NoDiskRoom()
        self._registries = Registries()
        self._puller = Puller(engine, self._logins, self._registries, self._limits, self._room)
        self._single_flight: SingleFlight[Obtained] = SingleFlight()

    async def ensure(
        self,
        container: Container,
        *,
        role: ExecutionRole | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Obtained:
        """Return once the image is on the host; may be repeated and run concurrently.

        Args:
            container: the container that needs the image.
            role: execution role of its task.
            on_progress: called with the progress once a registry is involved; never called if the
                cached image is used at once.

        Returns:
            The digest of the image in its registry, and the name by which the engine knows it.

        Raises:
            PayloadError: the image cannot be obtained; text and name are those of ECS.
            CredentialsAwaited: control has yet to send the credentials of the role.
            RuntimeFailure: the engine itself does not answer.
        """
        if not container.image:
            raise PayloadError(
                f"container {container.name!r} has no image name", name=reasons.CANNOT_PULL
            )
        reference = names.parse(container.image)
        by_tag = container.version_consistency == BY_TAG and not reference.digest
        image = Wanted(reference, self._logins.find(container, reference, role), by_tag)
        return await self._single_flight.join(
            image.key, lambda report: self._ensure(image, report), on_progress
        )

    async def close(self) -> None:
        """End all pulls and registry requests; waiting callers get ``EngineUnavailable``."""
        await self._single_flight.close()
        await self._logins.close()

    async def _ensure(self, image: Wanted, report: Report) -> Obtained:
        reference = image.reference
        async with self._locks.getting(reference.identity):
            found = await self._find_local(reference)
            cached, local_name = found or (None, "")
            if cached is None:
                return await self._got(image, None, await self._obtain(image, None, report))
            digest = self._puller.known_digest(reference, cached)
            have = Obtained(digest, local_name, cached.variables)
            if self._is_settled(reference, cached):
                obtained = have
            elif self._behavior in CACHED_WILL_DO:
                obtained = await self._refresh(image, cached, have, report)
            else:
                obtained = await self._obtain(image, cached, report)
            if obtained is have:
                self._note_use(cached)
                return have
            return await self._got(image, cached, obtained)

    def _is_settled(self, reference: Reference, cached: ImageInfo) -> bool:
        """Tell whether the cached image is used without asking a registry."""
        if self._behavior == "prefer-cached":
            return True
        if self._behavior == "once":
            return bool(reference.digest or self._puller.known_digest(reference, cached))
        # The content of a digest never changes, so there is nothing to ask.
        return self._behavior == "default" and bool(reference.digest)

    # -- the cached image is good enough, but a newer one is preferred --------------------------

    async def _refresh(
        self, image: Wanted, cached: ImageInfo, have: Obtained, report: Report
    ) -> Obtained:
        reference = image.reference
        if self._is_away(reference):
            self._probe(image)
            return have
        if self._registries.is_lacking(image.key, time.monotonic()):
            return have
        report(Progress(f"asking {reference.registry} for {reference.text}"))
        try:
            async with asyncio.timeout(REFRESH_LIMIT_S):
                await image.login.auth()
            return await self._puller.fetch(
                image, cached, report, Budget(self._limits.total_s), question_s=REFRESH_LIMIT_S
            )
        except RuntimeFailure as error:
            if failure_kind.of(error) is FailureKind.ENGINE:
                raise
            log.warning("using the cached image", image=reference.text, error=str(error))
        except (AgentError, TimeoutError) as error:
            told = str(error) or f"no login within {REFRESH_LIMIT_S:g} s"
            log.warning("using the cached image", image=reference.text, error=told)
        return have

    def _is_away(self, reference: Reference) -> bool:
        """Tell whether no source of an image answered the last time."""
        sources = self._puller.sources(reference)
        return all(self._registries.is_away(source.reference.registry) for source in sources)

    def _probe(self, image: Wanted) -> None:
        """Ask a registry that failed once more, in the background."""
        registry = image.reference.registry
        if self._registries.may_probe(registry, time.monotonic()):
            self._single_flight.launch(f"probe {registry}", lambda _: self._probed(image))

    async def _probed(self, image: Wanted) -> Obtained:
        try:
            await self._puller.ask(image, limit_s=PROBE_LIMIT_S)
        except AgentError as error:
            log.debug("registry is still down", registry=image.reference.registry, error=str(error))
        return Obtained()

    # -- the image must come from the registry -------------------------------------------------

    async def _obtain(self, image: Wanted, cached: ImageInfo | None, report: Report) -> Obtained:
        """Pull until it succeeds or fails permanently."""
        name = image.reference.text
        budget = Budget(self._limits.total_s)
        failed = 0
        while True:
            report(Progress(f"pulling {name}"))
            try:
                return await self._puller.fetch(image, cached, report, budget)
            except RuntimeFailure as error:
                failed += 1
                pause_s = await self._pause_after(error, failed, budget, report)
                log.info("pull failed; trying again", image=name, error=str(error))
                reason = _worded(_failure(error))
            line = f"waiting to pull {name} again"
            report(Progress(line, reason, time.monotonic() + pause_s))
            await asyncio.sleep(pause_s)

    async def _pause_after(
        self, error: RuntimeFailure, failed: int, budget: Budget, report: Report
    ) -> float:
        """Return the seconds until the next try; raises if there is none."""
        found = failure_kind.of(error)
        if found is FailureKind.ENGINE:
            raise error
        if found is FailureKind.NO_SPACE and failed < retries.TRIES:
            if await self._room.disk_full(report):
                return 0.0
            raise _failure(error) from error
        chance = random.random()  # noqa: S311 - spreads tries
        pause_s = retries.pause_s(found, failed, str(error), chance)
        if pause_s is None or budget.is_spent:
            raise _failure(error) from error
        return pause_s

    # -- what the host has ---------------------------------------------------------------------

    async def _find_local(self, reference: Reference) -> tuple[ImageInfo, str] | None:
        try:
            return await self._puller.find_local(reference)
        except EngineRefused as error:  # not a valid image name
            raise _failure(error) from error

    @property
    def figures(self) -> PullFigures:
        """What is known of all pulls so far."""
        return self._puller.figures

    def _note_use(self, image: ImageInfo) -> None:
        if self._uses is not None:
            self._uses.used([image.id], time.time())

    async def _got(self, image: Wanted, cached: ImageInfo | None, obtained: Obtained) -> Obtained:
        """Note what a registry gave or confirmed, and return it as the host has it."""
        reference, here = image.reference, cached
        if here is None or obtained.digest != self._puller.known_digest(reference, here):
            found = await self._find_local(reference)
            here = found[0] if found else None
        if here is None:
            return obtained
        self._note_got(image, here, obtained)
        return replace(obtained, variables=here.variables)

    def _note_got(self, image: Wanted, here: ImageInfo, obtained: Obtained) -> None:
        if self._uses is None:
            return
        reference = image.reference
        if obtained.digest or reference.digest:
            sources = self._puller.sources(reference)
            known_as = tuple(source.reference.identity for source in sources)
            self._uses.got(here.id, known_as, time.time())
        else:
            self._note_use(here)


def _failure(error: RuntimeFailure) -> PayloadError:
    """Return the failure of a pull as a reason for the container."""
    if isinstance(error, EngineTimeout):
        return PayloadError(str(error), name=reasons.ENGINE_TIMEOUT)
    text = reasons.pull_failed(str(error)).removeprefix(f"{reasons.CANNOT_PULL}: ")
    return PayloadError(text, name=reasons.CANNOT_PULL)


def _worded(failure: PayloadError) -> str:
    return reasons.named(failure.name, str(failure))
