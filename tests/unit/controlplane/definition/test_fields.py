from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from agent.controlplane.definition import support
from agent.controlplane.definition.fields import DEFINITION, RUN, Field, Support
from agent.controlplane.definition.service_fields import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = {
    "RegisterTaskDefinition": DEFINITION,
    "RunTask": RUN,
    "StartTask": RUN,
    "CreateService": SERVICE,
    "UpdateService": SERVICE,
}


def leaves(shape: Any, path: str = "") -> Iterator[str]:
    match shape.type_name:
        case "structure" if shape.members:  # a document has none
            for name, member in shape.members.items():
                yield from leaves(member, f"{path}.{name}" if path else name)
        case "list":
            yield from leaves(shape.member, f"{path}[]")
        case "map":
            yield f"{path}{{}}"
        case _:
            yield path


@pytest.fixture(scope="module")
def model() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")


def rows_of(table: tuple[Field, ...], path: str) -> list[Field]:
    return [row for row in table if support.covers(row, path)]


@pytest.mark.parametrize("operation", TABLES)
def test_every_field_of_the_model_stands_in_the_table(model: Any, operation: str) -> None:
    missing = [
        path
        for path in leaves(model.operation_model(operation).input_shape)
        if not rows_of(TABLES[operation], path)
    ]
    assert missing == []


def test_the_table_has_nothing_that_the_model_lacks(model: Any) -> None:
    for table, operations in (
        (DEFINITION, TABLES.keys() & {"RegisterTaskDefinition"}),
        (RUN, ("RunTask", "StartTask")),
        (SERVICE, ("CreateService", "UpdateService")),
    ):
        known = {p for o in operations for p in leaves(model.operation_model(o).input_shape)}
        unknown = [row.path for row in table if not any(support.covers(row, p) for p in known)]
        assert unknown == []


@pytest.mark.parametrize("table", [DEFINITION, RUN, SERVICE], ids=["definition", "run", "service"])
def test_a_field_has_one_row_and_others_for_single_values(table: tuple[Field, ...]) -> None:
    twice = [
        p for p, count in Counter(r.path for r in table if r.only is None).items() if count > 1
    ]
    assert twice == []
    special = {row.path for row in table if row.only is not None}
    assert special <= {row.path for row in table if row.only is None}
    last = {row.path: row for row in table}
    assert all(last[path].only is None for path in special), "the row for all values comes last"


@pytest.mark.parametrize("row", [*DEFINITION, *RUN, *SERVICE], ids=lambda row: row.path)
def test_what_is_not_done_says_why(row: Field) -> None:
    if row.support is not Support.DONE:
        assert row.note or row.text
    assert not row.note.endswith(".")
    if row.path.endswith(".*"):
        assert row.support is Support.REFUSED, "only a refusal covers a group"
