"""The parts of an image name, read like the engine reads them: pure.

The first component is a registry when it has a dot or a colon or is ``localhost``; otherwise the
name belongs to Docker Hub.
"""

from __future__ import annotations

import re

from msgspec import Struct

DOCKER_HUB = "docker.io"
_TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")


class Reference(Struct, frozen=True):
    """An image name in parts."""

    text: str
    """The whole name as the engine is asked for it: with ``:latest`` if nothing else was given."""
    repository: str
    """The name without tag and digest, as it was written."""
    registry: str
    """Host, with its port, of the registry; ``docker.io`` for Docker Hub."""
    digest: str = ""
    """``sha256:...`` if the name is pinned to one."""

    @property
    def path(self) -> str:
        """Registry and repository, the form in which credentials are looked up."""
        if self.registry == DOCKER_HUB:
            bare = self.repository.removeprefix("index.docker.io/").removeprefix("docker.io/")
            return f"{DOCKER_HUB}/{bare}" if "/" in bare else f"{DOCKER_HUB}/library/{bare}"
        return self.repository

    def pinned(self, digest: str) -> str:
        """Return the name that pulls exactly this digest."""
        return f"{self.repository}@{digest}"

    def local_digest(self, repo_digests: tuple[str, ...]) -> str:
        """Return the digest under which an image of the host came from this repository, or ""."""
        for known in repo_digests:
            name, _, digest = known.partition("@")
            if digest and parse(name).path == self.path:
                return digest
        return ""


def parse(text: str) -> Reference:
    """Take an image name apart; whether it is valid is for the engine to say."""
    name, _, digest = text.partition("@")
    tag = _TAG.search(name)
    repository = name[: tag.start()] if tag else name
    first, slash, _ = repository.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    registry = first if is_host else DOCKER_HUB
    if registry == "index.docker.io":
        registry = DOCKER_HUB
    whole = text if digest or tag else f"{name}:latest"
    return Reference(text=whole, repository=repository, registry=registry, digest=digest)
