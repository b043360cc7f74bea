"""``scripts/again``: what fails only beside others passes, and nothing else that failed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "again"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "xdist"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # they take most of the time
}
"""Without what xdist says to its workers, of which this test may run in one."""
BESIDE_OTHERS = """
import os, pytest
beside_others = pytest.mark.skipif("False")
def lonely(): assert "PYTEST_XDIST_WORKER" not in os.environ, "beside others"
"""


class Outcome:
    """What a run has shown."""

    def __init__(self, tests: Path, *options: str, first: str = "-n1") -> None:
        note = tests / "note"
        alone = shlex.join(PYTEST)
        command = [str(SCRIPT), "--note", str(note), *options, alone, "--", *PYTEST, first]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tests,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.out = done.returncode, done.stdout + done.stderr
        self.note = note.read_text().splitlines() if note.exists() else []
        self.has_second = "run once more by themselves" in done.stdout


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_fine.py").write_text("def test_fine(): pass\n")
    return tmp_path


def write(tests: Path, name: str, body: str) -> None:
    (tests / name).write_text(f"{BESIDE_OTHERS}\n{body}\n")


def test_without_a_failure_there_is_one_pass(tests: Path) -> None:
    ran = Outcome(tests)
    assert (ran.code, ran.has_second, ran.note) == (0, False, []), ran.out


def test_what_fails_only_beside_others_passes_and_is_named(tests: Path) -> None:
    write(
        tests,
        "test_a.py",
        "@pytest.mark.parametrize('wire', ['long poll', 'A::S'])\n"
        "def test_busy(wire): lonely()\n"
        "@pytest.fixture\ndef torn():\n    yield\n    lonely()\n"
        "def test_torn(torn): pass\n"
        "def test_fine(): pass\n",
    )
    ran = Outcome(tests)
    names = [f"test_a.py::{n}" for n in ("test_busy[A::S]", "test_busy[long poll]", "test_torn")]
    assert ran.code == 0, ran.out
    assert ran.note == [f"failed only beside others: {name}" for name in names], ran.out
    assert "3 passed" in ran.out, "only these ran once more"


def test_what_fails_again_fails(tests: Path) -> None:
    write(tests, "test_a.py", "def test_busy(): lonely()\ndef test_broken(): assert 0\n")
    ran = Outcome(tests)
    assert ran.code == 1, ran.out
    assert ran.note == [
        "failed only beside others: test_a.py::test_busy",
        "failed again by itself: test_a.py::test_broken",
    ]


def test_more_than_a_few_are_no_accident(tests: Path) -> None:
    write(tests, "test_a.py", "def test_a(): lonely()\ndef test_b(): lonely()\n")
    ran = Outcome(tests, "--most", "1")
    assert (ran.code, ran.has_second) == (1, False), ran.out


@pytest.mark.parametrize(
    ("body", "first", "code"),
    [
        ("raise SystemError", "-n1", 1),  # a file that cannot be read runs no test
        ("def test_a(): raise KeyboardInterrupt", "-n0", 2),
        ("def test_a(): os.kill(os.getpid(), 9)", "-n0", 137),
    ],
)
def test_what_did_not_run_to_its_end_has_failed(
    tests: Path, body: str, first: str, code: int
) -> None:
    write(tests, "test_a.py", body)
    ran = Outcome(tests, first=first)
    assert ran.code == code, ran.out
    assert not [line for line in ran.note if "only beside others" in line]


def test_a_test_that_kills_its_worker_runs_once_more(tests: Path) -> None:
    write(
        tests,
        "test_a.py",
        "def test_a():\n    if 'PYTEST_XDIST_WORKER' in os.environ: os._exit(3)\n",
    )
    ran = Outcome(tests)
    assert (ran.code, ran.note) == (0, ["failed only beside others: test_a.py::test_a"]), ran.out


def test_tests_that_build_on_each_other_run_again_as_a_file(tests: Path) -> None:
    write(
        tests,
        "test_a.py",
        "made = []\ndef test_a(): made.append(1)\ndef test_b(): assert made; lonely()\n",
    )
    ran = Outcome(tests, "--files")
    assert ran.code == 0, ran.out
    assert "2 passed" in ran.out, "the file as a whole"
    assert ran.note == ["failed only beside others: test_a.py::test_b"]
