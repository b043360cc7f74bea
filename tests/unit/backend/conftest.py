"""A back end per test, and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backend.backend import Backend
from tests.unit.backend.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as made:
        yield made


@pytest.fixture
def client(backend: Backend) -> Client:
    return Client(backend)
