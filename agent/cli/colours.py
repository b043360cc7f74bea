r"""Output of containers for a terminal: text and colours go through, and nothing else. Pure.

A state machine over chunks that may end anywhere, in a character or in an escape sequence as well.
Of all sequences only SGR (``ESC [ … m``: colour, bold, underline) goes through. The escape character
of any other one is shown as ``\x1b``, so that the rest of it is plain text. Line breaks and tabs stay,
also ``\r\n``; a ``\r`` alone, which would write over the line, is shown.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from agent import escapes

_LONGEST: Final = 64
"""Characters between ``ESC [`` and ``m``; ordinary colours have 16 at most."""
_PARTS: Final = re.compile(
    rf"(?P<colour>\x1b\[[0-9;:]{{0,{_LONGEST}}}m)|(?P<line>\r\n)|(?P<one>[{escapes.CONTROLS}])"
)
_UNFINISHED: Final = re.compile(rf"(?:\x1b(?:\[[0-9;:]{{0,{_LONGEST}}})?|\r)\Z")
_RESET: Final = "\x1b[0m"
_RESETS: Final = frozenset({"\x1b[m", _RESET})


class ColourFilter:
    """Filters one stream, from its first byte to its last."""

    def __init__(self) -> None:
        # Bytes that are no UTF-8 are shown too: as C1 controls they would command a terminal.
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        """The begin of something that only the next chunk can tell."""
        self._is_coloured = False

    def feed(self, chunk: bytes) -> str:
        """Return what of the stream can be printed with this chunk; the rest is held."""
        text = self._held + self._decoder.decode(chunk)
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return self._shown(text[:end])

    def end(self) -> str:
        """Return what is left at the stream's end; colours do not outlive it."""
        left = self._shown(escapes.shown(self._held + self._decoder.decode(b"", final=True)))
        self._held = ""
        reset = _RESET if self._is_coloured else ""
        self._is_coloured = False
        return left + reset

    def _shown(self, text: str) -> str:
        return _PARTS.sub(self._part, text)

    def _part(self, match: re.Match[str]) -> str:
        if match["colour"]:
            self._is_coloured = match[0] not in _RESETS
            return match[0]
        return match[0] if match["line"] else escapes.shown(match[0], keep="\n\t")
