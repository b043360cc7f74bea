"""What the calls of our own have in common: how they are refused, and how they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from msgspec import Struct


class OwnCallRefused(Exception):
    """A request that is not carried out."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def answer(body: Struct) -> web.Response:
    """Return an answer."""
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


def problem(status: int, message: str) -> web.Response:
    """Return an error."""
    body = msgspec.json.encode({"message": message})
    return web.Response(status=status, body=body, content_type="application/json")
