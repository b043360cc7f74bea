from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.engine import admissible, container_body, ports
from agent.engine.container_body import ContainerContext
from agent.errors import PayloadError
from agent.model import payload as payloads
from agent.model import task
from agent.model.payload import Association, EngineConfig, PortMapping, Secret, Volume
from agent.model.resources import needs_of
from tests.support.tasks import ARN, container, payload


def test_a_plain_task_is_admissible() -> None:
    assert admissible.check(payload(container("a"))) == {"a": ()}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"secrets": [Secret(name="x")]}, "secret 'x' of container a: valueFrom is empty"),
        ({"environment_files": [{"value": "x"}]}, "environment file of container a: type ''"),
        ({"firelens_configuration": {"type": "x"}}, "is not fluentd or fluentbit"),
        ({"memory": 513}, r"container memory limit\(513\) greater than task memory limit\(512\)"),
        ({"port_mappings": [PortMapping(container_port=0)]}, "port 0 is outside"),
    ],
)
def test_what_a_container_may_not_ask_for(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(PayloadError, match=text):
        admissible.check(payload(container("a", **fields), memory=512))


@pytest.mark.parametrize("containers", [[], ["a", "b"], ["ghost"]])
def test_a_device_goes_to_one_container_of_the_task(containers: list[str]) -> None:
    gpu = Association(name="GPU-1", type="gpu", containers=containers)
    with pytest.raises(PayloadError, match="device GPU-1"):
        admissible.check(payload(container("a"), container("b"), associations=[gpu]))


def test_a_volume_of_a_kind_that_is_not_there() -> None:
    with pytest.raises(PayloadError, match="volume type 'attachment'"):
        admissible.check(payload(container("a"), volumes=[Volume(name="v", type="attachment")]))


@pytest.mark.parametrize(
    "given", [{"MemoryReservation": math.inf}, "text", {"MemoryReservation": []}]
)
def test_needs_can_be_told_whatever_the_host_configuration_says(
    given: dict[str, Any] | str,
) -> None:
    a = container("a", memory=64, docker_config=EngineConfig(host_config=given))
    assert needs_of(payload(a)).memory_mib == 64


# -- anything that can be decoded ----------------------------------------------------------------

texts = st.sampled_from(["", "a", "b", "a:b", "a:b:c", "80-90", "\x00", "docker", "shared", "{}"])
numbers = st.sampled_from([-1, 0, 1, 4, 80, 65535, 65536, 2**31, 2**70])
engine_json = st.one_of(
    st.none(),
    texts,
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), texts),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    ["Labels", "labels", "Healthcheck", "Privileged", "HostConfig", "Dns", "Memory"]
                )
                | st.text(max_size=4),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=12,
    ).map(json.dumps),
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=4,
)


def wire(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """An object with some of these fields; now and then one of them is of any type."""
    return st.fixed_dictionaries(
        {},
        optional={name: st.one_of(value, value, value, anything) for name, value in fields.items()},
    )


def full(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(fields)


names = st.sampled_from(["a", "b", "c"])
port_mappings = st.lists(
    wire(
        containerPort=numbers,
        hostPort=numbers,
        protocol=st.sampled_from(["tcp", "udp", None]),
        containerPortRange=texts,
    ),
    max_size=2,
)
containers = st.builds(
    lambda must, may: {**may, **must},
    full(name=names, image=texts),
    wire(
        cpu=numbers,
        memory=numbers,
        environment=st.dictionaries(texts, texts, max_size=2),
        overrides=st.one_of(engine_json, anything),
        dockerConfig=wire(config=engine_json, hostConfig=engine_json),
        portMappings=port_mappings,
        links=st.lists(texts | names, max_size=2),
        volumesFrom=st.lists(full(sourceContainer=names), max_size=2),
        mountPoints=st.lists(wire(sourceVolume=names, containerPath=texts), max_size=2),
        dependsOn=st.lists(
            full(
                containerName=names,
                condition=st.sampled_from(["START", "COMPLETE", "SUCCESS", "HEALTHY", "CREATE"]),
            ),
            max_size=2,
        ),
        healthCheckType=texts,
    ),
)
tasks = st.builds(
    lambda must, may: {**may, **must},
    full(arn=st.just(ARN), containers=st.lists(containers, min_size=1, max_size=3)),
    wire(
        networkMode=st.sampled_from(["bridge", "host", "none", "awsvpc", ""]),
        volumes=st.lists(
            wire(
                name=names,
                type=st.sampled_from(["host", "docker", "efs", None]),
                host=wire(sourcePath=texts),
                dockerVolumeConfiguration=wire(
                    scope=texts, autoprovision=anything, driver=anything
                ),
            ),
            max_size=2,
        ),
        associations=st.lists(
            wire(name=texts, type=st.just("gpu"), containers=st.lists(names)), max_size=2
        ),
        cpu=numbers,
        memory=numbers,
        pidMode=texts,
        ipcMode=texts,
    ),
)


@settings(max_examples=400, deadline=None)
@given(tasks)
def test_whatever_is_ordered_only_payload_errors_come_of_it(order: dict[str, Any]) -> None:
    try:
        decoded = payloads.decode(msgspec.json.encode(order))
    except PayloadError:
        return
    record = task.new_record(decoded, origin="c", now=1.0)
    assert task.decode(task.encode(record)) == record
    needs_of(decoded)
    try:
        admissible.check(decoded)
    except PayloadError:
        return
    picked = {
        key: list(range(33000, 33000 + len(ports.container_ports(mapping))))
        for c in decoded.containers
        for key, mapping in ports.keyed_mappings(c)
    }
    around = ContainerContext(sandbox_id="s", host_ports=picked)
    for given_container in decoded.containers:
        try:
            body = container_body.body(decoded, given_container, around)
        except PayloadError:
            continue
        assert body["Labels"]["com.amazonaws.ecs.task-arn"] == ARN
        folded = [key.casefold() for key in body]
        assert len(folded) == len(set(folded)), "one key in two spellings"
        ports.network_bindings(decoded, given_container, picked)
