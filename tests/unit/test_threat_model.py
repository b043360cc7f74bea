"""docs/threat-model.md names a test beside each line, and each of them exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "threat-model.md"
NAMED = re.compile(r"`((?:unit|integration|vm)/[\w/]+\.py)::(\w+)`")
ROWS = [
    row
    for row in re.findall(r"^\|.*\|$", PAGE.read_text(), flags=re.MULTILINE)
    if not row.startswith(("| Who, and what they want |", "| --- |"))
]


@cache
def _defined_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_the_page_has_lines() -> None:
    assert len(ROWS) > 40


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:60])
def test_each_line_names_tests_that_exist(row: str) -> None:
    named = NAMED.findall(row.rsplit(" | ", 1)[1])
    assert named, "name the test that holds this line"
    missing = [f"{path}::{name}" for path, name in named if name not in _defined_in(path)]
    assert not missing
