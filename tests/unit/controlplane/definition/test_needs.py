from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.definition import overrides, payload
from agent.controlplane.definition.needs import needs_of
from agent.controlplane.names import Names
from agent.controlplane.records import ContainerRecord, TaskDefinitionRecord, TaskRecord
from agent.model import resources

NAMES = Names()


def _some(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these members, each there or not."""
    return st.fixed_dictionaries({}, optional=members)


PORTS = st.integers(0, 65535)
MAPPING = _some(
    containerPort=PORTS, hostPort=PORTS, protocol=st.sampled_from(["tcp", "udp"])
) | st.fixed_dictionaries({"containerPortRange": st.just("100-104")})
CONTAINER = _some(
    cpu=st.integers(0, 10_240),
    memory=st.integers(6, 65_536),
    memoryReservation=st.integers(6, 65_536),
    portMappings=st.lists(MAPPING, max_size=3),
)
DEFINITION = _some(
    cpu=st.sampled_from(["256", "1 vCPU", "0.5 vcpu"]),
    memory=st.sampled_from(["512", "1 GB", "0.5GB"]),
    networkMode=st.sampled_from(["bridge", "host", "awsvpc", "none"]),
)


@given(DEFINITION, st.lists(CONTAINER, min_size=1, max_size=3), _some(cpu=st.just("512")))
def test_control_counts_what_the_agent_will_count(
    definition: dict[str, Any], containers: list[dict[str, Any]], asked: dict[str, Any]
) -> None:
    named = [{"name": f"c{n}", "image": "i", **c} for n, c in enumerate(containers)]
    record = TaskDefinitionRecord(
        arn=NAMES.task_definition("web", 1),
        family="web",
        revision=1,
        definition={**definition, "containerDefinitions": named},
    )
    task = TaskRecord(
        id="t",
        arn=NAMES.task("default", "t"),
        cluster="default",
        task_definition_arn=record.arn,
        family="web",
        revision=1,
        containers=[ContainerRecord(name=c["name"], arn="arn") for c in named],
        overrides=asked,
    )
    counted = needs_of(overrides.effective(record.definition, asked))
    assert counted == resources.needs_of(payload.build(task, record, NAMES, desired="RUNNING"))
