"""Token files: one token per line, ``#`` comments; same syntax for control and agents. Pure.

Control accepts any token in its file; an agent sends the first token of its own file.
"""

from __future__ import annotations

import re
from typing import Final

MIN_LENGTH: Final = 16
MAX_LENGTH: Final = 512
MAX_BYTES: Final = 64 * 1024
"""A larger file is not a token file."""
_SYNTAX: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""What may follow ``Bearer`` in a header."""


def parse(text: str) -> list[str]:
    """Return the tokens in the text of a file, in order, without duplicates.

    Raises:
        ValueError: there is no token, or a line is not a token. The text gives the line number and
            never shows the line.
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
        raise ValueError("holds no token; create one with 'openssl rand -hex 32'")
    return list(found)


def check(token: str) -> None:
    """Raise ``ValueError`` unless the text is a valid token; the error never shows the token."""
    if not _SYNTAX.fullmatch(token):
        raise ValueError("is not a token; use only letters, digits and . _ ~ + / -")
    if len(token) < MIN_LENGTH:
        raise ValueError(f"is shorter than {MIN_LENGTH} characters and could be guessed")
    if len(token) > MAX_LENGTH:
        raise ValueError(f"is longer than {MAX_LENGTH} characters")
