"""``scripts/check-tree``: what was committed by accident is named, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "check-tree"
MEGABYTE = 1_000_000


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    return tmp_path


def track(checkout: Path, name: str, size: int = 1) -> Path:
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    subprocess.run(["git", "-C", str(checkout), "add", "-f", name], check=True)
    return path


@pytest.mark.parametrize("name", ["a.py", "packaging/build", "docs/distance.md", "ü b.txt"])
def test_sources_are_taken(checkout: Path, name: str) -> None:
    track(checkout, name, MEGABYTE)
    done = check(checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "check-tree: 1 tracked files are sources\n"


@pytest.mark.parametrize(
    "name",
    [
        "wheelhouse/aiohttp-3.14.5-cp311-manylinux.whl",
        "build/lib/agent/daemon.py",
        "packaging/dist/notes.txt",
        "agent/__pycache__/daemon.cpython-311.pyc",
        "ecs_host_agent.egg-info/PKG-INFO",
        "ecs-agent_0.1.0_amd64.DEB",
        "backup.tar.gz",
    ],
)
def test_what_was_built_is_refused(checkout: Path, name: str) -> None:
    track(checkout, "a.py")
    track(checkout, name)
    done = check(checkout)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"check-tree: {name}: ")
    assert done.stderr.count("\n") == 1


def test_a_large_file_is_refused_for_what_is_tracked_of_it(checkout: Path) -> None:
    large = track(checkout, "ü large.json", MEGABYTE + 1)
    large.write_bytes(b"")  # what counts is what would be committed
    done = check(checkout)
    assert done.returncode == 1
    assert "check-tree: ü large.json: 1000001 bytes" in done.stderr


def test_what_is_not_tracked_does_not_matter(checkout: Path) -> None:
    track(checkout, "a.py")
    (checkout / "dist").mkdir()
    (checkout / "dist" / "a.whl").write_bytes(b"")
    assert check(checkout).returncode == 0


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    done = check(tmp_path / "nowhere")
    assert done.returncode == 2
    assert "git cannot list the files of" in done.stderr


def test_this_checkout_holds_sources_alone() -> None:
    done = check(SCRIPT.parents[1])
    assert done.returncode == 0, done.stderr
