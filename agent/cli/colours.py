r"""Filters output of containers for a terminal: only text and colours pass. Pure.

A state machine over chunks, which may end anywhere, even inside a character or an escape sequence.
The only escape sequence that passes is SGR (``ESC [ … m``: colour, bold, underline). The escape
character of any other sequence is shown as ``\x1b``, so that the rest is plain text. Line breaks,
tabs and ``\r\n`` pass; a lone ``\r``, which would overwrite the line, is shown as an escape.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

from agent import escapes

_LONGEST: Final = 64
"""Maximum number of characters between ``ESC [`` and ``m``; usual colours need at most 16."""
_PARTS: Final = re.compile(
    rf"(?P<colour>\x1b\[[0-9;:]{{0,{_LONGEST}}}m)|(?P<line>\r\n)|(?P<one>[{escapes.CONTROLS}])"
)
_UNFINISHED: Final = re.compile(rf"(?:\x1b(?:\[[0-9;:]{{0,{_LONGEST}}})?|\r)\Z")
_RESET: Final = "\x1b[0m"
_RESETS: Final = frozenset({"\x1b[m", _RESET})


class ColourFilter:
    """Filters one stream, from its first byte to its last."""

    def __init__(self) -> None:
        # Invalid UTF-8 is shown as escapes: a terminal could treat such bytes as C1 controls.
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        """An incomplete character or sequence at the end of the last chunk."""
        self._is_coloured = False

    def feed(self, chunk: bytes) -> str:
        """Return what can be printed after this chunk; an incomplete rest is held back."""
        text = self._held + self._decoder.decode(chunk)
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished else len(text)
        self._held = text[end:]
        return self._shown(text[:end])

    def end(self) -> str:
        """Return what is left at the end of the stream, with a reset if it left a colour on."""
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
