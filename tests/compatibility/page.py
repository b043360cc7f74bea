"""Writes docs/compatibility.md from results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.compatibility.__main__ import Result

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
_BEGIN = "<!-- begin results -->\n"
_END = "<!-- end results -->\n"


def write(results: Sequence[Result], sources: Sequence[dict[str, str]]) -> None:
    """Replace the part of the page that is made from results."""
    head, _, rest = PAGE.read_text().partition(_BEGIN)
    tail = rest.partition(_END)[2]
    PAGE.write_text(f"{head}{_BEGIN}{text(results, sources)}{_END}{tail}")


def text(results: Sequence[Result], sources: Sequence[dict[str, str]]) -> str:
    """Return the generated part of the page."""
    count = Counter(result.outcome for result in results)
    commits = {source["repository"]: source["commit"] for source in sources}
    lines = [
        (
            f"{count['runs']} of {len(results)} definitions from {len(commits)} repositories run with "
            "everything they ask for."
        ),
        "",
        "| Repository, commit | Definition | Result |",
        "| --- | --- | --- |",
        *_rows(results, commits),
    ]
    return "\n".join(lines) + "\n"


def _rows(results: Iterable[Result], commits: dict[str, str]) -> Iterable[str]:
    for result in results:
        where = f"`{result.source}` {commits[result.source][:10]}"
        detail = result.detail.replace("|", "\\|")
        outcome = result.outcome + (f": {detail}" if detail else "")
        yield f"| {where} | `{result.path}` | {outcome} |"
