"""All decoders, and their families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.fuzz import decoders_of_control, decoders_of_hosts

if TYPE_CHECKING:
    from tests.fuzz.decoder import Decoder

DECODERS: Final[list[Decoder]] = [*decoders_of_hosts.DECODERS, *decoders_of_control.DECODERS]
FAMILIES: Final = tuple(dict.fromkeys(one.family for one in DECODERS))


def of_family(family: str) -> list[Decoder]:
    """Return the decoders of a family, always in the same order."""
    return [one for one in DECODERS if one.family == family]
