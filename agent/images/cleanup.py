"""Removes images: by age at intervals, and before a pull if the engine's disk is too full.

One image is removed at a time, and only pulls of that very image wait for it. An image that is refused is
passed over. No failure here ends a task or a pull: if no room can be made, the pull is tried all the same.

Touches the container engine, the store through ``ImageUses``, and reads the file system of the engine.

Tests: ``tests/unit/images/test_cleanup.py``, ``tests/integration/images/test_cleanup.py``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from agent.errors import RuntimeFailure
from agent.images import containers, removal_plan
from agent.images import reference as names
from agent.images.disk import Watermarks
from agent.images.progress import Progress
from agent.images.removal_plan import CleanupPolicy, Protected, Removal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.images.disk import EngineDisk
    from agent.images.locks import ImageLocks
    from agent.images.single_flight import Report
    from agent.images.uses import ImageUses
    from agent.runtime.protocol import ContainerEngine, ContainerSummary, ImageSummary

log = structlog.get_logger(__name__)

MEASURE_EVERY_S: Final = 30.0
ROOM_LIMIT_S: Final = 300.0
"""How long a pull waits until there is room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanupSettings:
    """When and what is removed. Times in seconds."""

    enabled: bool = True
    by_age: bool = True
    """False: only a disk that is too full is a reason."""
    interval_s: float = 1800.0
    policy: CleanupPolicy = field(default_factory=CleanupPolicy)
    excluded: tuple[str, ...] = ()
    """Names of images that are never removed."""
    excluded_repositories: frozenset[str] = frozenset()
    containers_most: int = 5
    """How many ended containers of others a cycle removes, if untracked images are removed."""
    containers_age_s: float = 10800.0
    watermarks: Watermarks = field(default_factory=Watermarks)


