"""How control gets credentials of roles."""

from __future__ import annotations

from typing import Final

from msgspec import Struct, field

DURATION_S: Final = 3600.0
"""The longest that keys of a role may ask for, and what STS gives by default."""


class Environ(dict[str, str]):
    """Environment variables, which may hold keys: ``repr`` shows none of them."""

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"Environ({len(self)} variables)"


class RoleSettings(Struct, frozen=True, kw_only=True):
    """Where keys are found, and for how long credentials are requested."""

    environ: Environ = field(default_factory=Environ)
    """Variables of AWS: keys, profile, region, endpoints, proxies (``sts.Environment``)."""
    task_endpoint: str = ""
    """URL under which tasks reach this control endpoint; tasks with a role that is kept here are told it, unless
    it is empty."""
    duration_s: float = DURATION_S
    """How long credentials are to be valid."""
