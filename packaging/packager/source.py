"""What is packaged: the files of a checkout, its version, and the date of all files.

Reads the checkout with ``git``; writes only into the given directory. A tree without git (an
unpacked source distribution) can be packaged too, with its plain version.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packager import PackagingError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INITIAL = "agent/__init__.py"
_PROJECT = "pyproject.toml"
_RELEASE = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_NOT_SOURCE = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
_NOT_PACKAGED = frozenset({".git", ".venv", "build", "dist"})


@dataclass(frozen=True, slots=True)
class Version:
    """One version, in the form of each kind of package.

    A commit that is not a release sorts before its next release, and after every earlier commit:
    ``0.2.0~git20260102030405.abc1234``.
    """

    release: str
    """The version in pyproject.toml, for example ``0.2.0``."""
    moment: str = ""
    """Time of the commit, ``YYYYMMDDhhmmss`` in UTC; empty for a release."""
    commit: str = ""
    """Short hash, followed by ``.dirty`` if files differ from the commit."""

    @property
    def package(self) -> str:
        """The version of ``.deb`` and ``.rpm``."""
        return f"{self.release}~git{self.moment}.{self.commit}" if self.moment else self.release

    @property
    def python(self) -> str:
        """The version of the wheel and of the agent itself (PEP 440)."""
        return f"{self.release}.dev{self.moment}+g{self.commit}" if self.moment else self.release


@dataclass(frozen=True, slots=True)
class Source:
    """A checkout to package."""

    root: Path
    version: Version
    epoch_s: int
    """Date of every file in the package: the date of the commit."""

    def stage(self, into: Path) -> None:
        """Copy the source files and write the version into them.

        ``into`` is emptied first.
        """
        shutil.rmtree(into, ignore_errors=True)
        for path in _files(self.root):
            target = into / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, target)
            target.chmod(0o755 if os.access(self.root / path, os.X_OK) else 0o644)
        _replace(
            into / _INITIAL,
            r'(?m)^__version__ = "[^"]+"$',
            f'__version__ = "{self.version.python}"',
        )
        _replace(into / _PROJECT, r'(?m)^version = "[^"]+"$', f'version = "{self.version.python}"')


def find(root: Path, *, release: str = "") -> Source:
    """Return the source in a checkout.

    Args:
        root: the directory with pyproject.toml.
        release: a version ``N.N.N`` that overrides the version of the checkout.

    Raises:
        PackagingError: the version is invalid, or the checkout cannot be read.
    """
    if release and not _RELEASE.fullmatch(release):
        raise PackagingError(f"version {release} is not of the form 1.2.3")
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not given.isdecimal():
        raise PackagingError(f"SOURCE_DATE_EPOCH={given} is not a number of seconds; unset it")
    named = tomllib.loads((root / _PROJECT).read_text())["project"]["version"]
    head = _git(root, "log", "-1", "--format=%ct %h")
    if not head:
        fallback_s = int((root / _PROJECT).stat().st_mtime)
        return Source(root, Version(release or named), int(given or fallback_s))
    committed_s, commit = head.split()
    source_epoch_s = int(given or committed_s)
    tags = _git(root, "tag", "--points-at", "HEAD").split()
    dirty = bool(_git(root, "status", "--porcelain"))
    if release or (f"v{named}" in tags and not dirty):
        return Source(root, Version(release or named), source_epoch_s)
    moment = dt.datetime.fromtimestamp(int(committed_s), tz=dt.UTC)
    version = Version(named, f"{moment:%Y%m%d%H%M%S}", commit + (".dirty" if dirty else ""))
    return Source(root, version, source_epoch_s)


def _files(root: Path) -> Iterator[str]:
    """Yield the files that belong to the checkout, in a fixed order."""
    listed = _git(root, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed:
        yield from sorted(path for path in listed.split("\0") if path and (root / path).is_file())
        return
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.is_file() and parts[0] not in _NOT_PACKAGED and not _NOT_SOURCE & {*parts}:
            yield "/".join(parts)


def _git(root: Path, *arguments: str) -> str:
    """Return the output of git, or an empty string if this is not a git checkout."""
    if not (root / ".git").exists():
        return ""
    try:
        answer = subprocess.run(
            # A checkout of another user is only read; nothing in it is run.
            ["git", "-c", f"safe.directory={root}", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except FileNotFoundError:
        return ""
    except subprocess.CalledProcessError as error:
        raise PackagingError(
            f"git {arguments[0]} failed in {root}: {error.stderr.strip()}"
        ) from None
    return answer.stdout.strip()


def _replace(path: Path, pattern: str, text: str) -> None:
    before = path.read_text()
    after, count = re.subn(pattern, lambda _: text, before, count=1)
    if count != 1:
        raise PackagingError(f"{path} has no line {pattern}; cannot write the version")
    path.write_text(after)
