"""Rules for every test: code of ours that blocks the event loop fails it, and so does its garbage."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import pytest
import structlog
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings
from xdist.workermanage import NodeManager

from agent import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster


def pytest_configure() -> None:
    """Let hypothesis take its time: how fast a machine is says nothing about the code."""
    settings.register_profile(
        "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")


def pytest_xdist_setupnodes() -> None:
    """Let the host of each worker end in peace: xdist would kill what takes longer than 10 s.

    A killed ``scripts/own-host`` leaves its engine and its data behind.
    """
    NodeManager.EXIT_TIMEOUT = 120


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Raise in whatever code of ours makes a blocking call while an event loop runs."""
    with blockbuster_ctx("agent") as active:
        yield active


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Put back what ``logs.configure`` changes for the whole process.

    Otherwise a line of a library in a later test goes through our handler, which reads sources to
    write a traceback: a blocking call of ours, in a test that has nothing to do with it.
    """
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.raiseExceptions)
    yield
    if not structlog.is_configured():
        return
    if (handler := vars(logging)["_handlers"].get(logs.FILE_HANDLER)) is not None:
        handler.close()
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:], logging.raiseExceptions = before[0], before[2]
    root.setLevel(before[1])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish() -> None:
    """Set aside what all tests share: libraries, and the tests themselves."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Collect the garbage of what lived longer than a test; pytest tells of what complains."""
    gc.unfreeze()
    gc.collect()


@pytest.fixture(autouse=True)
def garbage() -> Iterator[None]:
    """Collect garbage between tests, never inside one.

    A finalizer that complains then fails the test that left it, and not one that happens to run
    later; nor does it run at the bottom of a test about deep recursion, where it could only fail.
    What lives on is then set aside until the end of the session: libraries hold a million objects, and
    to look through them after each test, or each file, takes longer than the tests.
    """
    gc.disable()
    yield
    gc.enable()
    gc.collect()
    gc.freeze()
