"""One row of the table of settings: everything about a variable except its value. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.values import Kind


@dataclass(frozen=True, slots=True)
class Bounds:
    """The range of a number, and whether a value outside is clamped, ignored or refused."""

    low: float | None = None
    high: float | None = None
    outside: Literal["clamp", "default", "refuse"] = "clamp"


@dataclass(frozen=True, slots=True)
class Variable:
    """Everything about one setting except its value."""

    name: str
    kind: Kind
    default_text: str
    """The default as an operator would write it; empty if there is none."""
    doc: str
    bounds: Bounds | None = None
    ours: bool = False
    """True if the Amazon ECS agent has no such variable."""
    amazon_only: bool = False
    """True if it has no effect on a host with ``ECS_CONTROL_ENDPOINT``."""
    note: str = ""
    """The default in words, if it depends on the host."""


def setting(  # noqa: PLR0913 - one parameter per column of the table
    name: str,
    kind: Kind,
    default_text: str,
    doc: str,
    *,
    bounds: Bounds | None = None,
    ours: bool = False,
    amazon_only: bool = False,
    note: str = "",
    empty: Callable[[], Any] = str,
) -> Any:
    """Describe one field; ``empty`` creates its value if ``default_text`` is empty."""
    variable = Variable(name, kind, default_text, doc, bounds, ours, amazon_only, note)
    metadata = {"variable": variable}
    make = (lambda: kind.parse(default_text)) if default_text else empty
    return field(default_factory=make, metadata=metadata, repr=not kind.holds_password)
