"""Token files: one token a line, ``#`` comments; the same syntax for control and its agents. Pure.

Control lets in whoever carries one of the tokens of its file; an agent carries the first of its own.
"""

from __future__ import annotations

import re
from typing import Final

MIN_LENGTH: Final = 16
MAX_LENGTH: Final = 512
MAX_BYTES: Final = 64 * 1024
"""A larger file is no token file."""
_SYNTAX: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What may stand behind ``Bearer`` in a header."""


def parse(text: str) -> list[str]:
    """Return the tokens of a file's text, in order, each once.

    Raises:
        ValueError: there is none, or a line is no token. The text names the line and never shows it.
    """
    found: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        try:
            check(token)
        except ValueError as error:
            raise ValueError(f"line {number} {error}") from None
        found[token] = None
    if not found:
        raise ValueError("holds no token; write one with 'openssl rand -hex 32'")
    return list(found)


def check(token: str) -> None:
    """Raise ``ValueError`` unless a text can be a token; its text never shows the token."""
    if not _SYNTAX.fullmatch(token):
        raise ValueError("is no token; use letters, digits and . _ ~ + / - only")
    if len(token) < MIN_LENGTH:
        raise ValueError(f"is shorter than {MIN_LENGTH} characters, which can be guessed")
    if len(token) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
