"""docs/configuration.md is the table of settings: ``make docs`` writes it anew."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from agent.config import amazon, host_policy, json_file
from agent.config.known import GIVEN_TO_CONTAINERS
from agent.config.settings import variables
from tests.support import generated

if TYPE_CHECKING:
    from agent.config.variable import Variable

PAGE = generated.DOCS / "configuration.md"


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
    marks = " *Ours.*" if variable.ours else ""
    marks += " *Amazon ECS.*" if variable.amazon_only else ""
    return f"| `{variable.name}` | {default} | {kind} | {variable.doc}{marks} |\n"


def _settings_table() -> str:
    head = "| Variable | Default | Syntax | Meaning |\n| --- | --- | --- | --- |\n"
    return head + "".join(_row(variable) for variable in variables().values())


def _amazon_tables() -> str:
    text = ""
    for title, group in amazon.GROUPS.items():
        text += f"\n### {title}\n\n"
        text += "| Amazon's agent | Its default | Here | How, or why |\n| --- | --- | --- | --- |\n"
        for row in group:
            plain = " " in row.default or "`" in row.default
            default = row.default if plain else f"`{row.default}`"
            text += f"| `{row.name}` | {default if row.default else 'none'} | {row.verdict} | "
            text += f"{row.how} |\n" if row.how else "|\n"
    return f"{text}\n"


def _json_table() -> str:
    head = "| Member | Variable |\n| --- | --- |\n"
    return head + "".join(
        f"| `{m}` | `{name}` |\n" for m, name in sorted(json_file.MEMBERS.items())
    )


def test_the_page_holds_every_setting_as_the_code_does() -> None:
    generated.holds(PAGE, "settings", _settings_table())
    generated.holds(PAGE, "amazon", _amazon_tables())
    generated.holds(PAGE, "json", _json_table())


@pytest.mark.parametrize("name", ["configuration.md", "amazon-ecs.md", "troubleshooting.md"])
def test_pages_name_no_setting_that_does_not_exist(name: str) -> None:
    typing_error = {"ECS_CLUSTR"}  # shown as one
    ours = {variable.name for variable in variables().values()}
    known = ours | set(amazon.rows()) | GIVEN_TO_CONTAINERS | typing_error
    text = PAGE.with_name(name).read_text()
    assert set(re.findall(r"\bECS_[A-Z0-9_]*[A-Z0-9]\b", text)) <= known


def _policy_value(value: object) -> str:
    if value is None or value == (host_policy.ANY,):
        return "any"
    if value is True or value is False:
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{each}`" for each in value) or "none"
    return f"`{value}`"


def _policy_table() -> str:
    bases = host_policy.HOST_POLICY_BASES
    rows = [
        [
            f"`{name}`",
            str(rule["doc"]),
            *(_policy_value(getattr(base, name)) for base in bases.values()),
        ]
        for name, rule in host_policy.rules().items()
    ]
    return generated.table(["Rule", "Meaning", *(f"`{name}`" for name in bases)], rows)


def test_the_page_of_host_policies_has_every_rule() -> None:
    generated.holds(generated.DOCS / "host-policy.md", "rules", _policy_table())
