"""The settings of images: pulls, mirrors and clean-up.

Pure data, the second part of the table of ``Settings``.
"""

# ruff: noqa: RUF009 - setting returns a dataclass field, created once per class like any other
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.config import image_names, values
from agent.config.joining import Joining
from agent.config.variable import Bounds, setting


@dataclass(frozen=True, slots=True, kw_only=True, init=False, repr=False, eq=False)
class ImageSettings(Joining):
    """What concerns images; see ``Settings``, which includes all of these."""

    # Images
    image_pull_behavior: Literal["default", "always", "once", "prefer-cached"] = setting(
        "ECS_IMAGE_PULL_BEHAVIOR",
        values.choice("default", "always", "once", "prefer-cached"),
        "default",
        "When images are pulled: `default` pulls and falls back to the local copy, `always` pulls, "
        "`once` pulls images that this agent has not pulled yet, `prefer-cached` pulls missing "
        "images.",
    )
    image_pull_inactivity_timeout_s: float = setting(
        "ECS_IMAGE_PULL_INACTIVITY_TIMEOUT",
        values.DURATION,
        "1m",
        "A pull without progress for this long fails.",
        bounds=Bounds(low=60),
    )
    image_pull_timeout_s: float = setting(
        "ECS_IMAGE_PULL_TIMEOUT",
        values.DURATION,
        "2h",
        "Deadline of a whole pull.",
        bounds=Bounds(low=1, outside="default"),
    )
    manifest_pull_timeout_s: float = setting(
        "ECS_MANIFEST_PULL_TIMEOUT",
        values.DURATION,
        "1m",
        "Deadline of looking up an image's digest.",
        bounds=Bounds(low=30),
    )
    pull_dependent_upfront: bool = setting(
        "ECS_PULL_DEPENDENT_CONTAINERS_UPFRONT",
        values.BOOL,
        "false",
        "Pull the images of containers whose `dependsOn` is not met yet.",
    )
    image_pull_limit: int = setting(
        "ECS_IMAGE_PULL_LIMIT",
        values.INT,
        "8",
        "How many images are pulled side by side; the others wait, first come, first served.",
        bounds=Bounds(1, 64, "refuse"),
        ours=True,
    )
    registry_mirrors: dict[str, str] = setting(
        "ECS_REGISTRY_MIRRORS",
        image_names.MIRRORS,
        "{}",
        "Mirrors of registries, which are asked first: registry, as in image names, to host and path "
        "of its mirror. Docker Hub is `docker.io`.",
        ours=True,
    )

    # Clean-up of images
    image_cleanup_disabled: bool = setting(
        "ECS_DISABLE_IMAGE_CLEANUP",
        values.BOOL,
        "false",
        "Never remove images, not even if the disk is full.",
    )
    image_cleanup_interval_s: float = setting(
        "ECS_IMAGE_CLEANUP_INTERVAL",
        values.DURATION,
        "30m",
        "Time between two clean-ups by age.",
        bounds=Bounds(low=600, outside="default"),
    )
    image_minimum_age_s: float = setting(
        "ECS_IMAGE_MINIMUM_CLEANUP_AGE",
        values.DURATION,
        "1h",
        "An unused image is removed by age only if its pull is longer ago.",
    )
    images_removed_per_cycle: int = setting(
        "ECS_NUM_IMAGES_DELETE_PER_CYCLE",
        values.INT,
        "5",
        "How many images a clean-up by age removes at most, the least recently used first.",
        bounds=Bounds(low=1, outside="default"),
    )
    images_excluded: tuple[str, ...] = setting(
        "ECS_EXCLUDE_UNTRACKED_IMAGE",
        image_names.NAMES,
        "",
        "Images that are never removed, whoever pulled them: names with their tags.",
        empty=tuple,
    )
    untracked_cleanup: bool = setting(
        "ECS_ENABLE_UNTRACKED_IMAGE_CLEANUP",
        values.BOOL,
        "false",
        "Also remove unused images that the agent did not pull, and ended containers of other "
        "programs, which are kept as long as those of tasks.",
    )
    untracked_minimum_age_s: float = setting(
        "NON_ECS_IMAGE_MINIMUM_CLEANUP_AGE",
        values.DURATION,
        "1h",
        "An image that the agent did not pull is removed only if it was built longer ago.",
    )
    untracked_containers_per_cycle: int = setting(
        "NONECS_NUM_CONTAINERS_DELETE_PER_CYCLE",
        values.INT,
        "5",
        "How many ended containers of other programs a clean-up removes at most.",
        bounds=Bounds(low=1, outside="default"),
    )
    image_disk_high: int = setting(
        "ECS_IMAGE_DISK_HIGH",
        values.INT,
        "85",
        "If more percent of the engine's disk are used, unused images are removed before the next "
        "pull, whatever their age; 100 removes none.",
        bounds=Bounds(1, 100, "refuse"),
        ours=True,
    )
    image_disk_low: int = setting(
        "ECS_IMAGE_DISK_LOW",
        values.INT,
        "80",
        "Then images are removed until no more percent than this are used.",
        bounds=Bounds(0, 99, "refuse"),
        ours=True,
    )
