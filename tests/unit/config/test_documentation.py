"""docs/configuration.md is the table of settings: write it anew with WRITE_DOCS=1 in front of pytest."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config.known import WITHOUT_EFFECT
from agent.config.settings import variables

if TYPE_CHECKING:
    from agent.config.variable import Variable

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: begin -->\n", "<!-- settings: end -->\n"
NAMES_BEGIN, NAMES_END = "<!-- no effect: begin -->\n", "<!-- no effect: end -->\n"


def _row(variable: Variable) -> str:
    default = variable.note or (f"`{variable.default_text}`" if variable.default_text else "none")
    kind = variable.kind.label
    if variable.bounds is not None:
        low, high = variable.bounds.low, variable.bounds.high
        unit = "s" if kind == "duration" else ""
        limits = [f"from {low:g}{unit}"] if low is not None else []
        limits += [f"to {high:g}{unit}"] if high is not None else []
        outside = {"clamp": "", "default": ", else the default", "refuse": ", else refused"}
        kind += f" {' '.join(limits)}{outside[variable.bounds.outside]}"
    ours = " *Ours.*" if variable.ours else ""
    return f"| `{variable.name}` | {default} | {kind} | {variable.doc}{ours} |\n"


def _settings_table() -> str:
    head = "| Variable | Default | Syntax | Meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(_row(variable) for variable in variables().values())


def _names() -> str:
    return " ".join(f"`{name}`" for name in sorted(WITHOUT_EFFECT)) + "\n"


def _section(text: str, begin: str, end: str) -> str:
    return text.partition(begin)[2].partition(end)[0]


def test_the_page_holds_every_setting_as_the_code_does() -> None:
    text = PAGE.read_text()
    if os.environ.get("WRITE_DOCS"):
        for begin, end, body in (
            (BEGIN, END, _settings_table()),
            (NAMES_BEGIN, NAMES_END, _names()),
        ):
            text = text.replace(begin + _section(text, begin, end) + end, begin + body + end)
        PAGE.write_text(text)
    assert _section(text, BEGIN, END) == _settings_table()
    assert _section(text, NAMES_BEGIN, NAMES_END) == _names()


def test_the_page_names_no_setting_that_does_not_exist() -> None:
    typing_error = {"ECS_CLUSTR"}  # shown as one
    known = {variable.name for variable in variables().values()} | WITHOUT_EFFECT | typing_error
    assert set(re.findall(r"\bECS_[A-Z0-9_]*[A-Z0-9]\b", PAGE.read_text())) <= known
