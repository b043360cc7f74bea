"""``scripts/with-engine`` where an engine runs already: it passes through and stops nothing.

That it starts one, and stops just that one, is what ``make test`` shows on a machine without.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import docker

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[3] / "scripts" / "with-engine"


def _start(*command: str) -> subprocess.Popen[str]:
    words = [sys.executable, str(SCRIPT), *command]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_engine_that_runs_is_used_and_left_alone(sdk: docker.APIClient) -> None:
    before = sdk.info()["ID"]
    with _start("sh", "-c", "echo out; exit 7") as running:
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (7, "out\n", "")
    assert sdk.info()["ID"] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command(sdk: docker.APIClient, number: signal.Signals) -> None:
    del sdk
    trap = "trap 'echo told; exit 3' TERM HUP; echo ready; while :; do sleep 0.05; done"
    # A test run under nohup ignores SIGHUP, and so would everything that it starts.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with _start("sh", "-c", trap) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            running.send_signal(number)
            out, _ = running.communicate(timeout=60)
    finally:
        signal.signal(number, before)
    assert (running.returncode, out) == (3, "told\n")


def test_a_signal_at_the_very_start_reaches_the_command(sdk: docker.APIClient) -> None:
    del sdk
    trap = "trap 'exit 3' TERM; kill -TERM $PPID; while :; do sleep 0.05; done"
    for _ in range(5):
        with _start("sh", "-c", trap) as running:
            assert running.wait(60) == 3


def test_a_command_that_is_not_there_is_one_line(sdk: docker.APIClient) -> None:
    del sdk
    with _start("/no/such/command") as running:
        _, err = running.communicate(timeout=60)
    assert running.returncode == 127
    assert err == "with-engine: /no/such/command: No such file or directory\n"
