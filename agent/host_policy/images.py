"""Which images may run, by registry, repository and digest. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.config.host_policy import ANY
from agent.host_policy.findings import Refusal, Refusals, shown
from agent.images import reference as names

if TYPE_CHECKING:
    from agent.config.host_policy import HostPolicy

_ID: Final = re.compile(r"(?:sha256:)?[0-9a-f]+")
"""What the engine may take for the id of an image, or for its beginning."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def refusals(policy: HostPolicy, name: str, image: str) -> Refusals:
    """Yield what is refused of the image of a container, as it was ordered."""
    told = f"has the image {shown(image)}"
    reference = names.parse(image)
    is_named = not _ID.fullmatch(image) and any(
        _matches(each, reference.path) for each in policy.images
    )
    if ANY not in policy.images and not is_named:
        yield Refusal("images", told, name)
    is_pinned = bool(_DIGEST.fullmatch(reference.digest))
    if ANY not in policy.image_digests and reference.digest not in policy.image_digests:
        yield Refusal("image_digests", told, name)
    elif policy.pinned_images and not is_pinned:
        yield Refusal("pinned_images", f"{told}, which has no digest", name)


def _matches(pattern: str, path: str) -> bool:
    """Return whether a pattern of the policy means a repository, both in their longest form."""
    if pattern.endswith("/*"):
        return path.startswith(_folder(pattern[:-2]) + "/")
    return names.parse(pattern).path == path


def _folder(text: str) -> str:
    """Return a registry, or a part of one, in its longest form: ``team`` is ``docker.io/team``."""
    first, _, rest = text.partition("/")
    if "." in first or ":" in first or first == "localhost":
        host = names.DOCKER_HUB if first == "index.docker.io" else first
        return f"{host}/{rest}" if rest else host
    return f"{names.DOCKER_HUB}/{text}"
