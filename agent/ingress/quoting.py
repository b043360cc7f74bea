"""Any text as one word of HAProxy's configuration or of a log format. Pure.

Source: HAProxy 2.6 configuration manual, sections 2.2 "Quoting and escaping" and 8.2.4 "Custom log format".
"""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:-]")


def word(text: str) -> str:
    """Return text as a word: whatever could have a meaning is written as its bytes in hexadecimal."""
    return "".join(
        char if _PLAIN.fullmatch(char) else "".join(f"\\x{byte:02x}" for byte in char.encode())
        for char in text
    )


def literal(text: str) -> str:
    """Return text as a part of a log format that stands for itself."""
    return text.replace("%", "%%")


def pattern(wildcards: str) -> str:
    """Return the regular expression of a text with ``*`` (any characters) and ``?`` (one of them)."""
    parts = {"*": ".*", "?": "."}
    return "".join(parts.get(char) or re.escape(char) for char in wildcards)
