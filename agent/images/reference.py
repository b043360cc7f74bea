"""The parts of an image name, parsed like the engine does. Pure.

The first component is a registry if it contains a dot or a colon or is ``localhost``; otherwise the
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
    """The full name to use with the engine; with ``:latest`` if it had neither tag nor digest."""
    repository: str
    """The name without tag and digest, as written."""
    registry: str
    """Host and port of the registry; ``docker.io`` for Docker Hub."""
    digest: str = ""
    """``sha256:...`` if the name contains a digest."""

    @property
    def path(self) -> str:
        """Registry and repository, the form used to look up credentials."""
        if self.registry == DOCKER_HUB:
            bare = self.repository.removeprefix("index.docker.io/").removeprefix("docker.io/")
            return f"{DOCKER_HUB}/{bare}" if "/" in bare else f"{DOCKER_HUB}/library/{bare}"
        return self.repository

    @property
    def suffix(self) -> str:
        """What follows the repository: ``:tag``, ``@digest``, or both."""
        return self.text[len(self.repository) :]

    @property
    def identity(self) -> str:
        """One spelling for all names of the same image: ``nginx`` is ``docker.io/library/nginx:latest``.

        The tag of a name with a digest does not count, as for the engine.
        """
        return f"{self.path}@{self.digest}" if self.digest else f"{self.path}{self.suffix}"

    def pinned(self, digest: str) -> str:
        """Return the name that pulls exactly this digest."""
        return f"{self.repository}@{digest}"

    def local_digest(self, repo_digests: tuple[str, ...]) -> str:
        """Return the digest under which a local image came from this repository, or ""."""
        for known in repo_digests:
            name, _, digest = known.partition("@")
            if digest and parse(name).path == self.path:
                return digest
        return ""


def parse(text: str) -> Reference:
    """Split an image name into its parts; the engine decides whether it is valid."""
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
