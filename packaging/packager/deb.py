"""Builds a ``.deb`` from a tree with ``dpkg-deb``: control data, maintainer scripts, checksums.

The same tree gives the same bytes: entries are sorted, owners are root, dates are the source's, and
the compressor uses one thread, because the output of xz depends on the number of threads.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import shutil
import subprocess
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from packager import PackagingError, wheels
from packager.tree import CONFIGURATION, DOCUMENTS, compressed, settle

if TYPE_CHECKING:
    from packager.tree import Tree

MAINTAINER = "ecs-host-agent maintainers <ecs-host-agent@users.noreply.github.com>"
_HERE = Path(__file__).parents[1] / "deb"
_SCRIPTS = ("postinst", "prerm", "postrm")
_LIMIT_S = 600

_CONTROL = """\
Package: ecs-agent
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size_kib}
Section: admin
Priority: optional
Depends: {depends}
Recommends: docker.io (>= 20.10) | docker-ce | moby-engine
Suggests: bash-completion
Conflicts: amazon-ecs-init
Description: Amazon ECS container agent for hosts that you run yourself
 Runs Amazon ECS tasks on a box under a shop counter, in a lab, a rack or a
 virtual machine: registers its CPU, memory, ports and GPUs, runs tasks through
 the Docker Engine, and reports states and metrics. Tasks in awsvpc mode get
 their own network namespace and address.
 .
 Includes a control endpoint with the ECS API, so that no AWS account is
 needed. The package contains its Python libraries, in /opt/ecs-agent, and
 uses the system's Python. The installation does not start any service.
"""


def write(tree: Tree, output: Path, work: Path, *, level: int = 6) -> Path:
    """Write ``ecs-agent_VERSION_ARCHITECTURE.deb``.

    Args:
        tree: the files to install; not changed.
        output: the directory for the package.
        work: a directory on the same file system as the tree, for a copy with hard links.
        level: compression level, 0 to 9.

    Raises:
        PackagingError: ``dpkg-deb`` is missing, too old, or fails.
    """
    root = work / f"deb-{tree.architecture}"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(tree.root, root, symlinks=True, copy_function=os.link)
    version, epoch_s = tree.source.version.package, tree.source.epoch_s
    changelog = root / DOCUMENTS / "changelog.gz"
    changelog.write_bytes(compressed(_changelog(version, epoch_s)))
    overrides = root / "usr/share/lintian/overrides/ecs-agent"
    overrides.parent.mkdir(parents=True)
    overrides.write_text((_HERE / "lintian-overrides").read_text())
    checksums, size_kib = _checksums(root), _size_kib(root)
    control = root / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        _CONTROL.format(
            version=version,
            architecture=tree.architecture,
            maintainer=MAINTAINER,
            size_kib=size_kib,
            depends=_depends(),
        )
    )
    (control / "conffiles").write_text(f"/{CONFIGURATION}\n")
    (control / "triggers").write_text("interest-noawait /usr/bin/python3\n")
    (control / "md5sums").write_text(checksums)
    users = _users(root / "usr/lib/sysusers.d/ecs-agent.conf")
    for name in _SCRIPTS:
        script = (_HERE / name).read_text()
        (control / name).write_text(script.replace("@USERS@", " ".join(users)))
    settle(root, epoch_s)
    for name in _SCRIPTS:
        (control / name).chmod(0o755)
    package = output / f"ecs-agent_{version}_{tree.architecture}.deb"
    _run_dpkg_deb(root, package, epoch_s, level)
    return package


def _depends() -> str:
    oldest, newest = wheels.PYTHONS[0], wheels.PYTHONS[-1]
    major, minor = newest.split(".")
    libc = ".".join(str(part) for part in wheels.GLIBC)
    return ", ".join(
        [
            f"python3 (>= {oldest})",
            f"python3 (<< {major}.{int(minor) + 1})",
            f"libc6 (>= {libc})",
            "ca-certificates",
            "iptables",
            "nftables",
            "systemd | systemd-standalone-sysusers | systemd-sysusers",
        ]
    )


def _changelog(version: str, epoch_s: int) -> str:
    moment = dt.datetime.fromtimestamp(epoch_s, tz=dt.UTC)
    return (
        f"ecs-agent ({version}) unstable; urgency=medium\n\n"
        f"  * See /{DOCUMENTS}/CHANGELOG.md.gz.\n\n"
        f" -- {MAINTAINER}  {format_datetime(moment)}\n"
    )


def _users(sysusers: Path) -> list[str]:
    """Return the users that a sysusers file creates, which a purge must delete."""
    return re.findall(r"(?m)^u!?\s+([a-z_][a-z0-9_-]*)\s", sysusers.read_text())


def _checksums(root: Path) -> str:
    lines = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not path.is_symlink() and name != CONFIGURATION:
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            lines.append(f"{digest}  {name}\n")
    return "".join(lines)


def _size_kib(root: Path) -> int:
    """Return the size as dpkg counts it: files rounded up to KiB, 1 KiB for everything else."""
    total = 0
    for path in root.rglob("*"):
        plain = path.is_file() and not path.is_symlink()
        total += -(-path.stat().st_size // 1024) if plain else 1
    return total


def _run_dpkg_deb(root: Path, package: Path, epoch_s: int, level: int) -> None:
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", f"-z{level}", "--threads-max=1", "--build"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch_s)}
    try:
        subprocess.run(
            [*command, str(root), str(package)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
        )
    except FileNotFoundError:
        raise PackagingError("dpkg-deb is missing; install the package dpkg") from None
    except subprocess.CalledProcessError as error:
        raise PackagingError(f"dpkg-deb failed: {error.stderr.strip()}") from None
