"""Rules for every test: code of ours that blocks the event loop fails the test."""

from __future__ import annotations

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
