"""Filter patterns: which messages FilterLogEvents returns. Pure.

Terms, phrases in quotes, ``-excluded`` and ``?optional`` ones are looked for as they are written, also
within words; what is not optional must be there, and of the optional ones, one. A pattern in braces is
about JSON (``json_patterns``). Regular expressions (``%...%``) and patterns of fields (``[...]``) are refused.

Source: the user guide of CloudWatch Logs, "Filter pattern syntax".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.controlplane.api.logs import json_patterns
from agent.controlplane.api.logs.json_patterns import PatternRefused

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PatternRefused", "parse"]

_TERM: Final = re.compile(
    r'\s*(?P<how>[-?]?)\s*(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|(?P<word>[^\s"]+))'
)


def parse(pattern: str) -> Callable[[str], bool] | None:
    """Return the predicate of a pattern; None for one that matches everything.

    Raises:
        PatternRefused: it is invalid, or of a kind that is not served.
    """
    text = pattern.strip()
    if not text:
        return None
    if text.startswith("{"):
        return json_patterns.parse(text)
    if text.startswith("["):
        raise PatternRefused(
            "patterns of space-delimited fields ([...]) are not supported; use terms, or JSON logs with "
            '{ $.field = "value" }'
        )
    if text.startswith("%"):
        raise PatternRefused(
            "regular expressions (%...%) are not supported; use terms, which match within words, too"
        )
    return _terms(text)


def _terms(text: str) -> Callable[[str], bool]:
    wanted: dict[str, list[str]] = {"": [], "-": [], "?": []}
    at = 0
    while at < len(text):
        found = _TERM.match(text, at)
        if found is None:
            raise PatternRefused(f"the quotes are not closed behind {text[at : at + 32]!r}")
        term = found["word"]
        if term is None:
            term = re.sub(r"\\(.)", r"\1", found["phrase"])
        wanted[found["how"]].append(term)
        at = found.end()
    needed, excluded, optional = wanted[""], wanted["-"], wanted["?"]

    def matches(message: str) -> bool:
        return (
            all(term in message for term in needed)
            and not any(term in message for term in excluded)
            and (not optional or any(term in message for term in optional))
        )

    return matches
