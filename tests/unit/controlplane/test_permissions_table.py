"""The table of permissions names what every served call needs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from botocore.loaders import Loader

from agent.controlplane.agents.amazon import calls
from agent.controlplane.api.table import APIS
from agent.controlplane.authorization.actions import ecs, table
from agent.controlplane.authorization.actions.rows import Asked
from agent.controlplane.names import Names

_SAMPLE = {"string": "x", "integer": 1, "long": 1, "boolean": True, "float": 1.0, "double": 1.0}


@pytest.mark.parametrize("service", [api.service for api in APIS])
def test_each_served_call_has_a_row(service: str) -> None:
    """To serve another call, say in ``authorization.actions`` which permission it needs, on what."""
    api = next(api for api in APIS if api.service == service)
    missing = sorted(api.handlers().keys() - table.TABLE.get(service, {}).keys())
    assert not missing, f"authorization.actions says nothing of {service}: {missing}"


def test_rows_are_of_calls_that_there_are() -> None:
    for service, rows in table.TABLE.items():
        known = set(Loader().load_service_model(service, "service-2")["operations"])
        assert rows.keys() <= known, service
        prefixes = {row.action.partition(":")[0] for row in rows.values()} - {""}
        assert prefixes <= table.SERVICES, service
    assert not calls.OPERATIONS & table.TABLE["ecs"].keys()


def test_calls_that_have_a_cluster_are_about_it() -> None:
    """Otherwise a policy for the cluster ``default`` would allow what concerns no cluster."""
    known = Loader().load_service_model("ecs", "service-2")
    for operation in table.TABLE["ecs"]:
        shape = known["shapes"][known["operations"][operation]["input"]["shape"]]
        is_about_one = "cluster" in shape["members"] and "CapacityProvider" not in operation
        is_about_one |= operation == "PutClusterCapacityProviders"
        assert is_about_one == (operation not in ecs.WITHOUT_CLUSTER), operation


def test_the_cluster_of_a_resource_counts() -> None:
    names = Names()
    row = table.row("ecs", "TagResource")
    for arn in (names.service("shop", "web"), names.cluster("shop"), names.task("shop", "a" * 32)):
        assert row.of_resource(names, arn) == {"ecs:cluster": (names.cluster("shop"),)}
    for arn in (names.task_definition("web", 1), names.capacity_provider("shop"), "*"):
        assert row.of_resource(names, arn) == {}


def test_a_call_without_a_row_needs_its_name() -> None:
    row = table.row("elbv2", "DescribeAccountLimits")
    assert row.action == "elasticloadbalancing:DescribeAccountLimits"
    assert row.resources(Asked(Names(), {})) == []


@pytest.mark.parametrize("service", sorted(table.TABLE))
def test_rows_read_any_request_that_the_model_accepts(service: str) -> None:
    """With all members, with the required ones alone, no row fails, and each finds something to check."""
    from botocore.model import ServiceModel  # noqa: PLC0415 - slow, and for this test alone

    model = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    for operation, row in table.TABLE[service].items():
        shape = model.operation_model(operation).input_shape
        whole = {} if shape is None else _example(shape, required_only=False, depth=0)
        bare = {} if shape is None else _example(shape, required_only=True, depth=0)
        for members in (whole, bare):
            asked = Asked(Names(), members)
            assert all(row.resources(asked)), operation
            row.values(asked)
            row.passes(asked)
            row.runs(asked)
            row.also(asked)
            row.of_resource(asked.names, "arn:aws:ecs:us-east-1:000000000000:service/a/b")


def _example(shape: Any, *, required_only: bool, depth: int) -> Any:
    of = partial(_example, required_only=required_only, depth=depth + 1)
    match shape.type_name:
        case "structure" if depth > 4:
            return {}
        case "structure":
            names = shape.required_members if required_only else shape.members
            return {name: of(shape.members[name]) for name in names}
        case "list":
            return [of(shape.member)]
        case "map":
            return {"x": of(shape.value)}
        case kind:
            return _SAMPLE.get(kind, "x")
