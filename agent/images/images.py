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
- "Not found" and "denied" are final at once; only network and registry errors are retried. A login
  that cannot be fetched is final, too, unless a cached image is enough.
- If a cached image is enough (``default``), a launch never waits long for a registry: one request
  with a short deadline and no retry. If the registry fails, launches use their cached images at
  once, and a single background request, at growing intervals, checks whether it is back. "Not
  found" is remembered for a minute, so that images that exist only on the host cost one request per
  minute.

All callers that wait for the same reference with the same login share one pull, which continues
while one of them waits.

Tests: ``tests/unit/images/test_failure_kind.py``, ``tests/integration/images/test_pulls.py``,
``tests/unit/engine/test_engine_pulls.py``.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agent.errors import (
    AgentError,
    EngineRefused,
    EngineTimeout,
    NoSuchImage,
    PayloadError,
    RuntimeFailure,
)
from agent.images import failure_kind
from agent.images import reference as names
from agent.images.auth import Credentials
from agent.images.failure_kind import FailureKind
from agent.images.logins import RegistryLogins
from agent.images.progress import Progress
from agent.images.registries import Registries
from agent.images.single_flight import SingleFlight
from agent.model import reasons

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.images.logins import ExecutionRole, Login
    from agent.images.reference import Reference
    from agent.images.single_flight import Report
    from agent.model.payload import Container
    from agent.runtime.protocol import ContainerEngine, ImageInfo

log = structlog.get_logger(__name__)

TRIES = 5
FIRST_WAIT_S = 1.1
LONGEST_WAIT_S = 5.0
_JITTER = 0.2
REFRESH_LIMIT_S = 5.0
"""How long a launch with a cached image waits for a registry that has not failed."""
PROBE_LIMIT_S = 30.0

CACHED_WILL_DO = frozenset({"default", "prefer-cached"})


class _Wanted(NamedTuple):
    """An image, and the login to get it with."""

    reference: Reference
    login: Login

    @property
    def key(self) -> str:
        """What is shared by all who want the same with the same login."""
        return f"{self.reference.text} {self.login.key}".rstrip()


