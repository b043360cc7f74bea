from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.columns import ELLIPSIS, GAP, Column, fit, shortened

COLUMNS = [
    Column("ID", beginning=6),
    Column("NAME", least=8),
    Column("STATUS"),
    Column("HEALTH", yields=2),
    Column("PORTS", least=5, yields=1),
]
ROWS = [
    ["0123456789abcdef", "a-name-of-twenty-one-", "RUNNING", "-", "80"],
    ["fedcba9876543210", "short", "STOPPED", "-", "8080 9090"],
]


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (200, [16, 21, 7, 6, 9]),  # a wide terminal shows all
        (67, [16, 21, 7, 6, 9]),
        (66, [6, 21, 7, 6, 9]),  # a beginning of the id is enough
        (56, [6, 21, 7, 0, 9]),  # what says nothing goes
        (48, [6, 21, 7, 0, 8]),  # names are shortened
        (32, [6, 8, 7, 0, 5]),
        (31, [6, 14, 7, 0, 0]),  # then what the table names
        (24, [6, 7, 7, 0, 0]),  # the rest is squeezed
        (5, [4, 4, 4, 0, 0]),  # no terminal is so narrow
    ],
)
def test_columns_give_way_in_order(room: int, widths: list[int]) -> None:
    assert fit(COLUMNS, ROWS, room) == widths


def test_a_table_without_rows_is_its_headers() -> None:
    assert fit(COLUMNS, [], 100) == [2, 4, 6, 6, 5]


@given(
    st.lists(st.tuples(*[st.text("ab", max_size=30)] * 5), max_size=5),
    st.integers(min_value=1, max_value=200),
)
def test_a_row_fits_wherever_there_is_room_for_the_least(
    rows: list[tuple[str, ...]], room: int
) -> None:
    widths = fit(COLUMNS, rows, room)
    shown = [width for width in widths if width]
    line = sum(shown) + GAP * (len(shown) - 1)
    assert line <= room or max(shown) <= 4
    assert all(widths[:3])


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("web:3", 5, "web:3"),
        ("a-long-family:12", 12, f"a-long{ELLIPSIS}ly:12"),
        ("abcdef", 2, f"a{ELLIPSIS}"),
        ("abcdef", 1, ELLIPSIS),
    ],
)
def test_names_are_shortened_in_the_middle(text: str, width: int, shown: str) -> None:
    assert shortened(text, width) == shown


@given(st.text(max_size=40), st.integers(min_value=1, max_value=40))
def test_what_is_shortened_is_never_too_long(text: str, width: int) -> None:
    assert len(shortened(text, width)) == min(len(text), width)
