from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.definition.overrides import effective
from agent.controlplane.definition.rules import (
    check_definition,
    check_effective,
    compatibilities,
)
from agent.controlplane.definition.support import required_attributes
from agent.controlplane.front.errors import ClientException
from tests.unit.controlplane.definition.builders import container, definition


def depends(name: str, condition: str = "START") -> list[dict[str, str]]:
    return [{"containerName": name, "condition": condition}]


def test_defaults_are_filled_in_as_the_service_does() -> None:
    checked = check_definition(
        definition(
            container(
                portMappings=[{"containerPort": 80}],
                healthCheck={"command": ["CMD", "true"]},
            )
        )
    )
    assert checked["volumes"] == []
    assert checked["placementConstraints"] == []
    assert checked["containerDefinitions"] == [
        {
            "name": "web",
            "image": "busybox",
            "memory": 16,
            "cpu": 0,
            "essential": True,
            "environment": [],
            "mountPoints": [],
            "volumesFrom": [],
            "systemControls": [],
            "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
            "healthCheck": {"command": ["CMD", "true"], "interval": 30, "timeout": 5, "retries": 3},
        }
    ]
    assert "networkMode" not in checked
    assert "family" not in checked


def test_the_request_is_not_changed() -> None:
    request = definition(container(portMappings=[{"containerPort": 80}]), cpu="1 vCPU")
    before = repr(request)
    check_definition(request)
    assert repr(request) == before


REFUSED: list[tuple[dict[str, Any], str]] = [
    (definition(family=""), "Family should not be null or empty"),
    (definition(family="a b"), "Family contains invalid characters"),
    (definition(family="x" * 256), "Family contains invalid characters"),
    (definition() | {"containerDefinitions": []}, "Container list cannot be empty"),
    (definition(*(container(f"c{n}") for n in range(11))), "more than 10"),
    (definition(container("")), "Container.name should not be null or empty"),
    (definition(container("a.b")), "Container.name contains invalid characters"),
    (definition(container(image="")), "Container.image should not be null or empty"),
    (definition(container("a"), container("a")), "used more than once: a"),
    (definition(container(essential=False)), "at least one essential"),
    (
        definition({"name": "web", "image": "x"}),
        "Invalid setting for container 'web'. At least one of 'memory' or 'memoryReservation'",
    ),
    (definition(container(memory=3)), "'memory' must be at least 4"),
    (definition(container(memory=0)), "'memory' must be at least 4"),
    (definition(container(memoryReservation=1)), "'memoryReservation' must be at least 4"),
    (definition(container(memory=16, memoryReservation=32)), "greater than or equal to"),
    (definition(container(cpu=-1)), "'cpu' must not be negative"),
    (definition(container(memory=600), memory="512"), "greater than the memory of the task"),
    (
        definition(
            container("a", memoryReservation=300, memory=400),
            container("b", memoryReservation=300, memory=400),
            memory="512",
        ),
        "Total memoryReservation",
    ),
    (definition(container(cpu=200), container("b", cpu=100), cpu="256"), "Total cpu"),
    (definition(cpu="nonsense"), "Invalid 'cpu' setting for task"),
    (definition(memory="nonsense"), "Invalid 'memory' setting for task"),
    (
        definition(requiresCompatibilities=["FARGATE"], networkMode="awsvpc", memory="512"),
        "Fargate requires that 'cpu' be defined",
    ),
    (
        definition(requiresCompatibilities=["FARGATE"], cpu="256", memory="512"),
        "Fargate only supports network mode",
    ),
    # Dependencies
    (definition(container(dependsOn=depends("x"))), "does not have"),
    (definition(container(dependsOn=depends("web"))), "names itself"),
    (
        definition(container("a", dependsOn=depends("b")), container("b", dependsOn=depends("a"))),
        "cycle in the dependencies of the containers a, b",
    ),
    (
        definition(
            container("a", dependsOn=depends("b")),
            container("b", links=["c"]),
            container("c", volumesFrom=[{"sourceContainer": "a"}]),
        ),
        "cycle",
    ),
    (
        definition(container("a", dependsOn=depends("b", "HEALTHY")), container("b")),
        "no health check",
    ),
    (
        definition(
            container("a", dependsOn=depends("b", "HEALTHY")),
            container("b", healthCheck={"command": ["NONE"]}),
        ),
        "no health check",
    ),
    (
        definition(container("a", dependsOn=depends("b", "SUCCESS")), container("b")),
        "cannot be set on an essential container",
    ),
    # The rest
    (definition(container(healthCheck={"command": []})), "is empty"),
    (definition(container(healthCheck={"command": [" "]})), "is empty"),
    (
        definition(container(healthCheck={"command": ["curl -f localhost"]})),
        "put CMD-SHELL in front",
    ),
    (definition(container(healthCheck={"command": ["CMD"]})), "is empty"),
    (definition(container(healthCheck={"command": ["CMD", "x"], "retries": 11})), "retries"),
    (definition(container(healthCheck={"command": ["CMD", "x"], "interval": 1})), "interval"),
    (definition(container(stopTimeout=-1)), "'stopTimeout' must not be negative"),
    (definition(container(environment=[{"value": "x"}])), "needs a 'name'"),
    (
        definition(container(environment=[{"name": "a=b", "value": "x"}])),
        "environment variable 'a=b' must not contain '='",
    ),
    (definition(container(systemControls=[{"value": "1"}])), "needs a 'namespace' and a 'value'"),
    (definition(container(systemControls=[{"namespace": "net.x"}])), "'namespace' and a 'value'"),
    (
        definition(container(systemControls=[{"namespace": "net.x", "value": "1"}] * 2)),
        "Duplicate system control 'net.x'",
    ),
    (
        definition(container(ulimits=[{"name": "nofile", "softLimit": 2, "hardLimit": 1}])),
        "soft limit of ulimit 'nofile'",
    ),
    (
        definition(container(ulimits=[{"name": "nofile", "softLimit": 1, "hardLimit": 1}] * 2)),
        "Duplicate ulimit",
    ),
    (definition(container(linuxParameters={"swappiness": 101})), "swappiness"),
    (definition(container(linuxParameters={"maxSwap": -1})), "maxSwap"),
    (
        definition(container(linuxParameters={"tmpfs": [{"containerPath": "/t", "size": 0}]})),
        "tmpfs",
    ),
    (
        definition(container(linuxParameters={"tmpfs": [{"containerPath": "t", "size": 1}]})),
        "The tmpfs 't' must have an absolute containerPath",
    ),
    (
        definition(container(linuxParameters={"tmpfs": [{"containerPath": "/t", "size": 1}] * 2})),
        "Duplicate tmpfs '/t'",
    ),
    (definition(container(resourceRequirements=[{"type": "GPU", "value": "0"}])), "GPU"),
    (definition(container(resourceRequirements=[{"type": "GPU", "value": "x"}])), "GPU"),
    (definition(container(resourceRequirements=[{"type": "GPU", "value": "1"}] * 2)), "Duplicate"),
    (
        definition(container(restartPolicy={"enabled": True, "restartAttemptPeriod": 10})),
        "restartAttemptPeriod",
    ),
    (definition(placementConstraints=[{"type": "memberOf"}]), "needs a type and an expression"),
    (
        definition(placementConstraints=[{"type": "memberOf", "expression": "attribute:"}]),
        "Invalid expression",
    ),
    (
        definition(
            placementConstraints=[{"type": "memberOf", "expression": "task:group == a"}] * 11
        ),
        "At most 10 placement constraints",
    ),
    (definition(proxyConfiguration={"containerName": "envoy"}), "proxyConfiguration"),
    (definition(container(healthCheck={"command": ["CMD", "x"], "timeout": 61})), "timeout"),
    (definition(container(image="busy box")), "Container.image contains invalid characters"),
    (definition(container(image="busybox\n")), "Container.image contains invalid characters"),
    (definition(container(image="x" * 256)), "Container.image contains invalid characters"),
    (definition(container(image="busybox@sha256:12")), "Container.image contains invalid"),
    (definition(taskRoleArn="no role at all!"), "Role is not valid"),
    (definition(executionRoleArn="arn:aws:iam::1:role/short"), "Role is not valid"),
    (definition(executionRoleArn="arn:aws:s3:::bucket"), "Role is not valid"),
    (definition(container(command=["x" * 70_000])), "Max allowed length is '65536' bytes"),
]


