"""Removes secrets from text: known values, and anything that looks like a secret. Pure.

Removing too much is a nuisance; removing too little is a leak. So the patterns are broad. The name
of a secret (``Authorization``, ``password=``) stays, so that a reader sees that something was
removed.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

REMOVED = "[removed]"
_SHORT = 6
"""A known value shorter than this is removed only as a whole word, to keep other text readable."""
_WORDS = (
    r"secret|token|passw(?:or)?d|passwd|passphrase|pwd|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|auth[_-]?data|x-registry-auth|credentials?|signature|activation[_-]?code|client[_-]?key"
)
_SECRET_NAME = re.compile(rf"(?:{_WORDS})", re.IGNORECASE)
_HARMLESS_NAME = re.compile(r"(?:file|path|dir|directory)$|^(?:old)?pwd$", re.IGNORECASE)
"""Names of variables that only locate a secret, and the shell's working directory."""
_QUOTE = r"\\{0,3}[\"']"
_NAMED = re.compile(
    rf"(?P<name>(?<![\w.-])[\w.-]{{0,64}}?(?:{_WORDS})[\w.-]{{0,64}}|(?<![\w.-])auth)"
    rf"(?P<middle>(?:{_QUOTE})?\s{{0,8}}[=:]\s{{0,8}})"
    rf"(?P<value>(?P<open>{_QUOTE}).{{0,8192}}?(?P=open)|[^\s,;&\"'{{}}\[\]]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?P<name>(?<![\w-])--?(?=[a-z])[a-z-]{{0,32}}?(?:{_WORDS})[a-z-]{{0,32}}\s+)[^\s-]\S*",
    re.IGNORECASE,
)
_LITERALS = frozenset({"true", "false", "null", "none", "yes", "no", "on", "off"})
"""Values that are never secrets, whatever their name."""
_PATTERNS = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)",
            re.DOTALL,
        ),
        REMOVED,
    ),
    (re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s@\"'<>]{1,512}@"), rf"\1{REMOVED}@"),
    (
        re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)[^/\s:@\"'<>]{1,256}:[^\s@\"'<>]{1,512}@"),
        rf"\1{REMOVED}@",
    ),
    (
        re.compile(
            rf"((?:proxy-)?authorization(?:{_QUOTE})?\s{{0,8}}[:=]\s{{0,8}}(?:{_QUOTE})?)[^\r\n\"']+",
            re.IGNORECASE,
        ),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE), rf"\1 {REMOVED}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}"), REMOVED),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), REMOVED),
)


class Redactor:
    """Knows the secrets of one host, and removes them from text."""

    def __init__(self, known: Iterable[str]) -> None:
        forms = {form for value in known for form in _forms(value)}
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._known = [form for form in ordered if len(form) >= _SHORT]
        short = [re.escape(form) for form in ordered if len(form) < _SHORT]
        self._short = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None

    def clean(self, text: str) -> str:
        """Return the text without secrets."""
        for form in self._known:  # ten times as fast as one pattern of thousands of branches
            text = text.replace(form, REMOVED)
        if self._short is not None:
            text = self._short.sub(REMOVED, text)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return _OPTION.sub(rf"\g<name>{REMOVED}", _NAMED.sub(_without_value, text))

    def clean_json(self, text: str) -> str:
        """Return JSON text without secrets, still valid JSON; treat other text like ``clean``."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return self.clean(text)
        return json.dumps(self._cleaned(value), indent=2, ensure_ascii=False) + "\n"

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {
                self.clean(name): REMOVED if _is_secret(name, item) else self._cleaned(item)
                for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        if isinstance(value, str):
            return self.clean(value)
        if isinstance(value, bool) or value is None:
            return value
        number = str(value)
        return value if self.clean(number) == number else REMOVED


def _is_secret(name: str, value: object) -> bool:
    """Tell whether the name of a JSON member marks it as a secret."""
    return isinstance(value, str) and bool(value) and (name == "auth" or is_secret_name(name))


def is_secret_name(name: str) -> bool:
    """Tell whether a variable or field with this name may hold a secret."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def _without_value(found: re.Match[str]) -> str:
    value, quoted = found["value"], found["open"]
    if value.lower() in _LITERALS or _HARMLESS_NAME.search(found["name"]):
        return found[0]
    shown = f"{quoted}{REMOVED}{quoted}" if quoted else REMOVED
    return f"{found['name']}{found['middle']}{shown}"


def _forms(value: str) -> set[str]:
    """Return the forms in which a value may appear in logs: plain, in JSON, in a URL, in base64."""
    value = value.strip()
    if not value or value.lower() in _LITERALS:
        return set()
    encoded = base64.b64encode(value.encode("utf-8", errors="replace")).decode().rstrip("=")
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms.add(quote(value, safe=""))
    if len(value) >= _SHORT:
        forms.add(encoded)
    return forms
