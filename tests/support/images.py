"""Images for tests, created locally: no registry is needed, and each image is created only once.

The parameter ``client`` is a ``docker.APIClient``, whose stubs have no types for images. All
content comes from the host's ``/bin/busybox`` (Debian package ``busybox-static``).
"""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

BUSYBOX = Path("/bin/busybox")
PREFIX = "ecs-host-agent-test"
_PATH = "PATH=/bin:/sbin:/usr/bin:/usr/sbin"


def busybox(client: Any) -> str:
    """Return the reference of an image with busybox, all its applets and ``/www/index.html``.

    The default command is ``sh``. As PID 1, busybox' ``sleep`` ignores SIGTERM like any program
    without a handler; for a container that should stop at once, use ``LINGER``.
    """
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True)
    links = {f"bin/{name}": "busybox" for name in applets.stdout.split() if name != "busybox"}
    files = {
        "bin/busybox": BUSYBOX.read_bytes(),
        "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
        "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
        "www/index.html": b"hello from busybox\n",
    }
    return build(client, "busybox", files, links, config={"Cmd": ["sh"]})


LINGER = ["sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"]
"""Command of a container that does nothing, and exits with 0 as soon as it is told to stop."""


def build(
    client: Any,
    name: str,
    files: Mapping[str, bytes],
    links: Mapping[str, str],
    *,
    config: Mapping[str, Any],
) -> str:
    """Load an image with one layer, unless the host already has it; return its reference."""
    layer = _layer(files, links)
    diff_id = hashlib.sha256(layer).hexdigest()
    body = json.dumps(
        {
            "architecture": _architecture(client),
            "os": "linux",
            "config": {"Env": [_PATH], **config},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        },
        sort_keys=True,
    ).encode()
    digest = hashlib.sha256(body).hexdigest()
    reference = f"{PREFIX}/{name}:{digest[:12]}"
    try:
        client.inspect_image(reference)
    except ImageNotFound:
        manifest = [{"Config": f"{digest}.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
        archive = _tar(
            {
                f"{digest}.json": body,
                "layer.tar": layer,
                "manifest.json": json.dumps(manifest).encode(),
            }
        )
        for message in client.load_image(archive):
            assert "error" not in message, message
    return reference


def _architecture(client: Any) -> str:
    return str(client.version()["Arch"])


def _layer(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        folders = {Path(path).parts[0] for path in (*files, *links)} | {"tmp", "root", "var"}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for path, content in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            entry.mode = 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(entry, io.BytesIO(content))
        for path, target in sorted(links.items()):
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return buffer.getvalue()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
