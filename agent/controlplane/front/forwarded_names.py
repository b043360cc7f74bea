"""The operation of a call that control does not serve, as far as it can be told. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from agent.controlplane.front.codecs.contract import Headed

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
_CBOR: Final = re.compile(r"/service/[^/]+/operation/([^/]+)/?")
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FIELDS_MOST: Final = 10_000


def operation_of(request: Headed, body: bytes) -> str:
    """Return the name of the operation; the method for a call that names none, and empty if such a call only reads.

    Args:
        request: the head of the request.
        body: what is known of its body.
    """
    named = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
    if not named and (match := _CBOR.fullmatch(request.path)):
        named = match[1]
    if not named:
        named = _action(request.query_string) or _action(body.decode("ascii", "replace"))
    if _NAME.fullmatch(named):
        return named
    return "" if request.method in _READS else request.method


def _action(form: str) -> str:
    if "Action=" not in form:
        return ""
    try:
        return dict(parse_qsl(form, max_num_fields=_FIELDS_MOST)).get("Action", "")
    except ValueError:
        return ""
