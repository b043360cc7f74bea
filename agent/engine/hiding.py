"""Texts of the engine without the secrets that a container was made with. Pure.

An engine repeats what it cannot use: the value of a log option that its driver refuses, say. Such a text
becomes a reason, a log line, and a report to control.

Tests: ``tests/unit/engine/test_hiding.py``.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.engine.preparations.secret_references import LOG_DRIVER

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.model.payload import Container

HIDDEN: Final = "***"
_SHORT: Final = 4
"""A shorter value is hidden only where it stands alone, to leave the rest of the text readable."""
WITHHELD: Final = (
    "the engine's text is not repeated, because it may show a secret option of the log driver; "
    "'docker inspect' on the host shows it"
)


def without(values: Iterable[str], text: str) -> str:
    """Return a text without these values, as they are or as texts usually quote them."""
    forms = {form for value in values if value.strip() for form in _forms(value)}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= _SHORT:
            text = text.replace(form, HIDDEN)
        else:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
    return text


def hidden(container: Container, values: Iterable[str], text: str) -> str:
    """Return an engine's text about a container as it may be shown.

    Args:
        container: what it is about.
        values: every secret of its task that is known now; none after a restart of the agent.
        text: what the engine said.
    """
    known = list(values)
    if known or not text:
        return without(known, text)
    has_secret_options = any(secret.target == LOG_DRIVER for secret in container.secrets)
    return WITHHELD if has_secret_options else text


def _forms(value: str) -> set[str]:
    stripped = value.strip()
    return {value, stripped, json.dumps(stripped)[1:-1], quote(stripped, safe="")}
