"""docs/ecs-api.md names every call that is served and every field that is not: ``make docs`` writes it.

What is served is read from the server itself, what there is from botocore's models, so that an
operation that is added, here or by Amazon, shows up by itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader

from agent.controlplane.agents.amazon import calls
from agent.controlplane.api.table import APIS, ECS
from agent.controlplane.definition.fields import DEFINITION, RUN, Field, Support
from agent.controlplane.front.door import ServiceRouter
from tests.support import generated
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

PAGE = generated.DOCS / "ecs-api.md"
SERVED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    api.service: (
        frozenset(api.handlers()),
        calls.OPERATIONS if api is ECS else frozenset(),
    )
    for api in APIS
}
"""By botocore's name of a service: what operators may call, and what agents alone do."""


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
    others = ", ".join(f"`{operation}`" for operation in sorted(known - served))
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
            dict.fromkeys((Support.REFUSED, Support.NOT_RUN), "refused"),
        ),
    ):
        parts.append(f"\n### {title}\n\n")
        headers = ["Field", "What becomes of it", "Why, or what to do"]
        parts.append(generated.table(headers, _told(rows, words)))
    return f"{''.join(parts)}\n"


def _told(rows: tuple[Field, ...], words: dict[Support, str]) -> Iterator[tuple[str, str, str]]:
    for row in rows:
        if row.support is Support.DONE and not row.note:
            continue
        which = f"`{row.path.removesuffix('.*')}`"
        if row.only is not None:
            only = re.sub(r"\[.*", "", row.only.pattern).removesuffix(".*").split("|")
            which += f": {', '.join(f'`{word}`' for word in only)}"
        note = re.sub(r"'([A-Za-z.\[\]]+)'", r"`\1`", row.note or row.text)
        yield which, words.get(row.support, row.support.value), note


def test_the_page_names_what_is_served_and_what_is_not() -> None:
    generated.holds(PAGE, "operations", _services())
    generated.holds(PAGE, "fields", _fields())


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
    assert seen == set(SERVED)
