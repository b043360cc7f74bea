"""The libraries of the agent, for any architecture and several Python versions.

pip downloads the wheels of ``requirements.lock`` from the package index and checks their hashes.
They are cached, checked again when used, and unpacked but never run. The names of compiled modules
contain the Python version, so modules for several versions fit in one directory, and one package
serves every distribution.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from packager import PackagingError, elf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""Oldest to newest; the package depends on one of them."""
GLIBC = (2, 28)
"""The oldest supported C library: Debian 10, RHEL 8, Amazon Linux 2023."""
UNUSED = frozenset({"markdown-it-py", "mdurl", "pygments"})
"""rich imports them only for Markdown and coloured source code."""
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_PIP_LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class Locked:
    """One entry of the lock file."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The normalized name of the distribution."""
        return re.sub(r"[-_.]+", "-", self.requirement.name).lower()

    def line(self) -> str:
        """Return the entry in pip's format, without its marker, which was already evaluated."""
        pinned = f"{self.requirement.name}{self.requirement.specifier}"
        return " ".join([pinned, *(f"--hash={hash_}" for hash_ in self.hashes)])


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in the cache."""

    path: Path
    pythons: tuple[str, ...]
    """The Python versions that it was selected for."""

    @property
    def name(self) -> str:
        """The normalized name of the distribution."""
        return re.sub(r"[-_.]+", "-", self.path.name.split("-", 1)[0]).lower()


def default_cache() -> Path:
    """Return the wheel cache that builds of all checkouts share."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ecs-host-agent" / "wheels"


def read_lock(text: str) -> list[Locked]:
    """Parse a lock file with hashes. Pure.

    Raises:
        PackagingError: an entry is not pinned, has no hash, or is not a requirement.
    """
    found = []
    for entry in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = entry.split("#", 1)[0].split(" --hash=")
        if not words[0].strip():
            continue
        try:
            requirement = Requirement(words[0].strip())
        except InvalidRequirement as error:
            raise PackagingError(f"requirements.lock: {words[0]}: {error}") from None
        pinned = [s.operator for s in requirement.specifier] == ["=="]
        if not pinned or len(words) < 2:
            raise PackagingError(f"requirements.lock: {words[0]} has no version or no hash")
        found.append(Locked(requirement, tuple(word.strip() for word in words[1:])))
    return found


def wanted(locked: Sequence[Locked], *, python: str, architecture: str) -> list[Locked]:
    """Return the entries for a Python version and an architecture. Pure."""
    environment = {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": _MACHINES[architecture],
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
    return [
        entry
        for entry in locked
        if entry.name not in UNUSED
        and (entry.requirement.marker is None or entry.requirement.marker.evaluate(environment))
    ]


def fetch(lock: Path, *, architecture: str, cache: Path) -> list[Wheel]:
    """Return every wheel for an architecture; downloads only what the cache lacks.

    May run concurrently. Raises ``PackagingError`` if the index has no wheel or cannot be reached.
    """
    locked = read_lock(lock.read_text())
    cache.mkdir(parents=True, exist_ok=True)
    allowed = {hash_ for entry in locked for hash_ in entry.hashes}
    pythons_of: dict[str, list[str]] = {}
    common: dict[str, str] = {}
    with (cache / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for python in PYTHONS:
            needed = wanted(locked, python=python, architecture=architecture)
            # A wheel for every Python and machine need not be requested again.
            asked = [entry for entry in needed if entry.name not in common]
            for file in _download(asked, python=python, architecture=architecture, cache=cache):
                _check(cache / file, allowed)
                pythons_of.setdefault(file, []).append(python)
                if file.endswith("-none-any.whl"):
                    common[Wheel(Path(file), ()).name] = file
    return [Wheel(cache / file, tuple(pythons_of[file])) for file in sorted(pythons_of)]


def _download(
    entries: Sequence[Locked], *, python: str, architecture: str, cache: Path
) -> list[str]:
    """Return the names of the wheels, which are all in the cache afterwards."""
    lines = "\n".join(sorted(entry.line() for entry in entries)) + "\n"
    platforms = list(_platforms(architecture))
    what = json.dumps([lines, python, platforms]).encode()
    index = cache / f"{hashlib.sha256(what).hexdigest()[:24]}.json"
    if index.exists():
        files: list[str] = json.loads(index.read_text())
        if all((cache / file).exists() for file in files):
            return files
    wanted_file = index.with_suffix(".txt")
    wanted_file.write_text(lines)
    report = index.with_suffix(".log")
    folder = index.with_suffix(".part")
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
    command += ["--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python]
    command += ["--abi", f"cp{python.replace('.', '')}"]
    command += [word for platform in platforms for word in ("--platform", platform)]
    command += ["--dest", str(folder), "--requirement", str(wanted_file)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PIP_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise PackagingError(f"pip took longer than {_PIP_LIMIT_S} s; try again") from None
    except subprocess.CalledProcessError as error:
        report.write_text(error.stderr)
        last = error.stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        raise PackagingError(
            f"pip could not download the libraries for Python {python} on {architecture}: "
            f"{last[0]}; its full output is in {report}"
        ) from None
    files = sorted(path.name for path in folder.iterdir())
    for file in files:
        (folder / file).replace(cache / file)
    folder.rmdir()
    wanted_file.unlink()
    index.write_text(json.dumps(files))
    return files


def _platforms(architecture: str) -> Iterator[str]:
    """Yield the tags of wheels that run with the C library ``GLIBC``, newest first."""
    machine = _MACHINES[architecture]
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    for minor in range(GLIBC[1], 4, -1):
        yield f"manylinux_{GLIBC[0]}_{minor}_{machine}"
        if minor in legacy:
            yield f"{legacy[minor]}_{machine}"


def _check(path: Path, allowed: set[str]) -> None:
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    if digest not in allowed:
        raise PackagingError(f"{path} does not match requirements.lock; delete it")


def unpack(wheels: Sequence[Wheel], into: Path, *, leave_out: Sequence[re.Pattern[str]]) -> int:
    """Unpack wheels into one directory, with debugging data removed from compiled modules.

    Args:
        wheels: the wheels from ``fetch``.
        into: the directory; created if missing.
        leave_out: files whose path below the directory matches one of these are skipped.

    Returns:
        How many bytes were left out.

    Raises:
        PackagingError: two wheels have different files with the same name.
    """
    origins: dict[str, str] = {}
    left_out = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel.path) as archive:
            for info in archive.infolist():
                name = _installed_name(info.filename)
                if info.is_dir() or not name:
                    continue
                if any(pattern.search(name) for pattern in leave_out):
                    left_out += info.file_size
                    continue
                content = archive.read(info)
                if name.endswith(".so"):
                    whole, content = content, elf.strip(content, name)
                    left_out += len(whole) - len(content)
                target = into / name
                if name in origins and target.read_bytes() != content:
                    raise PackagingError(
                        f"{name} differs between {origins[name]} and {wheel.path.name}; "
                        "they cannot share a package"
                    )
                origins[name] = wheel.path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
    return left_out


_DATA = re.compile(r"[^/]+\.data/([^/]+)/(.+)")


def _installed_name(name: str) -> str:
    """Return where a file of a wheel belongs; empty for scripts, headers and the like."""
    if ".." in Path(name).parts or name.startswith("/"):
        raise PackagingError(f"a wheel contains the unsafe path {name}; do not trust it")
    found = _DATA.fullmatch(name)
    if found is None:
        return name
    return found[2] if found[1] in {"purelib", "platlib"} else ""
