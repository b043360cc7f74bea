r"""Control characters in texts from outside: shown as escapes, never sent. Pure.

A host name, a reason or an image name may contain anything. Texts for a terminal or a log line are
converted here, so that they can neither move the cursor, nor colour or hide text, nor forge a line.

Control characters are: C0 and C1 controls, DEL, line and paragraph separators, characters that reverse
or hide text (bidirectional controls, zero-width and tag characters), lone surrogates. Everything else,
including spaces and letters of any language, stays unchanged.
"""

from __future__ import annotations

import re
from typing import Final

ELLIPSIS: Final = "…"
CONTROLS: Final = (
    r"\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    r"\u2028\u2029"  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    r"\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible
    r"\ud800-\udfff"
)
"""Control characters, as the content of a character class in a regular expression."""
_ANY: Final = re.compile(f"[{CONTROLS}]")
_BEYOND_C0: Final = re.compile(f"(?![\x00-\x1f])[{CONTROLS}]")
_NAMED: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def is_plain(text: str) -> bool:
    """Return whether a text contains no control character, including line breaks."""
    return _ANY.search(text) is None


def shown(text: str, *, keep: str = "") -> str:
    r"""Return a text with its control characters as escapes: ``\x1b``, ``\u202e``, ``\n``.

    Args:
        text: any text.
        keep: control characters to keep, for example a line break.
    """
    return _ANY.sub(lambda match: match[0] if match[0] in keep else escape(match[0]), text)


def escape(character: str) -> str:
    """Return the escape of one character."""
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def in_json(document: str) -> str:
    """Return a JSON document with the same values, but without control characters in its strings.

    JSON itself requires escapes only for C0.
    """
    return _BEYOND_C0.sub(_json_escape, document)


def _json_escape(match: re.Match[str]) -> str:
    raw = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{raw[at]:02x}{raw[at + 1]:02x}" for at in range(0, len(raw), 2))


def clipped(text: str, limit: int) -> str:
    """Return at most ``limit`` characters of a text, and how many more there were."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}{ELLIPSIS} ({len(text) - limit} more characters)"
