"""Where an image is asked for: the mirror of its registry, if the settings name one, then the registry.

Pure. A mirror has the repositories of its registry below a host and, if given, a path:
``docker.io/library/nginx:1`` is ``mirror.example/hub/library/nginx:1`` at the mirror
``mirror.example/hub``.

Tests: ``tests/unit/images/test_mirrors.py``.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from agent.images import reference as names
from agent.images.reference import Reference

Mirrors = Mapping[str, str]
"""Registry, as in image names, to host and path of its mirror."""


class Source(Struct, frozen=True):
    """One place to ask for an image."""

    reference: Reference
    """The image's name there."""
    is_mirror: bool = False


def sources(reference: Reference, mirrors: Mirrors) -> tuple[Source, ...]:
    """Return where an image is asked for, in this order."""
    own = Source(reference)
    mirror = mirrors.get(reference.registry)
    if not mirror:
        return (own,)
    path = reference.path.removeprefix(f"{reference.registry}/")
    there = names.parse(f"{mirror}/{path}{reference.suffix}")
    return Source(there, is_mirror=True), own
