"""The pause image as a file, for machine images."""

from __future__ import annotations

import subprocess
import sys

from agent.runtime.pause import image_archive


def test_the_archive_comes_on_standard_output() -> None:
    command = [sys.executable, "-m", "agent.runtime.pause", "arm64"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)

    assert done.stdout == image_archive("arm64")


def test_an_unknown_architecture_is_named() -> None:
    command = [sys.executable, "-m", "agent.runtime.pause", "vax"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)

    assert done.returncode == 1
    assert b"'vax'" in done.stderr
