from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import escapes
from agent.cli.colours import ColourFilter

SGR = re.compile(r"\x1b\[[0-9;:]*m")

SEQUENCES = st.sampled_from(
    [
        b"\x1b[31m",
        b"\x1b[0m",
        b"\x1b[38;2;1;2;3m",
        b"\x1b[2J",
        b"\x1b[?1049h",
        b"\x1b[>4m",
        b"\x1b]0;title\x07",
        b"\x1bP+q544e\x1b\\",
        b"\x1bc",
        b"\x9b31m",
        b"\xc2\x9b2J",
        b"\xe2\x80\xae",
        b"\r",
        b"\r\n",
        b"\n",
        b"\t",
        b"\x08",
        b"\x1b",
        b"\x1b[",
        b"m",
        "né".encode(),
        b"\xc3",
        b"\xf0\x9f\x98",
        b"\x1b[" + b"1;" * 40 + b"m",
    ]
)
STREAMS = st.lists(SEQUENCES | st.binary(max_size=8)).map(b"".join)


def shown(*chunks: bytes) -> str:
    colours = ColourFilter()
    return "".join(colours.feed(chunk) for chunk in chunks) + colours.end()


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[begin:end] for begin, end in itertools.pairwise(at)]


@given(STREAMS, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_nothing_but_text_and_colours_gets_through(stream: bytes, cuts: list[int]) -> None:
    out = shown(*pieces(stream, cuts))
    rest = SGR.sub("", out).replace("\r\n", "\n")
    assert escapes.is_plain(rest.replace("\n", "").replace("\t", ""))


@given(STREAMS, st.lists(st.integers(0, 1 << 16), max_size=8))
def test_it_does_not_matter_where_chunks_end(stream: bytes, cuts: list[int]) -> None:
    assert shown(*pieces(stream, cuts)) == shown(stream)


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn", "Zl", "Zp")))
        | st.sampled_from(["\n", "\t", "\r\n", "\x1b[0m"]),
    ).map("".join),
    st.lists(st.integers(0, 1 << 16), max_size=8),
)
def test_ordinary_text_and_colours_stay_as_they_are(text: str, cuts: list[int]) -> None:
    assert shown(*pieces(text.encode(), cuts)) == text


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
        (b"\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
        (b"\x1b[>4m", r"\x1b[>4m"),
        (b"\x9b2J", r"\x9b2J"),
        ("\x9b2J".encode(), r"\x9b2J"),
        (b"10%\r20%\r\n", "10%\\r20%\r\n"),
        (b"\xff\xc3", r"\xff\xc3"),
        ("\u202egpj.exe".encode(), r"\u202egpj.exe"),
        (b"\x1b[3", r"\x1b[3"),
    ],
)
def test_what_else_could_command_a_terminal_is_shown(stream: bytes, expected: str) -> None:
    assert shown(stream) == expected


def test_a_colour_ends_with_the_stream() -> None:
    assert shown(b"\x1b[3", b"1mred") == "\x1b[31mred\x1b[0m"
    assert shown(b"\x1b[31mred\x1b[m") == "\x1b[31mred\x1b[m"


def test_what_is_held_stays_small() -> None:
    colours = ColourFilter()
    out = colours.feed(b"\x1b[") + "".join(colours.feed(b"1;") for _ in range(100_000))
    assert len(out) > 199_000
