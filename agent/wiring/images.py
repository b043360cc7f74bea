"""What brings images onto the host, and what removes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.engine.labels import LABEL_OWNER, LABEL_TASK
from agent.images import Images, PullLimits
from agent.images.auth import Credentials
from agent.images.cleanup import CleanupSettings, ImageCleanup
from agent.images.disk import EngineDisk, Watermarks
from agent.images.locks import ImageLocks
from agent.images.logins import RegistryLogins
from agent.images.removal_plan import CleanupPolicy
from agent.images.uses import ImageUses
from agent.network.sandboxes.sandbox import SANDBOX_LABEL
from agent.runtime.pause.pause import REPOSITORY as PAUSE_REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.config import Settings
    from agent.fetching import TaskServices
    from agent.model.lookups import AskControl
    from agent.runtime.protocol import ContainerEngine, ContainerSummary, EngineInfo
    from agent.state import StateStore

CONTAINERD_ROOT: Final = "/var/lib/containerd"


@dataclass(frozen=True, slots=True)
class ImageParts:
    """What brings images onto the host, and what removes them."""

    images: Images
    cleanup: ImageCleanup


async def open_images(
    settings: Settings,
    runtime: ContainerEngine,
    info: EngineInfo,
    services: TaskServices,
    control: AskControl,
    store: StateStore,
    wanted: Callable[[], Iterable[str]],
) -> ImageParts:
    """Return what gets and removes images.

    Args:
        settings: the settings.
        runtime: the container engine.
        info: what it says of itself.
        services: keep the logins of AWS that orders name.
        control: keeps those that it has itself.
        store: keeps which images were got.
        wanted: returns the images of all tasks.

    Raises:
        StateFailure: what an earlier process noted cannot be read.
    """
    uses, locks = await ImageUses.open(store), ImageLocks()
    paths = [info.data_root, CONTAINERD_ROOT] if info.images_in_containerd else [info.data_root]
    cleanup = ImageCleanup(
        runtime,
        uses=uses,
        locks=locks,
        disk=EngineDisk([Path(path) for path in paths if path]),
        settings=_cleanup_settings(settings),
        wanted=wanted,
        is_ours=_is_ours,
    )
    images = Images(
        runtime,
        behavior=settings.image_pull_behavior,
        logins=RegistryLogins(
            Credentials(settings.engine_auth_type, settings.engine_auth_data), services, control
        ),
        limits=PullLimits(
            side_by_side=settings.image_pull_limit,
            inactivity_s=settings.image_pull_inactivity_timeout_s,
            total_s=settings.image_pull_timeout_s,
            manifest_s=settings.manifest_pull_timeout_s,
            mirrors=settings.registry_mirrors,
        ),
        uses=uses,
        locks=locks,
        room=cleanup,
    )
    return ImageParts(images, cleanup)


def _cleanup_settings(settings: Settings) -> CleanupSettings:
    return CleanupSettings(
        enabled=not settings.image_cleanup_disabled,
        # Who prefers cached images wants to keep them; as on Amazon ECS.
        by_age=settings.image_pull_behavior != "prefer-cached",
        interval_s=settings.image_cleanup_interval_s,
        policy=CleanupPolicy(
            minimum_age_s=settings.image_minimum_age_s,
            most=settings.images_removed_per_cycle,
            untracked=settings.untracked_cleanup,
            untracked_minimum_age_s=settings.untracked_minimum_age_s,
        ),
        excluded=settings.images_excluded,
        excluded_repositories=frozenset({PAUSE_REPOSITORY}),
        containers_most=settings.untracked_containers_per_cycle,
        containers_age_s=settings.task_cleanup_wait_s,
        watermarks=Watermarks(high=settings.image_disk_high, low=settings.image_disk_low),
    )


def _is_ours(container: ContainerSummary) -> bool:
    """Tell whether an agent, this one or another on the host, made a container."""
    return bool(container.labels.keys() & {LABEL_OWNER, LABEL_TASK, SANDBOX_LABEL})