class ImageCleanup:
    """Removes images; one object per host. Belongs to one event loop.

    Args:
        engine: the container engine.
        uses: which images the agent got.
        locks: shared with ``Images``.
        disk: the engine's disk.
        settings: when and what is removed.
        wanted: returns the names of the images of all tasks on the host.
        is_ours: tells whether an agent of this project made a container.
    """

    def __init__(
        self,
        engine: ContainerEngine,
        *,
        uses: ImageUses,
        locks: ImageLocks,
        disk: EngineDisk,
        settings: CleanupSettings,
        wanted: Callable[[], Iterable[str]],
        is_ours: Callable[[ContainerSummary], bool],
    ) -> None:
        self._engine = engine
        self._uses = uses
        self._locks = locks
        self._disk = disk
        self._settings = settings
        self._wanted = wanted
        self._is_ours = is_ours
        self._excluded = frozenset(names.parse(name).identity for name in settings.excluded)
        self._one_by_one = asyncio.Lock()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Watch the disk and remove old images, for ever; never fails."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_disk(), name="disk of the engine")
            if self._settings.enabled and self._settings.by_age:
                group.create_task(self._at_intervals(), name="image clean-up")

    # -- room for a pull ------------------------------------------------------------------------

    async def before_pull(self, report: Report) -> None:
        """Make room if the last reading of the disk was above the high mark; never fails."""
        use, marks = self._disk.newest, self._settings.watermarks
        if not self._settings.enabled or use is None or use.used_percent <= marks.high:
            return
        report(Progress(f"removing unused images: {use.path} is {use.used_percent:.0f}% full"))
        await self._make_room()

    async def disk_full(self, report: Report) -> bool:
        """Make room because the engine said so; tell whether anything was removed. Never fails."""
        if not self._settings.enabled:
            return False
        report(Progress("removing unused images: the disk of the container engine is full"))
        return await self._make_room(at_least_one=True) > 0

    def pulled(self) -> None:
        """Have the disk measured again."""
        self._changed.set()

    async def _make_room(self, *, at_least_one: bool = False) -> int:
        """Remove unused images until the disk is below the low mark; return how many were removed."""
        removed = 0
        try:
            async with asyncio.timeout(ROOM_LIMIT_S), self._one_by_one:
                images, protected = await self._look(time.time())
                plan = removal_plan.least_recently_used(images, self._uses.by_id, protected)
                for removal in plan:
                    if await self._has_room() and (removed or not at_least_one):
                        break
                    removed += await self._remove(removal, "the disk is too full")
                if not await self._has_room():
                    log.warning(
                        "the disk of the container engine stays too full",
                        used=self._disk.newest and f"{self._disk.newest.used_percent:.0f}%",
                        removed=removed,
                        mend="free space there, or give it a larger disk",
                    )
        except (RuntimeFailure, TimeoutError) as error:
            log.warning("no room made for images", error=str(error) or "it took too long")
        return removed

    async def _has_room(self) -> bool:
        use = await self._disk.measure()
        return use is None or use.used_percent <= self._settings.watermarks.low

    # -- by age ---------------------------------------------------------------------------------

    async def cycle(self) -> int:
        """Remove what is old; return how many images were removed. Raises ``RuntimeFailure``."""
        now, policy = time.time(), self._settings.policy
        async with self._one_by_one:
            images, protected = await self._look(now)
            plan = removal_plan.by_age(images, self._uses.by_id, protected, policy, now)
            removed = 0
            for removal in plan:
                removed += await self._remove(removal, "it is old and unused")
        return removed

    async def remove_containers(self) -> int:
        """Remove ended containers of others; return how many. Raises ``RuntimeFailure``."""
        listed = await self._engine.list_containers(labels={})
        removed, now = 0, time.time()
        for row in containers.ended(listed, self._is_ours):
            if removed >= self._settings.containers_most:
                break
            try:
                seen = await self._engine.inspect_container(row.id)
                if not containers.is_old(seen, self._settings.containers_age_s, now):
                    continue
                # Without force: one that was started meanwhile is refused.
                await self._engine.remove_container(row.id)
            except RuntimeFailure as error:
                log.info("a container was not removed", container=row.name, error=str(error))
                continue
            removed += 1
            log.info("removed an ended container of another program", container=row.name)
        return removed

    async def _at_intervals(self) -> None:
        while True:
            await asyncio.sleep(self._settings.interval_s)
            try:
                if self._settings.policy.untracked:
                    await self.remove_containers()
                await self.cycle()
            except RuntimeFailure as error:
                log.warning("no images removed this time", error=str(error))

    async def _watch_disk(self) -> None:
        while True:
            self._changed.clear()
            await self._disk.measure()
            try:
                async with asyncio.timeout(MEASURE_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    # -- one image ------------------------------------------------------------------------------

    async def _look(self, now: float) -> tuple[list[ImageSummary], Protected]:
        """Return the images of the host and what must stay, and note which ones are used."""
        images = await self._engine.list_images()
        listed = await self._engine.list_containers(labels={})
        used = frozenset(row.image_id for row in listed)
        self._uses.keep_only(image.id for image in images)
        self._uses.used(used, now)
        return images, Protected(
            image_ids=used,
            names=self._kept_names(),
            repositories=self._settings.excluded_repositories,
        )

    def _kept_names(self) -> frozenset[str]:
        wanted = frozenset(names.parse(name).identity for name in self._wanted())
        return wanted | self._excluded | self._locks.being_got()

    async def _remove(self, removal: Removal, why: str) -> bool:
        """Remove one image with all its names; tell whether it is gone."""
        image = removal.image
        shown = next(iter((*image.tags, *image.repo_digests)), image.id)
        with self._locks.removing(removal.identities) as is_held:
            # Tasks may have come since the plan was made.
            if not is_held or removal.identities & self._kept_names():
                return False
            try:
                for name in (*image.tags, *image.repo_digests, image.id):
                    await self._engine.remove_image(name)
            except RuntimeFailure as error:
                log.info("an image was not removed", image=shown, error=str(error))
                return False
        log.info("removed an image", image=shown, why=why, size_mb=image.size_bytes // 1_000_000)
        return True
