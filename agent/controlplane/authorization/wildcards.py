"""Patterns of policies: ``*`` stands for any characters, ``?`` for one, ``${key}`` for a value of the request. Pure.

Matching takes time in proportion to the text, however many stars a pattern has: each piece between stars is
searched once, from where the piece before it ended.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TOKEN: Final = re.compile(r"\$\{([^{}]*)\}|([*?])|([^*?$]+|\$)")
_WILD: Final = re.compile(r"(?!)()|([*?])|([^*?]+)")
"""The same groups, of which the first never matches."""
_LITERALS: Final = {"*", "?", "$"}
"""What ``${*}``, ``${?}`` and ``${$}`` mean: the character itself."""
_STAR: Final = "*"


class Patterns:
    """Some patterns, any of which may match; immutable."""

    def __init__(
        self,
        patterns: Sequence[str],
        *,
        has_variables: bool,
        has_wildcards: bool = True,
        ignores_case: bool = False,
    ) -> None:
        """Compile patterns.

        Args:
            patterns: as in a document.
            has_variables: whether ``${...}`` is a variable; in old documents it is text.
            has_wildcards: whether ``*`` and ``?`` stand for other characters.
            ignores_case: as for actions.
        """
        self._flags = re.DOTALL | (re.IGNORECASE if ignores_case else 0)
        parsed = [_tokens(each, has_variables, has_wildcards) for each in patterns]
        plain = [tokens for tokens in parsed if not _names(tokens)]
        self._plain = re.compile("|".join(map(_regex, plain)), self._flags) if plain else None
        self._varying = [tokens for tokens in parsed if _names(tokens)]
        self.variables = frozenset(name for tokens in self._varying for name in _names(tokens))
        """Keys of the variables in them, lower case."""

    def match(self, text: str, values: Mapping[str, tuple[str, ...]]) -> bool:
        """Return whether any pattern matches a whole text.

        Args:
            text: the text.
            values: of keys, by their names in lower case; a pattern with a variable that has not exactly
                one value matches nothing.
        """
        if self._plain is not None and self._plain.fullmatch(text):
            return True
        return any(self._matches(tokens, text, values) for tokens in self._varying)

    def _matches(
        self, tokens: list[tuple[str, str]], text: str, values: Mapping[str, tuple[str, ...]]
    ) -> bool:
        filled = []
        for kind, value in tokens:
            if kind != "variable":
                filled.append((kind, value))
                continue
            found = values.get(value, ())
            if len(found) != 1:
                return False
            filled.append(("text", found[0]))
        return re.compile(_regex(filled), self._flags).fullmatch(text) is not None


def variables(pattern: str) -> set[str]:
    """Return the keys of the variables in a pattern, as written."""
    return {match[1] for match in _TOKEN.finditer(pattern) if match[1] is not None} - _LITERALS


def _tokens(pattern: str, has_variables: bool, has_wildcards: bool) -> list[tuple[str, str]]:
    """Return kinds (``text``, ``wild``, ``variable``) and values."""
    found = []
    for match in (_TOKEN if has_variables else _WILD).finditer(pattern):
        name, wild, text = match.groups()
        if wild:
            found.append(("wild" if has_wildcards else "text", wild))
        elif text:
            found.append(("text", text))
        elif name in _LITERALS:
            found.append(("text", name))
        else:
            found.append(("variable", name.lower()))
    return found


def _names(tokens: list[tuple[str, str]]) -> list[str]:
    return [value for kind, value in tokens if kind == "variable"]


def _regex(tokens: list[tuple[str, str]]) -> str:
    pieces = [""]
    for kind, value in tokens:
        if kind == "wild" and value == _STAR:
            pieces.append("")
        else:
            pieces[-1] += "." if kind == "wild" else re.escape(value)
    first, *rest = pieces
    if not rest:
        return first
    *middle, last = rest
    # Atomic: a piece that was found is never searched for again further on.
    return first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
