"""Writes what an ``.rpm`` is made of: the tree as a tarball and the spec that consumes it.

With ``rpmbuild`` at hand it also makes the package. ``rpmbuild`` compiles nothing and runs nothing
of the tree, so any machine can make the packages of both architectures.
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


def write_sources(tree: Tree, output: Path) -> Path:
    """Write ``ecs-agent-VERSION.MACHINE.tar.gz`` and ``ecs-agent.spec``; return the tarball."""
    name = f"ecs-agent-{tree.source.version.package}"
    tarball = output / f"{name}.{MACHINES[tree.architecture]}.tar.gz"
    # The name and the date that gzip would put into the head stay out.
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
    (output / "ecs-agent.spec").write_text(spec)
    return tarball


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    info.mtime = int(info.mtime)
    return info


def build(tree: Tree, tarball: Path, output: Path, work: Path) -> Path | None:
    """Make the ``.rpm`` with ``rpmbuild``; return None where there is none.

    Raises:
        PackagingError: ``rpmbuild`` fails.
    """
    if shutil.which("rpmbuild") is None:
        return None
    machine = MACHINES[tree.architecture]
    top = work / f"rpm-{machine}"
    shutil.rmtree(top, ignore_errors=True)
    (top / "SOURCES").mkdir(parents=True)
    shutil.copyfile(tarball, top / "SOURCES" / tarball.name)
    command = ["rpmbuild", "-bb", "--quiet", "--target", f"{machine}-linux"]
    command += ["--define", f"_topdir {top}", str(output / "ecs-agent.spec")]
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
