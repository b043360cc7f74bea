"""What reads JSON takes everything that msgspec raises as bad JSON."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from agent.errors import BAD_JSON

AGENT = Path(__file__).parents[2] / "agent"
OWN = {"msgspec.DecodeError", "msgspec.MsgspecError"}


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'"\xff"', b'"\xed\xa0\x80"', b"[" * 100_000, b"1e999999"]
)
def test_whatever_cannot_be_read_is_bad_json(raw: bytes) -> None:
    with pytest.raises(BAD_JSON):
        msgspec.json.decode(raw)


@pytest.mark.parametrize("raw", ["\ud800", '"\ud800"'])
def test_so_is_text_that_has_no_bytes(raw: str) -> None:
    with pytest.raises(BAD_JSON):
        msgspec.json.decode(raw)


def test_nothing_catches_a_part_of_it() -> None:
    """Text that is no UTF-8 is no ``DecodeError``: an order with it ended what asked control for orders."""
    found = [
        f"{path.relative_to(AGENT.parent)}:{node.lineno}"
        for path in AGENT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and node.type is not None
        if OWN & {ast.unparse(part) for part in ast.walk(node.type)}
    ]
    assert not found, "catch agent.errors.BAD_JSON"
