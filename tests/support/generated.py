"""Sections of pages that are generated from the code: ``make docs`` writes them, tests check them.

A section is between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``. With ``WRITE_DOCS`` in the
environment, a test writes its sections instead of comparing them; ``make docs`` does only that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DOCS = Path(__file__).parents[2] / "docs"


def holds(page: Path, name: str, body: str) -> None:
    """Fail unless a section of a page matches the code; write it if requested."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    text = page.read_text()
    head, found, rest = text.partition(begin)
    section, closed, tail = rest.partition(end)
    assert found, f"{page.name} has no section {name}"
    assert closed, f"the section {name} of {page.name} has no end"
    if os.environ.get("WRITE_DOCS"):
        section = body
        page.write_text(f"{head}{begin}{section}{end}{tail}")
    assert section == body, f"docs/{page.name} is outdated: run 'make docs'"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown; cells are already formatted."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).replace(" |  |", " | |")
