"""Which images may be removed, and in which order. Pure.

An image may be removed if no container on the host was made from it, no task wants it, it is not being
pulled, none of its names is excluded, and the agent got it from a registry under each of its tags: then it
can be got again. Images that the agent did not get are removed only if an operator asks for it.

Source: Amazon ECS agent 1.105.1, ``engine/docker_image_manager.go`` (ages, order, limits). There, an image
that was only loaded is removed, too, and one that a container outside of ECS uses is tried in vain.

Tests: ``tests/unit/images/test_removal_plan.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from agent.images import reference
from agent.runtime.protocol import ImageSummary

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.images.uses import ImageUse


class Protected(Struct, frozen=True, kw_only=True):
    """What must stay."""

    image_ids: frozenset[str] = frozenset()
    """Images of containers on the host, whoever made them."""
    names: frozenset[str] = frozenset()
    """``Reference.identity`` of what tasks want, what is being pulled, and what is excluded."""
    repositories: frozenset[str] = frozenset()
    """Repositories of which everything stays."""


class Removal(Struct, frozen=True, kw_only=True):
    """One image to remove."""

    image: ImageSummary
    identities: frozenset[str]
    """All of its names."""
    is_tracked: bool = True


class CleanupPolicy(Struct, frozen=True, kw_only=True):
    """Settings of a clean-up by age. Ages in seconds."""

    minimum_age_s: float = 3600.0
    """Since the pull."""
    most: int = 5
    """How many images one cycle removes."""
    untracked: bool = False
    """Remove images that the agent did not get, too."""
    untracked_minimum_age_s: float = 3600.0
    """Since the image was built."""


def by_age(
    images: Iterable[ImageSummary],
    uses: Mapping[str, ImageUse],
    protected: Protected,
    policy: CleanupPolicy,
    now: float,
) -> list[Removal]:
    """Return what one cycle removes: tracked images first, each group by least recent use."""
    images = list(images)
    old = [
        removal
        for removal in least_recently_used(images, uses, protected)
        if now - uses[removal.image.id].pulled_at > policy.minimum_age_s
    ]
    if policy.untracked:
        foreign = [_removal(image, is_tracked=False) for image in images if image.id not in uses]
        foreign.sort(key=lambda removal: removal.image.created_at)
        old += [
            removal
            for removal in foreign
            if now - removal.image.created_at > policy.untracked_minimum_age_s
            and _is_free(removal, protected)
        ]
    return old[: policy.most]


def least_recently_used(
    images: Iterable[ImageSummary], uses: Mapping[str, ImageUse], protected: Protected
) -> list[Removal]:
    """Return all images that the agent got and that may be removed, whatever their age."""
    found = [
        removal
        for removal in (_removal(image) for image in images if image.id in uses)
        if _is_free(removal, protected)
        and _tags(removal.image) <= set(uses[removal.image.id].names)
    ]
    return sorted(found, key=lambda removal: uses[removal.image.id].used_at)


def _removal(image: ImageSummary, *, is_tracked: bool = True) -> Removal:
    digests = (reference.parse(name).identity for name in image.repo_digests)
    return Removal(
        image=image, identities=frozenset(_tags(image).union(digests)), is_tracked=is_tracked
    )


def _tags(image: ImageSummary) -> set[str]:
    return {reference.parse(name).identity for name in image.tags}


def _is_free(removal: Removal, protected: Protected) -> bool:
    names = (*removal.image.tags, *removal.image.repo_digests)
    return (
        removal.image.id not in protected.image_ids
        and not removal.identities & protected.names
        and not {reference.parse(name).repository for name in names} & protected.repositories
    )
