"""The commands of ``docs/install.md``, and where each is to be run.

A block of commands says so in a comment before it, which readers do not see: ``<!-- run: PLACE -->``,
or several places.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs/install.md"
_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<places>[a-z ]+) -->\n)?^```sh\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """One block of commands."""

    section: str
    """The heading that it stands under."""
    places: tuple[str, ...]
    """Where it is run; empty when the page does not say."""
    text: str


def blocks() -> list[Block]:
    """Return every block of the page, in order."""
    found = []
    for part in re.split(r"^#+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        section, _, rest = part.partition("\n")
        found += [
            Block(section, tuple((match["places"] or "").split()), match["text"])
            for match in _BLOCK.finditer(rest)
        ]
    return found


def commands(section: str, place: str) -> list[str]:
    """Return what a section has for one place, in order; fails when there is nothing."""
    found = [b.text for b in blocks() if b.section == section and place in b.places]
    assert found, f"{PAGE.name} has nothing under '{section}' to run on {place}"
    return found
