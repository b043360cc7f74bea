"""Builds the pause image in memory and ensures that the engine has it.

The image depends only on the shipped program: the same agent version gives the same bytes, id and
name on every host. A new program gets a new name, so that sandboxes of an older agent keep their
image.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import io
import json
import tarfile
from importlib import resources
from typing import TYPE_CHECKING

from agent.errors import ConfigError, EngineRefused, NoSuchImage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.runtime.protocol import ContainerEngine

REPOSITORY = "ecs-host-agent/pause"

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_CREATED = "2024-01-01T00:00:00Z"


def image_archive(architecture: str) -> bytes:
    """Return the image as a ``docker save`` archive.

    Args:
        architecture: Docker's name (``amd64``, ``arm64``) or the kernel's (``x86_64``,
            ``aarch64``).

    Raises:
        ConfigError: there is no program for this architecture.
    """
    return _image(_name(architecture))[1]


def pause_reference(architecture: str) -> str:
    """Return the name of the image; raises like ``image_archive``."""
    return _image(_name(architecture))[0]


async def ensure_pause_image(engine: ContainerEngine, architecture: str) -> str:
    """Load the image unless the engine has it; return its name.

    May be repeated and run concurrently. Raises like ``image_archive``, or ``RuntimeFailure``.
    """
    reference, archive = await asyncio.to_thread(_image, _name(architecture))
    try:
        await engine.inspect_image(reference)
    except NoSuchImage:
        await engine.load_image(archive)
        try:
            await engine.inspect_image(reference)
        except NoSuchImage:
            text = f"the engine loaded the pause image but does not list it as {reference}"
            raise EngineRefused(text, operation="loaded") from None
    return reference


def _name(architecture: str) -> str:
    try:
        return _ARCHITECTURES[architecture.lower()]
    except KeyError:
        known = ", ".join(sorted(set(_ARCHITECTURES.values())))
        raise ConfigError(
            f"no pause program for architecture {architecture!r}: awsvpc tasks run on {known}"
        ) from None


@functools.cache
def _image(architecture: str) -> tuple[str, bytes]:
    """Return name and archive, a few KiB, read from the package once."""
    program = (resources.files(__package__) / f"pause-{architecture}").read_bytes()
    layer = _tar({"pause": program}, mode=0o755)
    diff_id = hashlib.sha256(layer).hexdigest()
    config = _json(
        {
            "architecture": architecture,
            "created": _CREATED,
            "os": "linux",
            "config": {
                "Entrypoint": ["/pause"],
                "Labels": {"org.opencontainers.image.title": "ecs-host-agent pause"},
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created": _CREATED, "comment": "ecs-host-agent"}],
        }
    )
    image_id = hashlib.sha256(config).hexdigest()
    reference = f"{REPOSITORY}:{architecture}-{image_id[:12]}"
    manifest = [
        {"Config": f"{image_id}.json", "RepoTags": [reference], "Layers": [f"{diff_id}/layer.tar"]}
    ]
    archive = _tar(
        {
            f"{image_id}.json": config,
            f"{diff_id}/layer.tar": layer,
            "manifest.json": _json(manifest),
        },
        mode=0o644,
    )
    return reference, archive


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _tar(files: Mapping[str, bytes], *, mode: int) -> bytes:
    """Return an archive whose bytes depend only on its contents; owner is root, time is zero."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
