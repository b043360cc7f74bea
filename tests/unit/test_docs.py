"""What the documentation names is there: tests, modules, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEST = re.compile(r"(?<![\w/.-])(?:tests/)?((?:unit|integration|vm)/[\w/]+\.py)")
FILE = re.compile(
    r"(?<![\w/.-])((?:agent|packaging|packer|scripts|systemd)/[\w./-]+\.(?:py|md|service))\b"
)


def missing(page: Path) -> list[str]:
    text = page.read_text()
    named = [f"tests/{path}" for path in TEST.findall(text)] + FILE.findall(text)
    return sorted({path for path in named if not (ROOT / path).exists()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert not missing(page)


def test_reliability_names_tests_in_every_row() -> None:
    rows = re.findall(r"^\|.*\|$", (ROOT / "docs/reliability.md").read_text(), flags=re.MULTILINE)
    told = [row for row in rows if not re.match(r"\| (What|Damage|---)", row)]
    assert told
    assert len([row for row in told if TEST.search(row)]) > len(told) // 2
