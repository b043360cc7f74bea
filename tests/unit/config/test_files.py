from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import files
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def _values(text: str) -> dict[str, str]:
    content = files.parse(text, name="f")
    assert not content.problems
    return {name: given.value for name, given in content.values.items()}


def test_blank_lines_and_comments_are_skipped() -> None:
    assert _values("\n# ECS_A=1\n ; ECS_B=2\n\t\nECS_C=3\n") == {"ECS_C": "3"}


def test_blanks_around_names_and_values_are_dropped() -> None:
    assert _values("  ECS_A  =  some text \r\n") == {"ECS_A": "some text"}


def test_quotes_are_dropped_and_nothing_is_escaped_inside() -> None:
    assert _values("A='x y'\nB=\"p q\"\nC=''") == {"A": "x y", "B": "p q", "C": ""}


def test_json_is_taken_as_it_stands() -> None:
    text = 'A={"a": "b\\\\c"} # no comment\nB=["x"]\nC=\'{"q": 1}\''
    assert _values(text) == {"A": '{"a": "b\\\\c"} # no comment', "B": '["x"]', "C": '{"q": 1}'}


def test_only_the_first_equals_sign_parts() -> None:
    assert _values("A=b=c") == {"A": "b=c"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("export A=1", "f:1: this file is not a shell script; remove the word export"),
        ("ECS_CLUSTER", 'f:1: no = in "ECS_CLUSTER"; write NAME=value'),
        ("1A=x", 'f:1: "1A" is not a variable name; use letters, digits and _'),
        ("A='x", "f:1: A has no closing quote; end the value with '"),
        ("A='x' y", "f:1: A has text after its closing quote; remove that text"),
        ("A=x\\", "f:1: A ends with a backslash; write the whole value on one line"),
        ("A=x\0", "f:1: A contains a NUL character; remove it"),
    ],
)
def test_lines_that_mean_different_things_to_different_readers_are_refused(
    line: str, problem: str
) -> None:
    assert files.parse(line, name="f").problems == (problem,)


def test_what_is_ambiguous_but_usable_is_warned_about() -> None:
    content = files.parse('A=x # y\nB="p\\q"\nA=z', name="f")
    assert not content.problems
    assert [line.partition(" ")[0] for line in content.warnings] == ["f:1:", "f:2:", "f:3:"]
    assert content.values["A"].value == "z"
    assert content.values["A"].origin == "f:3"


def test_a_message_never_repeats_a_long_line() -> None:
    problem = files.parse("this is a secret that somebody pasted", name="f").problems[0]
    assert "pasted" not in problem


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    content = files.parse(text, name="f")
    for name, value in content.values.items():
        assert name
        assert "\n" not in value.value


def test_a_missing_file_is_empty_unless_required(tmp_path: Path) -> None:
    assert files.read(tmp_path / "x", required=False).values == {}
    with pytest.raises(ConfigError, match="no such file"):
        files.read(tmp_path / "x", required=True)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory"):
        files.read(tmp_path, required=False)
    (tmp_path / "latin").write_bytes(b"A=\xe9\n")
    with pytest.raises(ConfigError, match="byte 2 is not UTF-8"):
        files.read(tmp_path / "latin", required=False)
    (tmp_path / "large").write_bytes(b"#" * (files.MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        files.read(tmp_path / "large", required=False)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfA=1\n")
    assert files.read(tmp_path / "bom", required=True).values["A"].value == "1"
