"""Packages that the VM tests install: the one of this commit, and one that is only newer."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

DIST = Path(__file__).parents[2] / "dist"
NEWER = "99.1"
"""Version of the package that upgrades the real one."""


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


def _dpkg_deb(*arguments: str | Path) -> None:
    subprocess.run(["dpkg-deb", *arguments], check=True, timeout=120, stdout=subprocess.DEVNULL)
