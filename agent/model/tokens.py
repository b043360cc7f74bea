"""Token files: one token per line, ``#`` comments; same syntax for control and agents. Pure.

Control accepts any token in its file; an agent sends the first token of its own file. A second word in a line is the
name of the one host that the token is for; several lines may have the same name. Tokens without a name are for all hosts.
"""

from __future__ import annotations

import re
from typing import Final

MIN_LENGTH: Final = 16
MAX_LENGTH: Final = 512
MAX_BYTES: Final = 64 * 1024
"""A larger file is not a token file."""
NAME_LENGTH: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_JOIN_PREFIX: Final = "ecs-join."
_JOIN: Final = re.compile(r"ecs-join\.([0-9a-f]{64})\.(.+)", re.ASCII)
_SYNTAX: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What may follow ``Bearer`` in a header."""


def parse(text: str) -> list[str]:
    """Return the tokens in the text of a file, in order, without duplicates; raises as ``parse_named``."""
    return list(parse_named(text))


def parse_named(text: str) -> dict[str, str]:
    """Return the tokens in the text of a file, in order, each with the name of its host or an empty text.

    Raises:
        ValueError: there is no token, a line is not a token, or a token has two names. The text gives the
            line number and never shows the line.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        token, *rest = words
        try:
            check(token)
            name = _name(rest)
        except ValueError as error:
            raise ValueError(f"line {number} {error}") from None
        if found.setdefault(token, name) != name:
            raise ValueError(f"line {number} has a token of an earlier line, for another host")
    if not found:
        raise ValueError("holds no token; create one with 'openssl rand -hex 32'")
    return found


def _name(words: list[str]) -> str:
    if not words:
        return ""
    name, *rest = words
    if rest or not _NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        raise ValueError(
            f"has more than a token and a name of at most {NAME_LENGTH} letters, digits and . _ -"
        )
    return name


def joined(token: str, fingerprint: str) -> str:
    """Return a token for ``join``, with the fingerprint of control's authority (SHA-256, hexadecimal)."""
    return f"{_JOIN_PREFIX}{fingerprint}.{token}"


def split(given: str) -> tuple[str, str]:
    """Return the token and the fingerprint in what ``join`` is given; the latter is empty for a plain token."""
    found = _JOIN.fullmatch(given)
    return (found[2], found[1]) if found else (given, "")


def check(token: str) -> None:
    """Raise ``ValueError`` unless the text is a valid token; the error never shows the token."""
    if not _SYNTAX.fullmatch(token):
        raise ValueError("is not a token; use only letters, digits and . _ ~ + / -")
    if len(token) < MIN_LENGTH:
        raise ValueError(f"is shorter than {MIN_LENGTH} characters and could be guessed")
    if len(token) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
