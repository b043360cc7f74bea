"""The pause image as bytes."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from importlib import resources
from pathlib import Path

import pytest

from agent.errors import ConfigError
from agent.runtime.pause import image_archive, pause_reference

ROOT = Path(__file__).parents[3]
COMPILERS = ("x86_64-linux-gnu-gcc", "aarch64-linux-gnu-gcc")


def _files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        opened = {member.name: tar.extractfile(member) for member in tar}
        return {name: file.read() for name, file in opened.items() if file is not None}


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_archive_is_a_whole_image(architecture: str) -> None:
    files = _files(image_archive(architecture))
    (entry,) = json.loads(files["manifest.json"])
    assert entry["RepoTags"] == [pause_reference(architecture)]
    config = json.loads(files[entry["Config"]])
    assert entry["Config"] == f"{hashlib.sha256(files[entry['Config']]).hexdigest()}.json"
    assert (config["architecture"], config["os"]) == (architecture, "linux")
    assert config["config"]["Entrypoint"] == ["/pause"]
    layer = files[entry["Layers"][0]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    program = _files(layer)["pause"]
    assert program.startswith(b"\x7fELF")
    assert len(program) < 1024


def test_kernel_names_mean_the_same_image() -> None:
    assert image_archive("x86_64") == image_archive("amd64")
    assert pause_reference("aarch64") == pause_reference("ARM64")
    assert pause_reference("amd64") != pause_reference("arm64")


def test_the_archive_is_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from agent.runtime.pause import image_archive; "
        "print(hashlib.sha256(image_archive('amd64')).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert other.stdout.strip() == hashlib.sha256(image_archive("amd64")).hexdigest()


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ConfigError, match="'riscv64': awsvpc tasks run on amd64, arm64"):
        image_archive("riscv64")


def test_the_programs_come_from_the_source() -> None:
    for compiler in COMPILERS:
        try:
            version = subprocess.run(
                [compiler, "-dumpfullversion"], capture_output=True, text=True, check=True
            )
        except FileNotFoundError:
            pytest.skip(f"{compiler} is missing: apt-get install gcc gcc-aarch64-linux-gnu")
        if version.stdout.strip() != "12.2.0":
            pytest.skip(f"{compiler} is not Debian 12's 12.2.0: its bytes differ")
    check = subprocess.run(
        [sys.executable, ROOT / "scripts" / "build-pause", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_source_ships_with_the_programs() -> None:
    shipped = {entry.name for entry in resources.files("agent.runtime.pause").iterdir()}
    assert {"pause.c", "pause-amd64", "pause-arm64"} <= shipped
