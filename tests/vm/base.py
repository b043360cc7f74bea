"""The base disk of every test VM: a Debian 12 host, built by ``scripts/vm-base`` and kept.

``python -m tests.vm.base`` prints its path, building it when there is none yet. It is kept in
``$XDG_CACHE_HOME/ecs-host-agent/vm`` (or ``~/.cache/...``) under a hash of its recipe, so that a
changed recipe gives a new disk. The recipe asks for Debian 12 as it is that day: remove the file to
get a newer one.

Nothing ever writes to the disk itself: a VM has an overlay on it (``tests.vm.machine``), and an image
template copies it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "scripts/vm-base"
BUILD_LIMIT_S = 3600
FORMER_KEPT_S = 2 * 86400

_log = logging.getLogger("vm")


def path() -> Path:
    """Return where the disk of today's recipe is, or would be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    key = hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:16]
    return cache / "ecs-host-agent/vm" / f"base-{key}.qcow2"


def ensure() -> Path:
    """Return the path of the disk, built when it is missing.

    Concurrent callers wait for the one that builds. Disks that were built long ago are removed.

    Raises:
        subprocess.CalledProcessError: The build failed; it has said why on standard error.
    """
    disk = path()
    disk.parent.mkdir(parents=True, exist_ok=True)
    with (disk.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not disk.exists():
            _log.info("building the base disk of the test VM; this takes some minutes, once")
            _remove_former(disk.parent)
            subprocess.run([RECIPE, disk], check=True, timeout=BUILD_LIMIT_S)
    return disk


def _remove_former(folder: Path) -> None:
    """Remove what no test of another checkout can be about to use."""
    for former in folder.glob("base-*.qcow2"):
        if time.time() - former.stat().st_mtime > FORMER_KEPT_S:
            former.unlink()


def main() -> int:
    """Print the path."""
    logging.basicConfig(level=logging.INFO, format="==> %(message)s")
    try:
        print(ensure())  # noqa: T201 - what scripts read
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


if __name__ == "__main__":
    sys.exit(main())
