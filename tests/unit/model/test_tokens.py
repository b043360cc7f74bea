from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import tokens

ONE, TWO = "a" * 32, "bcd-._~+/" * 4 + "=="
names = st.from_regex(r"[A-Za-z0-9._~+/-]{16,64}={0,2}", fullmatch=True)


def test_one_a_line_with_comments_and_blanks() -> None:
    assert tokens.parse(f"# ours\n\n  {ONE} \r\n{TWO}\n{ONE}\n#{'c' * 32}") == [ONE, TWO]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no token"),
        ("# nothing\n\n", "holds no token"),
        (f"{ONE}\nshort", "line 2 is shorter than 16"),
        (f"{ONE}\n\nwörds-of-some-length", "line 3 is not a token"),
        (f"{ONE} a-host and-more", "line 1 has more than a token and a name"),
        (f"{ONE} a/host", "line 1 has more than a token and a name"),
        (f"{ONE} {'h' * 65}", "line 1 has more than a token and a name"),
        (f"{ONE} a\n{TWO} a\n{ONE} b", "line 3 has a token of an earlier line"),
        ("x" * 513, "line 1 is longer than 512"),
        ("ö" * 20, "line 1 is not a token"),
    ],
)
def test_anything_else_is_refused_by_its_line(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        tokens.parse(text)


def test_a_token_may_name_its_host() -> None:
    found = tokens.parse_named(f"{ONE} rack-1.host\n{TWO}\n {'c' * 32}\track-1.host \n")
    assert found == {ONE: "rack-1.host", TWO: "", "c" * 32: "rack-1.host"}


@given(st.text(max_size=60))
def test_an_error_never_shows_a_token(text: str) -> None:
    with pytest.raises(ValueError, match="line") as caught:
        tokens.parse(f"{ONE}\n! {text}\n! {ONE}")
    assert ONE not in str(caught.value)
    assert len(str(caught.value)) < 120


@given(st.lists(names, min_size=1, unique=True))
def test_what_is_written_is_read(found: list[str]) -> None:
    assert tokens.parse("\n".join(found)) == found
