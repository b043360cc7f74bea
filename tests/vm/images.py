"""Machine images in tests: built by the real Packer from the base disk, and looked into when off."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.errors import ImageNotFound

from tests.support import images
from tests.vm.machine import END_WITH_PARENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TEMPLATES = Path(__file__).parents[2] / "packer"
BUILD_LIMIT_S = 1200.0
_FIRST_SECTOR_OFFSET = 2048 * 512


class Saved:
    """An engine that keeps the last image loaded into it as a file, as ``docker save`` would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def version(self) -> Mapping[str, str]:
        """Say what the images are for."""
        return {"Arch": "amd64"}

    def inspect_image(self, reference: str) -> None:
        """Have no image."""
        raise ImageNotFound(reference)

    def load_image(self, archive: bytes) -> Iterator[Mapping[str, Any]]:
        """Keep it."""
        self.path.write_bytes(archive)
        return iter(())


def save_busybox(path: Path) -> str:
    """Write the archive of an image with busybox; return its reference."""
    return images.busybox(Saved(path))


def packer(*arguments: str | Path, folder: Path) -> str:
    """Run Packer with a home and a cache of its own below ``folder``; return what it printed.

    Raises:
        AssertionError: it failed; has the end of what it said.
    """
    return _call(["packer", *arguments], folder, {}, limit_s=60.0)


def build(commands: str, folder: Path, variables: Mapping[str, str]) -> str:
    """Run shell commands that build an image in ``folder``; return what they printed.

    ``variables`` of the templates come in by the environment, beside those on the command line. Raises
    as ``packer``.
    """
    given = {f"PKR_VAR_{name}": value for name, value in variables.items()}
    return _call(["bash", "-e", "-c", commands], folder, given, limit_s=BUILD_LIMIT_S)


def _call(
    command: list[str | Path], folder: Path, more: Mapping[str, str], *, limit_s: float
) -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PACKER_CACHE_DIR": str(folder / "cache"),
        "PACKER_NO_COLOR": "1",
        # Neither HashiCorp nor AWS is asked anything.
        "CHECKPOINT_DISABLE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }
    done = subprocess.run(
        [*END_WITH_PARENT, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit_s,
        check=False,
    )
    said = "\n".join(done.stdout.splitlines()[-120:])
    assert done.returncode == 0, f"{command[-1]} exited with {done.returncode}:\n{said}"
    return done.stdout


def options(variables: Mapping[str, str]) -> list[str]:
    """Return variables as Packer takes them."""
    return [part for name, value in variables.items() for part in ("-var", f"{name}={value}")]


class OfflineDisk:
    """The file system of a machine that is off, read without mounting it."""

    def __init__(self, disk: Path, folder: Path) -> None:
        """Unpack ``disk`` (qcow2, one partition as ``scripts/vm-base`` makes it)."""
        self._raw = folder / "offline.raw"
        subprocess.run(
            ["qemu-img", "convert", "-O", "raw", disk, self._raw], check=True, timeout=120
        )

    def close(self) -> None:
        """Remove what was unpacked."""
        self._raw.unlink()

    def names(self, folder: str) -> set[str]:
        """Return what is in a folder, nothing where there is none."""
        rows = [row.split("/") for row in self._ask(f"ls -p {folder}").splitlines()]
        return {row[5] for row in rows if len(row) > 5} - {".", ".."}

    def text(self, path: str) -> str | None:
        """Return the text of a file, None where there is none."""
        folder, _, name = path.rpartition("/")
        return self._ask(f"cat {path}") if name in self.names(folder or "/") else None

    def _ask(self, request: str) -> str:
        done = subprocess.run(
            ["debugfs", "-R", request, f"{self._raw}?offset={_FIRST_SECTOR_OFFSET}"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=30,
            check=True,
        )
        return done.stdout


def wait_until(path: Path, *, within_s: float = 20.0) -> None:
    """Wait until a file is there and not empty."""
    deadline = time.monotonic() + within_s
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < deadline, f"{path} was not written within {within_s:g} s"
        time.sleep(0.1)