@pytest.mark.parametrize(("request_", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_refused(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(ClientException) as caught:
        check_definition(request_)
    assert text in str(caught.value)


ACCEPTED: list[dict[str, Any]] = [
    definition(container(memory=4)),
    definition({"name": "a", "image": "x", "memoryReservation": 8}),
    definition({"name": "a", "image": "x"}, memory="512"),
    definition(container(memory=512, memoryReservation=512), memory="512", cpu="128"),
    definition(container(), container("b", dependsOn=depends("web"))),
    definition(container(dependsOn=depends("init", "SUCCESS")), container("init", essential=False)),
    definition(
        container(dependsOn=depends("db", "HEALTHY")),
        container("db", healthCheck={"command": ["CMD-SHELL", "exit 0"]}),
    ),
    definition(container(ulimits=[{"name": "core", "softLimit": -1, "hardLimit": -1}])),
    definition(container(ulimits=[{"name": "core", "softLimit": 0, "hardLimit": -1}])),
    definition(container(resourceRequirements=[{"type": "GPU", "value": "2"}])),
    definition(placementConstraints=[{"type": "memberOf", "expression": "attribute:a == b"}]),
    definition(requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512"),
    definition(cpu="", memory=""),
    definition(taskRoleArn="my-role", executionRoleArn="arn:aws:iam::000000000000:role/path/x"),
    definition(container(image="registry.local:5000/a/b#c@sha256:" + "aB" * 32)),
    definition(container(healthCheck={"command": ["CMD", "x"], "timeout": 60})),
]


@pytest.mark.parametrize("request_", ACCEPTED)
def test_accepted(request_: dict[str, Any]) -> None:
    assert check_definition(request_)["containerDefinitions"]


def test_what_is_not_given_is_not_kept() -> None:
    checked = check_definition(definition(cpu="", memory="1GB"))
    assert "cpu" not in checked
    assert checked["memory"] == "1024"


OVERRIDDEN: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"memory": 0}, {}, "'memory' must be at least 4 MiB"),
    ({"memory": -100000}, {}, "'memory' must be at least 4 MiB"),
    ({"memoryReservation": 2}, {}, "'memoryReservation' must be at least 4 MiB"),
    ({"cpu": -5000}, {}, "'cpu' must not be negative"),
    ({"memoryReservation": 64}, {}, "greater than or equal to 'memoryReservation'"),
    ({"memory": 600}, {"memory": "512"}, "greater than the memory of the task"),
    ({"cpu": 300}, {"cpu": "256"}, "Total cpu of the containers"),
    ({"environment": [{"value": "x"}]}, {}, "An environment variable needs a 'name'"),
    ({"environment": [{"name": "a=b"}]}, {}, "must not contain '='"),
    ({"environment": [{"name": "TOKEN"}]}, {}, "not shared with any new or existing environment"),
    ({"resourceRequirements": [{"type": "GPU", "value": "0"}]}, {}, "GPU"),
    ({}, {"executionRoleArn": "no role!"}, "Role is not valid"),
]


@pytest.mark.parametrize(("of_container", "of_task", "text"), OVERRIDDEN)
def test_overrides_are_held_to_the_same_rules(
    of_container: dict[str, Any], of_task: dict[str, Any], text: str
) -> None:
    secrets = [{"name": "TOKEN", "valueFrom": "p"}]
    checked = check_definition(definition(container(secrets=secrets)))
    changed = {**of_task, "containerOverrides": [{"name": "web", **of_container}]}
    with pytest.raises(ClientException) as caught:
        check_effective(effective(checked, changed))
    assert text in str(caught.value)


def test_good_overrides_pass() -> None:
    checked = check_definition(definition(memory="512"))
    changed = {
        "cpu": "1 vcpu",
        "memory": ".5gb",
        "containerOverrides": [{"name": "web", "cpu": 1024, "memory": 512}],
    }
    body = effective(checked, changed)
    check_effective(body)
    assert (body["cpu"], body["memory"]) == ("1024", "512")


def test_required_attributes() -> None:
    checked = check_definition(
        definition(
            container(
                "a",
                privileged=True,
                logConfiguration={"logDriver": "json-file"},
                healthCheck={"command": ["CMD", "x"]},
                restartPolicy={"enabled": True},
            ),
            container("b", dependsOn=depends("a"), restartPolicy={"enabled": False}),
            networkMode="awsvpc",
        )
    )
    assert required_attributes(checked) == [
        "com.amazonaws.ecs.capability.logging-driver.json-file",
        "com.amazonaws.ecs.capability.privileged-container",
        "ecs.capability.container-health-check",
        "ecs.capability.container-ordering",
        "ecs.capability.container-restart-policy",
        "ecs.capability.task-eni",
    ]
    assert required_attributes(check_definition(definition())) == []
    assert compatibilities(checked) == ["EC2"]
    assert compatibilities(check_definition(definition())) == ["EXTERNAL", "EC2"]


NAMES = st.sampled_from(["a", "b", "c", "d"])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": NAMES, "image": st.sampled_from(["", "busybox"])},
        optional={
            "memory": st.integers(-1, 64),
            "essential": st.booleans(),
            "links": st.lists(NAMES, max_size=2),
            "dependsOn": st.lists(
                st.fixed_dictionaries(
                    {
                        "containerName": NAMES,
                        "condition": st.sampled_from(["START", "COMPLETE", "SUCCESS", "HEALTHY"]),
                    }
                ),
                max_size=2,
            ),
            "portMappings": st.lists(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "containerPort": st.integers(-1, 65536),
                        "hostPort": st.integers(-1, 65536),
                        "containerPortRange": st.text("0123456789-", max_size=6),
                    },
                ),
                max_size=2,
            ),
        },
    ),
    max_size=4,
)


@given(CONTAINERS, st.sampled_from([None, "bridge", "host", "none", "awsvpc"]))
def test_any_definition_is_accepted_with_an_order_of_its_containers_or_refused(
    containers: list[dict[str, Any]], mode: str | None
) -> None:
    request = definition() | {"containerDefinitions": containers}
    if mode:
        request["networkMode"] = mode
    checked: dict[str, Any] | None = None
    with contextlib.suppress(ClientException):
        checked = check_definition(request)
    if checked is None:
        return
    waiting = {
        c["name"]: {d["containerName"] for d in c.get("dependsOn", [])}
        for c in checked["containerDefinitions"]
    }
    while waiting:
        ready = {name for name, others in waiting.items() if not others & set(waiting)}
        assert ready
        waiting = {name: others for name, others in waiting.items() if name not in ready}
    # What was stored passes again: a definition that was described can be registered.
    assert check_definition({"family": "web", **checked}) == checked
