"""Packages that the VM tests install: the one of this commit, and one that is only newer."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

DIST = Path(__file__).parents[2] / "dist"
NEWER = "99.1"
"""Version of the package that upgrades the real one."""
PYTHON = (3, 11)
"""The Python of the VM, Debian 12's."""


def built() -> Path:
    """Return the package of this commit for amd64: ``$ECS_AGENT_DEB``, or the newest in ``dist``.

    Raises:
        FileNotFoundError: There is none.
    """
    if named := os.environ.get("ECS_AGENT_DEB"):
        return Path(named)
    found = sorted(DIST.glob("ecs-agent_*_amd64.deb"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no package in {DIST}; run `make package`, or `make test-vm`")
    return found[-1]


def newer(package: Path, folder: Path) -> Path:
    """Return the same package with version ``NEWER``, also in what the agent says of itself."""
    tree = folder / "newer"
    _dpkg_deb("--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", f"Version: {NEWER}", control.read_text()))
    (source,) = tree.glob("opt/ecs-agent/**/agent/__init__.py")
    text, changed = re.subn(
        r"(?m)^__version__ = .*$", f'__version__ = "{NEWER}"', source.read_text()
    )
    assert changed == 1, source
    source.write_text(text)
    upgraded = folder / f"ecs-agent_{NEWER}_amd64.deb"
    _dpkg_deb("-Zgzip", "-z1", "--root-owner-group", "--build", tree, upgraded)
    return upgraded


def compiled(package: Path, folder: Path) -> Path | None:
    """Return an archive of what ``byte-compile`` makes on a host with the package; members below ``/``.

    None where this machine's Python is not that of the VM: then the VM has to compile.
    """
    if sys.version_info[:2] != PYTHON:
        return None
    tree = folder / "compiled"
    _dpkg_deb("--raw-extract", package, tree)
    library = tree / "opt/ecs-agent/lib"
    script = (tree / "opt/ecs-agent/bin/byte-compile").read_text()
    moved = script.replace("home=/opt/ecs-agent\n", f"home={tree}/opt/ecs-agent\n")
    moved = moved.replace("-m compileall -q", f"-m compileall -q -s {tree} -p /")
    assert (moved.count(f" -s {tree} "), moved.count(f"={tree}/")) == (1, 1), script
    python = tree / "opt/ecs-agent/bin/python3"
    python.unlink()
    python.symlink_to(sys.executable)
    subprocess.run(["sh", "-c", moved], check=True, timeout=300)
    archive = folder / "compiled.tar"
    with tarfile.open(archive, "w") as made:
        for cache in sorted(library.rglob("__pycache__")):
            made.add(cache, cache.relative_to(tree).as_posix())
    return archive


def _dpkg_deb(*arguments: str | Path) -> None:
    subprocess.run(["dpkg-deb", *arguments], check=True, timeout=120, stdout=subprocess.DEVNULL)
