"""Rules for every test: code of ours that blocks the event loop fails it, and so does its garbage."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest
from blockbuster import blockbuster_ctx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blockbuster import BlockBuster


@pytest.fixture(autouse=True)
def blockbuster() -> Iterator[BlockBuster]:
    """Raise in whatever code of ours makes a blocking call while an event loop runs."""
    with blockbuster_ctx("agent") as active:
        yield active


@pytest.fixture(autouse=True)
def garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Collect garbage between tests, never inside one.

    A finalizer that complains then fails the test that left it, and not one that happens to run
    later; nor does it run at the bottom of a test about deep recursion, where it could only fail.
    """
    gc.disable()
    yield
    gc.enable()
    if request.node.get_closest_marker("integration") is not None:
        gc.collect()
