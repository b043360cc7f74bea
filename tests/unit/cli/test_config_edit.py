from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.cli import config_edit
from agent.cli.config_edit import edited
from agent.config import files

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["ECS_CLUSTER", "ECS_CONTROL_ENDPOINT", "ECS_OTHER", "X"]
values = st.text(
    st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=12
) | st.sampled_from(["", "a b", "'", '"', "x # y", "{", "[1] ", "\\", "'a'", "tail\\"])
lines = st.one_of(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["=", " = "]), values).map("".join),
    st.sampled_from(["", "# a comment", "; other", "#ECS_CLUSTER=x", "  ", "no equals", "a b=1"]),
    st.text(max_size=8),
)
texts = st.tuples(st.lists(lines, max_size=8), st.sampled_from(["\n", "\r\n"])).map(
    lambda given: given[1].join(given[0])
)


def read(text: str) -> dict[str, str]:
    content = files.parse(text, name="f")
    return {name: value.value for name, value in content.values.items()}


@given(texts, st.dictionaries(st.sampled_from(NAMES), values | st.none(), max_size=3))
@example("ECS_CLUSTER=a\nECS_CLUSTER='b", {"ECS_CLUSTER": "c"})
@example("X='", {"ECS_OTHER": "1"})
@example("X=1", {"X": None, "ECS_OTHER": "1"})
def test_what_was_asked_for_is_there_and_nothing_else_changed(
    text: str, asked: dict[str, str | None]
) -> None:
    new = edited(text, asked)
    before, after = read(text), read(new)
    for name, value in asked.items():
        assert after.pop(name, None) == value
        before.pop(name, None)
    assert after == before
    assert edited(new, asked) == new
    kept = [line for line in text.split("\n") if line.partition("=")[0].strip() not in asked]
    assert [line for line in new.split("\n") if line in kept and line] == [k for k in kept if k]


def test_a_setting_keeps_its_place_and_the_rest_its_words() -> None:
    text = "# mine\nECS_CLUSTER=old\n\n# ECS_CONTROL_ENDPOINT=http://\nECS_LOGLEVEL=debug\n"
    new = edited(
        text,
        {"ECS_CLUSTER": "new", "ECS_CONTROL_ENDPOINT": "http://c:1", "ECS_RESERVED_MEMORY": "5"},
    )
    assert new == (
        "# mine\nECS_CLUSTER=new\n\n# ECS_CONTROL_ENDPOINT=http://\nECS_CONTROL_ENDPOINT=http://c:1\n"
        "ECS_LOGLEVEL=debug\nECS_RESERVED_MEMORY=5\n"
    )


def test_an_empty_file_gets_one_line() -> None:
    assert edited("", {"ECS_CLUSTER": "a"}) == "ECS_CLUSTER=a\n"


def test_a_value_that_reads_the_same_is_left_as_it_was_written() -> None:
    assert edited("ECS_CLUSTER = 'a'\n", {"ECS_CLUSTER": "a"}) == "ECS_CLUSTER = 'a'\n"


def test_a_line_break_is_refused() -> None:
    with pytest.raises(ValueError, match="one line"):
        edited("", {"ECS_CLUSTER": "a\nECS_LOGLEVEL=debug"})


def test_the_difference_shows_changed_lines_alone() -> None:
    old = 'ECS_ENGINE_AUTH_DATA={"secret": 1}\nECS_CLUSTER=a\n'
    shown = config_edit.difference(old, edited(old, {"ECS_CLUSTER": "b"}), "ecs.config")
    assert "-ECS_CLUSTER=a\n+ECS_CLUSTER=b" in shown
    assert "secret" not in shown


def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ecs.config"
    config_edit.replace_file(path, b"one", mode=0o600)
    config_edit.replace_file(path, b"two", mode=0o640)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "ecs.config"
    link.symlink_to(tmp_path / "elsewhere")
    config_edit.replace_file(link, b"x", mode=0o600)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == b"x"


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    (tmp_path / "ecs.config").mkdir()
    with pytest.raises(OSError, match=r"ecs\.config"):
        config_edit.replace_file(tmp_path / "ecs.config", b"x", mode=0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["ecs.config"]
