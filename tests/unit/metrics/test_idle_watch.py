"""What ends the idleness of a task."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from agent.metrics.idle_watch import IdleWatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "cpuacct.usage"
    path.write_text("1\n")
    return path


@pytest.fixture
def descriptor(file: Path) -> Iterator[int]:
    opened = os.open(file, os.O_RDONLY)
    yield opened
    os.close(opened)


def watch_of(descriptor: int, due_s: float = 100.0) -> IdleWatch:
    return IdleWatch([(descriptor, b"1\n")], sources=[4, "id"], due_s=due_s, now_ns=5)


def test_the_same_text_is_still(descriptor: int) -> None:
    watch = watch_of(descriptor)
    assert watch.still_ns == 5
    began_ns = time.monotonic_ns()
    assert watch.is_still(99.0, set())
    assert watch.is_still(99.0, {3, "other"}), "others are active"
    assert began_ns <= watch.still_ns <= time.monotonic_ns()


@pytest.mark.parametrize("text", ["2\n", "1\n\n", ""])
def test_another_text_is_not(descriptor: int, file: Path, text: str) -> None:
    watch = watch_of(descriptor)
    file.write_text(text)
    assert not watch.is_still(99.0, set())
    assert watch.still_ns == 5, "nobody knows since when"


@pytest.mark.parametrize("active", [{4}, {"id"}, {3, 4, "other"}])
def test_a_task_with_an_active_source_is_read(descriptor: int, active: set[int | str]) -> None:
    assert not watch_of(descriptor).is_still(99.0, active)


def test_it_is_due(descriptor: int) -> None:
    assert not watch_of(descriptor, due_s=99.0).is_still(99.0, set())


def test_a_file_that_cannot_be_read_is_not_still(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    assert not watch_of(folder).is_still(99.0, set())
    os.close(folder)
