"""One row of the table of settings: what is known of a variable but its value. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.config.values import Kind


@dataclass(frozen=True, slots=True)
class Bounds:
    """What happens to a number outside its range: it is moved to the edge, or dropped."""

    low: float | None = None
    high: float | None = None
    outside: Literal["clamp", "default", "refuse"] = "clamp"


@dataclass(frozen=True, slots=True)
class Variable:
    """Everything that is known of one setting but its value."""

    name: str
    kind: Kind
    default_text: str
    """The default as an operator would write it; empty for none."""
    doc: str
    bounds: Bounds | None = None
    ours: bool = False
    """True where the Amazon ECS agent has no such variable."""
    amazon_only: bool = False
    """True where it has no effect on a host with ``ECS_CONTROL_ENDPOINT``."""
    note: str = ""
    """The default in words, where it depends on the host."""


def setting(  # noqa: PLR0913 - a row of the table has as many columns
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
    """Describe one field; ``empty`` makes its value when ``default_text`` is empty."""
    variable = Variable(name, kind, default_text, doc, bounds, ours, amazon_only, note)
    metadata = {"variable": variable}
    make = (lambda: kind.parse(default_text)) if default_text else empty
    return field(default_factory=make, metadata=metadata, repr=not kind.holds_password)
