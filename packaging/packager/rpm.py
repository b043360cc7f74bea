"""Writes the sources of an ``.rpm``: the tree as a tarball, and the spec that uses it.

If ``rpmbuild`` is installed, it also builds the package. ``rpmbuild`` neither compiles nor runs
anything in the tree, so any machine can build the packages for both architectures.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from packager import PackagingError, wheels

if TYPE_CHECKING:
    from packager.tree import Tree

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SPEC = Path(__file__).parents[1] / "rpm" / "ecs-agent.spec"
_LIMIT_S = 600


def write_sources(tree: Tree, output: Path) -> list[Path]:
    """Write ``ecs-agent-VERSION.MACHINE.tar.gz`` and ``ecs-agent.spec``; return them."""
    name, tarball = _name(tree), _tarball(tree, output)
    # Without the file name and date that gzip would put into the header.
    with (
        tarball.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in tree.entries():
            place = f"{name}/{path.relative_to(tree.root).as_posix()}"
            archive.add(path, place, recursive=False, filter=_as_root)
    spec = _SPEC.read_text().replace("@VERSION@", tree.source.version.package)
    spec = spec.replace("@PYTHONS@", " ".join(reversed(wheels.PYTHONS)))
    (output / _SPEC.name).write_text(spec)
    return [tarball, output / _SPEC.name]


def _name(tree: Tree) -> str:
    return f"ecs-agent-{tree.source.version.package}"


def _tarball(tree: Tree, folder: Path) -> Path:
    return folder / f"{_name(tree)}.{MACHINES[tree.architecture]}.tar.gz"


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = int(info.mtime)
    return info


def can_build() -> bool:
    """Return whether this machine has ``rpmbuild``."""
    return shutil.which("rpmbuild") is not None


def build(tree: Tree, output: Path, work: Path) -> Path:
    """Build the ``.rpm`` from the files that ``write_sources`` wrote into ``output``.

    Raises:
        PackagingError: ``rpmbuild`` is missing or fails.
    """
    if not can_build():
        raise PackagingError("rpmbuild is missing; install it (Debian: apt install rpm)")
    machine = MACHINES[tree.architecture]
    top = work / f"rpm-{machine}"
    shutil.rmtree(top, ignore_errors=True)
    (top / "SOURCES").mkdir(parents=True)
    shutil.copyfile(_tarball(tree, output), _tarball(tree, top / "SOURCES"))
    command = ["rpmbuild", "-bb", "--quiet", "--target", f"{machine}-linux"]
    command += ["--define", f"_topdir {top}", str(output / _SPEC.name)]
    answer = subprocess.run(
        command,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(tree.source.epoch_s)},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    made = list((top / "RPMS").rglob("*.rpm"))
    if answer.returncode != 0 or len(made) != 1:
        raise PackagingError(f"rpmbuild failed: {answer.stderr.strip()}")
    package = output / made[0].name
    shutil.copyfile(made[0], package)
    return package
