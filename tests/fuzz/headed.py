"""A request as control's codecs see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Sent:
    """Head of a request; meets ``codecs.contract.Headed``."""

    method: str = "POST"
    path: str = "/"
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0]
