"""docs/ecs-api.md names every call that is served, docs/task-definition.md every field.

``make docs`` writes their tables.

What is served is read from the server itself, what there is from botocore's models, so that an
operation that is added, here or by Amazon, shows up by itself.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader

from agent.controlplane.agents.amazon import calls
from agent.controlplane.api.table import APIS, ECS
from agent.controlplane.definition import fields
from agent.controlplane.definition.fields import DEFINITION, RUN, Field, Support
from agent.controlplane.definition.service_fields import SERVICE
from agent.controlplane.front.door import ServiceRouter
from agent.controlplane.roles.needed import ECR_IMAGE
from tests.support import generated
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

PAGE = generated.DOCS / "ecs-api.md"
DEFINITIONS = generated.DOCS / "task-definition.md"
SERVED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    api.service: (
        frozenset(api.handlers()),
        calls.OPERATIONS if api is ECS else frozenset(),
    )
    for api in APIS
}
"""By botocore's name of a service: what operators may call, and what agents alone do."""
_LISTED_MOST = 400
"""Names of operations that are not served; of more, only their number is told."""
_HEADERS = (
    "Field",
    "What becomes of it",
    "Attribute that the host needs",
    "Difference from Amazon ECS",
)
_VALUES = {
    fields._ABOVE_10_VCPUS.pattern: "above 10 vCPUs",
    fields._OF_SECRETS_MANAGER.pattern: "of Secrets Manager",
    ECR_IMAGE.pattern: "in Amazon ECR",
}
"""Values of a row whose pattern is not a list of words."""


def _services() -> str:
    return "".join(_service(name, *served) for name, served in SERVED.items())


def _service(name: str, for_operators: frozenset[str], for_agents: frozenset[str]) -> str:
    model = Loader().load_service_model(name, "service-2")
    known = set(model["operations"])
    served = for_operators | for_agents
    assert served <= known, f"{name} has no operations {served - known}"
    rows = [
        (f"`{operation}`", "agents" if operation in for_agents - for_operators else "operators")
        for operation in sorted(served)
    ]
    rest = sorted(known - served)
    others = ", ".join(f"`{operation}`" for operation in rest)
    if len(rest) > _LISTED_MOST:
        others = f"the {len(rest)} others"
    about = model["metadata"]
    title = about.get("serviceAbbreviation") or about["serviceFullName"]
    return (
        f"\n### {title}: {len(served)} of {len(known)} operations\n\n"
        + generated.table(["Operation", "For"], rows)
        + (f"\nNot served: {others}.\n\n" if others else "\n")
    )


def _fields() -> str:
    parts = []
    for title, rows, words in (
        ("Task definitions", DEFINITION, {}),
        (
            "RunTask and StartTask",
            RUN,
            {Support.REFUSED: "refused"},
        ),
        ("CreateService and UpdateService", SERVICE, {Support.REFUSED: "refused"}),
    ):
        parts.append(f"\n### {title}\n\n")
        headers = ["Field", "What becomes of it", "Why, or what to do"]
        parts.append(generated.table(headers, _told(rows, words)))
    return f"{''.join(parts)}\n"


def _told(rows: tuple[Field, ...], words: dict[Support, str]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        if row.support is Support.DONE and not row.note:
            continue
        yield _which(row), words.get(row.support, row.support.value), _note(row)


def _which(row: Field) -> str:
    which = f"`{row.path.removesuffix('.*')}`"
    if row.only is not None:
        which += f": {_VALUES.get(row.only.pattern) or _words(row.only.pattern)}"
    return which


def _words(pattern: str) -> str:
    words = re.sub(r"\[.*", "", pattern).removesuffix(".*").split("|")
    return ", ".join(f"`{word}`" for word in words)


def _note(row: Field) -> str:
    return re.sub(r"'([A-Za-z.\[\]]+)'", r"`\1`", row.note or row.text)


def _definition() -> str:
    """Every row of a task definition; what has no note is done as Amazon ECS does it."""
    parts = []
    for title, rows in _sections():
        told = [
            (
                _which(row),
                row.support.value,
                _attribute(row),
                _note(row) or "as on Amazon ECS",
            )
            for row in rows
        ]
        parts.append(f"\n### {title}\n\n" + generated.table(_HEADERS, told))
    return f"{''.join(parts)}\n"


def _attribute(row: Field) -> str:
    if row.support is Support.REFUSED:
        return "no host can do it"
    value = row.only.pattern if row.only and row.only.pattern.isalpha() else "VALUE"
    return f"`{row.attribute.format(value=value)}`" if row.attribute else "none"


def _sections() -> Iterator[tuple[str, list[Field]]]:
    """The rows by what they are part of."""
    for title, prefix in (
        ("The task", ""),
        ("Containers", "containerDefinitions[]."),
        ("Volumes", "volumes[]."),
    ):
        others = ("containerDefinitions[].", "volumes[].") if not prefix else ()
        yield (
            title,
            [
                replace(row, path=row.path.removeprefix(prefix))
                for row in DEFINITION
                if row.path.startswith(prefix) and not row.path.startswith(others)
            ],
        )


def test_the_page_names_what_is_served_and_what_is_not() -> None:
    generated.holds(PAGE, "operations", _services())
    generated.holds(PAGE, "fields", _fields())


def test_the_page_of_task_definitions_has_every_field_with_all_that_is_known_of_it() -> None:
    generated.holds(DEFINITIONS, "fields", _definition())
    rows = [line for line in DEFINITIONS.read_text().splitlines() if line.startswith("| ")]
    assert not [row for row in rows if not all(cell.strip() for cell in row.split("|")[1:-1])]
    told = sum(len(rows) for _, rows in _sections())
    assert told == len(DEFINITION), "each row is in one section"


async def test_the_page_has_every_service_that_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()

    make = ServiceRouter.__init__

    def watched(door: ServiceRouter, services: Any, *others: Any, **more: Any) -> None:
        seen.update(services)
        make(door, services, *others, **more)

    monkeypatch.setattr(ServiceRouter, "__init__", watched)
    async with control_endpoint(tmp_path):
        pass
    signed_as = {"cloudwatch": "monitoring", "elbv2": "elasticloadbalancing"}
    assert seen == {signed_as.get(name, name) for name in SERVED}
