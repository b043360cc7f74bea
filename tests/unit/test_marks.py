"""Tests that need root or an engine say so: ``make unit`` runs all others, anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

INTEGRATION = Path(__file__).parents[1] / "integration"


@pytest.mark.parametrize(
    "module",
    sorted(INTEGRATION.rglob("test_*.py")),
    ids=lambda path: str(path.relative_to(INTEGRATION)),
)
def test_a_module_of_integration_tests_is_marked(module: Path) -> None:
    assert "pytest.mark.integration" in module.read_text()