class Images:
    """Pulls by policy; one instance serves all tasks. Belongs to one event loop.

    Args:
        engine: the container engine.
        behavior: ``default``, ``always``, ``once`` or ``prefer-cached``.
        logins: user names and passwords; without any, everything is pulled anonymously.
        inactivity_s: longest time without progress during a pull.
        pull_limit_s: deadline for one pull.
        manifest_limit_s: deadline for a digest request.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        *,
        behavior: str = "default",
        logins: RegistryLogins | None = None,
        inactivity_s: float = 60.0,
        pull_limit_s: float = 7200.0,
        manifest_limit_s: float = 60.0,
    ) -> None:
        self._engine = engine
        self._behavior = behavior
        self._logins = logins or RegistryLogins(Credentials())
        self._inactivity_s = inactivity_s
        self._pull_limit_s = pull_limit_s
        self._manifest_limit_s = manifest_limit_s
        self._registries = Registries()
        self._single_flight: SingleFlight[str] = SingleFlight()

    async def ensure(
        self,
        container: Container,
        *,
        role: ExecutionRole | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> str:
        """Return once the image is on the host; may be repeated and run concurrently.

        Args:
            container: the container that needs the image.
            role: execution role of its task.
            on_progress: called with the progress once a registry is involved; never called if the
                cached image is used at once.

        Returns:
            The digest (``sha256:...``) of the image in its registry; empty if the name already
            contains a digest, or the image did not come from a registry.

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
        image = _Wanted(reference, self._logins.find(container, reference, role))
        return await self._single_flight.join(
            image.key, lambda report: self._ensure(image, report), on_progress
        )

    async def close(self) -> None:
        """End all pulls and registry requests; waiting callers get ``EngineUnavailable``."""
        await self._single_flight.close()
        await self._logins.close()

    async def _ensure(self, image: _Wanted, report: Report) -> str:
        reference = image.reference
        cached = await self._cached(reference)
        if cached is not None and self._is_settled(reference, cached):
            return self._known_digest(reference, cached)
        if cached is not None and self._behavior in CACHED_WILL_DO:
            return await self._refresh(image, cached, report)
        return await self._obtain(image, cached, report)

    def _is_settled(self, reference: Reference, cached: ImageInfo) -> bool:
        """Tell whether the cached image is used without asking a registry."""
        if self._behavior == "prefer-cached":
            return True
        if self._behavior == "once":
            return bool(reference.digest or reference.local_digest(cached.repo_digests))
        # The content of a digest never changes, so there is nothing to ask.
        return self._behavior == "default" and bool(reference.digest)

    # -- the cached image is good enough, but a newer one is preferred --------------------------

    async def _refresh(self, image: _Wanted, cached: ImageInfo, report: Report) -> str:
        now = time.monotonic()
        reference = image.reference
        have = self._known_digest(reference, cached)
        if self._registries.is_away(reference.registry):
            self._probe(image)
            return have
        if self._registries.is_lacking(image.key, now):
            return have
        report(Progress(f"asking {reference.registry} for {reference.text}"))
        try:
            async with asyncio.timeout(REFRESH_LIMIT_S):
                await image.login.auth()
            digest = await self._digest(image, limit_s=REFRESH_LIMIT_S)
            if digest == have and digest:
                return have
            await self._pull(image, digest, report)
        except RuntimeFailure as error:
            if failure_kind.of(error) is FailureKind.ENGINE:
                raise
            log.warning("using the cached image", image=reference.text, error=str(error))
            return have
        except (AgentError, TimeoutError) as error:
            told = str(error) or f"no login within {REFRESH_LIMIT_S:g} s"
            log.warning("using the cached image", image=reference.text, error=told)
            return have
        return digest or await self._pulled_digest(reference)

    def _probe(self, image: _Wanted) -> None:
        """Ask a registry that failed once more, in the background."""
        registry = image.reference.registry
        if self._registries.may_probe(registry, time.monotonic()):
            self._single_flight.launch(f"probe {registry}", lambda _: self._probed(image))

    async def _probed(self, image: _Wanted) -> str:
        try:
            await self._digest(image, limit_s=PROBE_LIMIT_S)
        except AgentError as error:
            log.debug("registry is still down", registry=image.reference.registry, error=str(error))
        return ""

    # -- the image must come from the registry -------------------------------------------------

    async def _obtain(self, image: _Wanted, cached: ImageInfo | None, report: Report) -> str:
        """Pull until it succeeds or fails permanently."""
        wait_s = FIRST_WAIT_S
        name = image.reference.text
        for left in reversed(range(TRIES)):
            report(Progress(f"pulling {name}"))
            try:
                return await self._attempt(image, cached, report)
            except RuntimeFailure as error:
                found = failure_kind.of(error)
                if found is FailureKind.ENGINE:
                    raise
                if found is not FailureKind.TROUBLE or not left:
                    raise _failure(error) from error
                log.info("pull failed; trying again", image=name, error=str(error))
                failed = _worded(_failure(error))
            pause_s = wait_s * random.uniform(1, 1 + _JITTER)  # noqa: S311 - spreads tries
            line = f"waiting to pull {name} again"
            report(Progress(line, failed, time.monotonic() + pause_s))
            await asyncio.sleep(pause_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        raise AssertionError("unreachable")  # pragma: no cover

    async def _attempt(self, image: _Wanted, cached: ImageInfo | None, report: Report) -> str:
        reference = image.reference
        try:
            digest = await self._digest(image, limit_s=self._manifest_limit_s)
        except RuntimeFailure as error:
            if failure_kind.of(error) in {FailureKind.ENGINE, FailureKind.TROUBLE}:
                raise
            # If the pull fails too, its error has the text that operators know.
            digest = ""
        if cached is not None and digest and digest == reference.local_digest(cached.repo_digests):
            return digest
        await self._pull(image, digest, report)
        return digest or await self._pulled_digest(reference)

    async def _digest(self, image: _Wanted, *, limit_s: float) -> str:
        """Ask the registry for a digest, and note whether the registry works."""
        reference = image.reference
        if reference.digest:
            return ""
        auth = await image.login.auth()
        try:
            digest = await self._engine.resolve_digest(reference.text, auth=auth, limit_s=limit_s)
        except RuntimeFailure as error:
            self._learn(image, error)
            raise
        self._registries.answered(reference.registry)
        self._registries.has(image.key)
        return digest

    async def _pull(self, image: _Wanted, digest: str, report: Report) -> None:
        """Pull, by digest if known, so that all tasks started together run the same image."""
        reference = image.reference
        wanted = reference.pinned(digest) if digest else reference.text
        auth = await image.login.auth()
        try:
            await self._engine.pull_image(
                wanted,
                auth=auth,
                inactivity_s=self._inactivity_s,
                limit_s=self._pull_limit_s,
                on_progress=lambda line: report(Progress(line)),
            )
        except RuntimeFailure as error:
            self._learn(image, error)
            raise
        self._registries.answered(reference.registry)
        self._registries.has(image.key)
        if digest:
            # Containers and people refer to the image by its tag.
            await self._engine.tag_image(wanted, reference.text)

    def _learn(self, image: _Wanted, error: RuntimeFailure) -> None:
        found = failure_kind.of(error)
        registry = image.reference.registry
        if found is FailureKind.TROUBLE:
            self._registries.failed(registry, time.monotonic())
        elif found in {FailureKind.ABSENT, FailureKind.FINAL}:
            self._registries.answered(registry)
            self._registries.lacks(image.key, time.monotonic())
            image.login.refused()

    # -- what the host has ---------------------------------------------------------------------

    async def _cached(self, reference: Reference) -> ImageInfo | None:
        try:
            return await self._engine.inspect_image(reference.text)
        except NoSuchImage:
            return None
        except EngineRefused as error:  # not a valid image name
            raise _failure(error) from error

    async def _pulled_digest(self, reference: Reference) -> str:
        pulled = await self._cached(reference)
        return self._known_digest(reference, pulled) if pulled else ""

    def _known_digest(self, reference: Reference, image: ImageInfo) -> str:
        return "" if reference.digest else reference.local_digest(image.repo_digests)


def _failure(error: RuntimeFailure) -> PayloadError:
    """Return the failure of a pull as a reason for the container."""
    if isinstance(error, EngineTimeout):
        return PayloadError(str(error), name=reasons.ENGINE_TIMEOUT)
    text = reasons.pull_failed(str(error)).removeprefix(f"{reasons.CANNOT_PULL}: ")
    return PayloadError(text, name=reasons.CANNOT_PULL)


def _worded(failure: PayloadError) -> str:
    return reasons.named(failure.name, str(failure))
