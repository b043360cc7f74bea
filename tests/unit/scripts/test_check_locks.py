"""``scripts/check-locks``: whatever is installed is pinned by a hash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts" / "check-locks"
HASH = "--hash=sha256:" + "a" * 64


def check(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_this_checkout() -> None:
    done = check(ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("left-pad==1.0", "has no version or no hash"),
        (f"left-pad>=1.0 {HASH}", "has no version or no hash"),
        (f"left-pad==1.0 --hash=md5:{'a' * 32}", "is no SHA-256"),
        (f"-e ./left-pad {HASH}", "left-pad"),
        ("--index-url https://a.example", "--index-url"),
    ],
)
def test_what_is_not_pinned_is_refused(checkout: Path, line: str, text: str) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(f"{lock.read_text()}{line}\n")
    done = check(checkout)
    assert done.returncode == 1
    assert text in done.stderr


def test_what_is_missing_or_too_old_is_refused(checkout: Path) -> None:
    lock = checkout / "requirements.lock"
    lock.write_text(f"aiohttp==1.0 {HASH}\n")
    done = check(checkout)
    assert "aiohttp>=" in done.stderr
    assert "msgspec>=" in done.stderr


def test_a_lock_file_that_nobody_knows_is_refused(checkout: Path) -> None:
    (checkout / "requirements-more.lock").write_text("")
    assert "requirements-more.lock: nobody knows" in check(checkout).stderr


@pytest.mark.parametrize(
    "command",
    [
        "pip install requests",
        "python3 -m pip --quiet install requests",
        "npm install",
        "uv pip sync a",
    ],
)
def test_an_install_without_hashes_is_refused(checkout: Path, command: str) -> None:
    script = checkout / "scripts" / "get"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{command}\n")
    subprocess.run(["git", "-C", str(checkout), "add", "scripts/get"], check=True)
    assert f"scripts/get: {command}: installs without" in check(checkout).stderr
    script.write_text(f"#!/bin/sh\n{command} --require-hashes -r a.lock\n")
    assert check(checkout).returncode == 0
