"""The tree of files that every package installs, relative to ``/``.

Writes only below the given directory. The mode of a file follows from its path; its date is the
source's. The same source gives the same bytes.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packager import PackagingError, completion, legal, man, wheels

if TYPE_CHECKING:
    from packager.source import Source

HOME = "opt/ecs-agent"
LIBRARIES = f"{HOME}/lib"
DOCUMENTS = "usr/share/doc/ecs-agent"
CONFIGURATION = "etc/ecs/ecs.config"
_FILES = Path(__file__).parents[1] / "files"
_UNITS = {
    "ecs-agent.service": "usr/lib/systemd/system/ecs-agent.service",
    "ecs-agent-control.service": "usr/lib/systemd/system/ecs-agent-control.service",
    "ecs-agent.sysusers.conf": "usr/lib/sysusers.d/ecs-agent.conf",
    "ecs-agent.tmpfiles.conf": "usr/lib/tmpfiles.d/ecs-agent.conf",
}
_PAPERS = (
    "README.md",
    "CHANGELOG.md",
    "docs/configuration.md",
    "docs/install.md",
    "docs/monitoring.md",
    "docs/packaging.md",
    "docs/troubleshooting.md",
)
_EXECUTABLE = re.compile(r"usr/bin/.+|opt/ecs-agent/bin/.+|.+/agent/runtime/pause/pause-[a-z0-9]+")
_SECRET = re.compile(r"etc/ecs/.*")
_SERVICES = "application-autoscaling|cloudtrail|cloudwatch|ec2|ecr|ecs|elbv2|events|iam|logs|s3|scheduler|secretsmanager|servicediscovery|signin|ssm|sso|sso-oidc|sts"
LEFT_OUT = tuple(
    re.compile(pattern)
    for pattern in (
        # Files only for compilers, type checkers and the libraries' own developers.
        r"\.(?:pyc|pyi|pyx|pxd|pxi|c|h|hash)$",
        r"/py\.typed$",
        r"/tests?/|/_testcapi\.|^example\.py$",
        # Which tool installed a wheel, for which Python: wrong in a tree for several versions.
        r"\.dist-info/(?:RECORD|WHEEL|INSTALLER|REQUESTED|sboms/.*|zip-safe)$",
        # botocore has models of 400 services; the agent uses only these.
        rf"^botocore/data/(?!(?:{_SERVICES})/)[^/]+/",
        r"^botocore/data/.+/(?:examples-1\.json|paginators-1\.sdk-extras\.json)",
    )
)


@dataclass(frozen=True, slots=True)
class Tree:
    """A finished tree."""

    root: Path
    source: Source
    architecture: str
    """``amd64`` or ``arm64``."""
    left_out_bytes: int

    def entries(self) -> list[Path]:
        """Return everything in the tree, directories first, in a fixed order, without the root."""
        return sorted(self.root.rglob("*"), key=lambda path: path.relative_to(self.root).parts)

    def size_bytes(self) -> int:
        """Return the total size of the files."""
        return sum(p.stat().st_size for p in self.entries() if p.is_file() and not p.is_symlink())


def build(source: Source, stage: Path, root: Path, *, architecture: str, cache: Path) -> Tree:
    """Write the tree.

    Args:
        source: the source to package.
        stage: its files, as written by ``Source.stage``.
        root: directory for the tree; emptied first.
        architecture: ``amd64`` or ``arm64``.
        cache: directory for wheels.

    Raises:
        PackagingError: a library is not available, or a required file is missing.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    libraries = wheels.fetch(stage / "requirements.lock", architecture=architecture, cache=cache)
    left_out = wheels.unpack(libraries, root / LIBRARIES, leave_out=LEFT_OUT)
    _keep_newest_models(root / LIBRARIES / "botocore" / "data")
    _copy_agent(stage, root, architecture)
    _copy_service(stage, root)
    _write_documents(source, stage, root)
    settle(root, source.epoch_s)
    return Tree(root, source, architecture, left_out)


def settle(root: Path, epoch_s: int) -> None:
    """Set the mode and date of everything below a directory, whatever the builder's umask."""
    for path in [root, *root.rglob("*")]:
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)
            continue
        mode = 0o755 if path.is_dir() or _EXECUTABLE.fullmatch(name) else 0o644
        if _SECRET.fullmatch(name):
            mode = 0o640
        path.chmod(mode)
    # From the leaves to the root, because changing an entry changes the date of its directory.
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)
    os.utime(root, (epoch_s, epoch_s))


def _keep_newest_models(data: Path) -> None:
    """Delete old API versions; botocore uses the newest by default."""
    for service in data.iterdir():
        if service.is_dir():
            for version in sorted(service.iterdir())[:-1]:
                shutil.rmtree(version)


def _copy_agent(stage: Path, root: Path, architecture: str) -> None:
    other_pauses = {f"pause-{a}" for a in ("amd64", "arm64") if a != architecture}
    shutil.copytree(
        stage / "agent",
        root / LIBRARIES / "agent",
        ignore=lambda _folder, names: {n for n in names if n in other_pauses or n.endswith(".c")},
    )
    _put(root / "usr/bin/ecs-agent", (_FILES / "ecs-agent").read_text())
    _put(root / HOME / "bin/byte-compile", (_FILES / "byte-compile").read_text())
    _put(root / HOME / "LICENSE", (stage / "LICENSE").read_text())
    python = root / HOME / "bin/python3"
    python.symlink_to("/usr/bin/python3")


def _copy_service(stage: Path, root: Path) -> None:
    for name, place in _UNITS.items():
        unit = stage / "systemd" / name
        if not unit.exists():
            raise PackagingError(f"systemd/{name} is missing; the package needs it")
        _put(root / place, unit.read_text())
    rest = sorted(p for p in (stage / "systemd").iterdir() if p.name not in _UNITS)
    for example in rest:
        if example.is_file():
            _put(root / DOCUMENTS / "examples" / example.name, example.read_text())
    for example in sorted((_FILES / "monitoring").iterdir()):
        _put(root / DOCUMENTS / "examples/monitoring" / example.name, example.read_text())
    _put(root / CONFIGURATION, (_FILES / "ecs.config").read_text())


def _write_documents(source: Source, stage: Path, root: Path) -> None:
    for page in man.pages(source.version.package, source.epoch_s):
        _put_compressed(root / "usr/share/man" / f"{page.file_name}.gz", page.text())
    for shell, place in completion.PLACES.items():
        _put(root / place, completion.script(shell))
    for paper in _PAPERS:
        if (stage / paper).exists():
            name = Path(paper).name
            _put_compressed(root / DOCUMENTS / f"{name}.gz", (stage / paper).read_text())
    _put(root / DOCUMENTS / "copyright", legal.copyright_file(root / LIBRARIES))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _put_compressed(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(compressed(text))


def compressed(text: str) -> bytes:
    """Return a text compressed like ``gzip -9n``, without name and date."""
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)
