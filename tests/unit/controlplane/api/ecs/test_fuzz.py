"""Whatever a client sends, a handler answers in the shape of the model or refuses by name."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.api.ecs.operations import handlers
from agent.controlplane.front.errors import ApiError
from agent.controlplane.records import AttributeRecord
from tests.support.control_endpoint import definition

if TYPE_CHECKING:
    from agent.controlplane.front.service_model import ApiModel
    from tests.unit.controlplane.api.ecs.conftest import Endpoint

WORDS = [
    *("", "a", "web", "web:1", "default", "x" * 300, "é", "a b", "../a", "\x00", "-1", "80-90"),
    *("arn:aws:ecs:us-east-1:000000000000:cluster/default", "256", "512", "1 vCPU", "1GB", "/v"),
    *("arn:aws:ecs:us-east-1:000000000000:task-definition/web:1", "attribute:a == b", "CMD"),
    *("arn:aws:ecs:us-east-1:000000000000:task/default/" + "a" * 32, "container-instance"),
]
NUMBERS = [-1, 0, 1, 4, 80, 100, 101, 512, 65535, 65536, 2**31 - 1]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["clusters", "tags", "key", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def make(shape: Any, rng: random.Random, depth: int = 0) -> Any:
    """Return a value of a shape, now and then a bad one."""
    if rng.random() < 0.01:
        return rng.choice([None, "", 0, True, [], {}, 1.5])
    match shape.type_name:
        case "structure":
            required = set(shape.required_members)
            chance = 0.35 if depth else 0.6
            return {
                name: make(member, rng, depth + 1)
                for name, member in shape.members.items()
                if rng.random() < (0.95 if name in required or depth == 0 else chance)
            }
        case "list":
            return [make(shape.member, rng, depth + 1) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
        case "map":
            return {rng.choice(WORDS): make(shape.value, rng, depth + 1) for _ in range(2)}
        case "boolean":
            return rng.random() < 0.5
        case "integer" | "long":
            return rng.choice(NUMBERS)
        case "string":
            return rng.choice(shape.enum or WORDS)
        case _:
            return rng.random()


REFUSED: dict[str, str] = {
    "ExecuteCommand": "InvalidParameterException",  # the task was not run with it enabled
    "DeregisterContainerInstance": "InvalidParameterException",  # a task is on it
    "ListServicesByNamespace": "NamespaceNotFoundException",
    "StopServiceDeployment": "ServiceDeploymentNotFoundException",
    "ContinueServiceDeployment": "ServiceDeploymentNotFoundException",
}
"""What is answered to good requests that have nothing to act upon."""


def good_requests(instance: str, task: str, task_set: str) -> dict[str, dict[str, Any]]:
    """Return one request per operation that is answered, with most of its members."""
    tags = [{"key": "team", "value": "till"}]
    prefix = "arn:aws:ecs:us-east-1:000000000000"
    attribute = {"name": "disk", "value": "ssd", "targetId": instance}
    container = {
        "name": "a",
        "image": "busybox",
        "cpu": 64,
        "memory": 64,
        "memoryReservation": 16,
        "essential": True,
        "command": ["sleep", "9"],
        "stopTimeout": 5,
        "user": "0",
        "portMappings": [{"containerPort": 80, "hostPort": 8080, "protocol": "tcp"}],
        "environment": [{"name": "A", "value": "1"}],
        "mountPoints": [{"sourceVolume": "v", "containerPath": "/v", "readOnly": True}],
        "healthCheck": {"command": ["CMD", "true"], "interval": 10, "retries": 2},
        "ulimits": [{"name": "nofile", "softLimit": 10, "hardLimit": 20}],
        "linuxParameters": {
            "initProcessEnabled": True,
            "tmpfs": [{"containerPath": "/t", "size": 1}],
        },
        "resourceRequirements": [{"type": "GPU", "value": "1"}],
        "restartPolicy": {"enabled": True, "restartAttemptPeriod": 60},
        "logConfiguration": {"logDriver": "json-file", "options": {"max-size": "1m"}},
    }
    other = {
        "name": "b",
        "image": "busybox",
        "essential": False,
        "links": ["a:db"],
        "dependsOn": [{"containerName": "a", "condition": "HEALTHY"}],
        "volumesFrom": [{"sourceContainer": "a", "readOnly": True}],
    }
    run: dict[str, Any] = {
        "taskDefinition": "web",
        "group": "g",
        "startedBy": "me",
        "tags": tags,
        "overrides": {
            "cpu": "256",
            "memory": "512",
            "containerOverrides": [{"name": "a", "command": ["true"], "memory": 32, "cpu": 8}],
        },
    }
    return {
        "ListAccountSettings": {"effectiveSettings": True, "maxResults": 5},
        "PutAccountSetting": {"name": "containerInsights", "value": "enabled"},
        "PutAccountSettingDefault": {"name": "taskLongArnFormat", "value": "enabled"},
        "DeleteAccountSetting": {"name": "containerInsights"},
        "DescribeCapacityProviders": {"capacityProviders": ["FARGATE"], "include": ["TAGS"]},
        "CreateCapacityProvider": {
            "name": "rack",
            "autoScalingGroupProvider": {
                "autoScalingGroupArn": "rack",
                "managedScaling": {"status": "DISABLED", "targetCapacity": 90},
                "managedDraining": "ENABLED",
            },
            "tags": tags,
        },
        "UpdateCapacityProvider": {
            "name": "rack",
            "autoScalingGroupProvider": {"managedDraining": "DISABLED"},
        },
        "DeleteCapacityProvider": {"capacityProvider": "rack"},
        "UpdateCluster": {"cluster": "default", "settings": []},
        "UpdateClusterSettings": {
            "cluster": "default",
            "settings": [{"name": "containerInsights", "value": "enabled"}],
        },
        "DeleteTaskDefinitions": {"taskDefinitions": ["plain:1"]},
        "CreateCluster": {"clusterName": "shop", "tags": tags},
        "DescribeClusters": {"clusters": ["default"], "include": ["TAGS", "STATISTICS"]},
        "ListClusters": {"maxResults": 1},
        "RegisterTaskDefinition": {
            "family": "web",
            "containerDefinitions": [container, other],
            "cpu": "512",
            "memory": "1GB",
            "volumes": [{"name": "v", "host": {"sourcePath": "/srv"}}],
            "networkMode": "bridge",
            "requiresCompatibilities": ["EC2"],
            "tags": tags,
            "placementConstraints": [{"type": "memberOf", "expression": "attribute:a == b"}],
        },
        "DescribeTaskDefinition": {"taskDefinition": "web:1", "include": ["TAGS"]},
        "ListTaskDefinitions": {"familyPrefix": "web", "sort": "DESC", "maxResults": 2},
        "ListTaskDefinitionFamilies": {"familyPrefix": "w", "status": "ACTIVE", "maxResults": 1},
        "DescribeContainerInstances": {"containerInstances": [instance], "include": ["TAGS"]},
        "ListContainerInstances": {"filter": "runningTasksCount >= 0", "maxResults": 1},
        "UpdateContainerInstancesState": {"containerInstances": [instance], "status": "ACTIVE"},
        "PutAttributes": {"attributes": [attribute]},
        "ListAttributes": {"targetType": "container-instance", "maxResults": 1},
        "DeleteAttributes": {"attributes": [attribute]},
        "TagResource": {"resourceArn": instance, "tags": tags},
        "ListTagsForResource": {"resourceArn": task},
        "UntagResource": {"resourceArn": instance, "tagKeys": ["team"]},
        "RunTask": run | {"count": 2, "placementStrategy": [{"type": "random"}]},
        "StartTask": run | {"containerInstances": [instance]},
        "DescribeTasks": {"tasks": [task], "include": ["TAGS"]},
        "ListTasks": {"family": "web", "desiredStatus": "RUNNING", "maxResults": 1},
        "GetTaskProtection": {"cluster": "default", "tasks": [task]},
        "UpdateTaskProtection": {
            "cluster": "default",
            "tasks": [task],
            "protectionEnabled": True,
            "expiresInMinutes": 60,
        },
        "ExecuteCommand": {"task": task, "command": "sh -c 'a b'", "interactive": True},
        "StopTask": {"task": task, "reason": "enough"},
        "DeregisterTaskDefinition": {"taskDefinition": "web:1"},
        "DeregisterContainerInstance": {"containerInstance": instance, "force": False},
        "PutClusterCapacityProviders": {
            "cluster": "shop",
            "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
            "defaultCapacityProviderStrategy": [],
        },
        "CreateService": {
            "serviceName": "shop",
            "taskDefinition": "plain",
            "desiredCount": 2,
            "clientToken": "t",
            "deploymentConfiguration": {
                "maximumPercent": 150,
                "minimumHealthyPercent": 50,
                "deploymentCircuitBreaker": {
                    "enable": True,
                    "rollback": True,
                    "thresholdConfiguration": {"type": "COUNT", "value": 2},
                },
            },
            "placementConstraints": [{"type": "memberOf", "expression": "attribute:a == b"}],
            "placementStrategy": [{"type": "binpack", "field": "cpu"}],
            "healthCheckGracePeriodSeconds": 3,
            "schedulingStrategy": "REPLICA",
            "deploymentController": {"type": "ECS"},
            "launchType": "EC2",
            "propagateTags": "SERVICE",
            "tags": tags,
        },
        "UpdateService": {
            "service": "here",
            "desiredCount": 1,
            "forceNewDeployment": True,
            "placementConstraints": [],
            "enableECSManagedTags": True,
        },
        "DescribeServices": {"services": ["here", "nowhere"], "include": ["TAGS"]},
        "ListServices": {"maxResults": 1, "launchType": "EC2", "schedulingStrategy": "REPLICA"},
        "ListServicesByNamespace": {"namespace": "shop.local", "maxResults": 1},
        "ListServiceDeployments": {
            "service": "here",
            "status": ["IN_PROGRESS"],
            "createdAt": {"after": 1.5},
            "maxResults": 1,
        },
        "DescribeServiceDeployments": {
            "serviceDeploymentArns": [f"{prefix}:service-deployment/default/here/{'a' * 21}"]
        },
        "StopServiceDeployment": {
            "serviceDeploymentArn": f"{prefix}:service-deployment/default/here/{'a' * 21}",
            "stopType": "ROLLBACK",
        },
        "ContinueServiceDeployment": {
            "serviceDeploymentArn": f"{prefix}:service-deployment/default/here/{'a' * 21}",
            "hookId": "ecs-PAUSE-0123456789abcdef0",
            "action": "CONTINUE",
        },
        "DescribeServiceRevisions": {
            "serviceRevisionArns": [f"{prefix}:service-revision/default/here/{'1' * 19}"]
        },
        "CreateTaskSet": {
            "service": "outside",
            "cluster": "default",
            "taskDefinition": "plain",
            "externalId": "blue",
            "launchType": "EC2",
            "scale": {"value": 50.0, "unit": "PERCENT"},
            "clientToken": "t",
            "tags": tags,
        },
        "UpdateTaskSet": {
            "service": "outside",
            "cluster": "default",
            "taskSet": task_set,
            "scale": {"value": 100.0, "unit": "PERCENT"},
        },
        "UpdateServicePrimaryTaskSet": {
            "service": "outside",
            "cluster": "default",
            "primaryTaskSet": task_set,
        },
        "DescribeTaskSets": {
            "service": "outside",
            "cluster": "default",
            "taskSets": [task_set, "ecs-svc/1"],
            "include": ["TAGS"],
        },
        "DeleteTaskSet": {
            "service": "outside",
            "cluster": "default",
            "taskSet": task_set,
            "force": True,
        },
        "DeleteService": {"service": "here", "force": True},
        "DeleteCluster": {"cluster": "shop"},
    }


def spoil(value: Any, rng: random.Random) -> Any:
    """Return a copy with one place changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        changed = dict(value)
        if rng.random() < 0.1:
            del changed[name]
        else:
            changed[name] = spoil(value[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.9:
        index = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value + value
        return [*value[:index], spoil(value[index], rng), *value[index + 1 :]]
    if isinstance(value, str):
        return rng.choice([*WORDS, "a", "b", "HEALTHY", "SUCCESS", "awsvpc", "host", "none"])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice(NUMBERS)
    return rng.choice([None, "", 0, [], {}])


async def test_good_requests_are_answered(endpoint: Endpoint) -> None:
    good = await _prepare(endpoint)
    missing = handlers().keys() - good.keys()
    assert not missing, f"good_requests() of this file lacks {sorted(missing)}"
    for operation, request in good.items():
        answer = await endpoint.raw(operation, request)
        assert answer.body.get("__type") == REFUSED.get(operation), (operation, answer.body)


@pytest.mark.parametrize("seed", range(30))
async def test_nearly_good_requests(endpoint: Endpoint, model: ApiModel, seed: int) -> None:
    rng = random.Random(seed)
    good = await _prepare(endpoint)
    answered = 0
    for operation, handler in sorted(handlers().items()):
        service = model._service.operation_model(operation)
        for number in range(8):
            whole = rng.random() < 0.2
            body = make(service.input_shape, rng) if whole else spoil(good.get(operation, {}), rng)
            if number % 2:
                body = spoil(body, rng)
            try:
                request = model.check(operation, msgspec.json.decode(msgspec.json.encode(body)))
                response = model.answer(operation, await handler(endpoint.parts, request))
            except ApiError as error:
                assert str(error)  # noqa: PT017 - the other outcome is as good
                continue
            answered += 1
            model_check(service.output_shape, msgspec.json.decode(msgspec.json.encode(response)))
    assert answered > 15


async def _prepare(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    await endpoint.call("create_cluster")
    instance = await endpoint.add_instance(
        attributes={
            name: AttributeRecord()
            for name in (
                "com.amazonaws.ecs.capability.logging-driver.json-file",
                "ecs.capability.container-health-check",
                "ecs.capability.container-ordering",
                "ecs.capability.container-restart-policy",
            )
        }
    )
    task = await endpoint.add_task(instance)
    await endpoint.call("register_task_definition", **definition(family="plain"))
    await endpoint.call(
        "create_service", serviceName="here", taskDefinition="plain", desiredCount=1
    )
    await endpoint.call(
        "create_service",
        serviceName="outside",
        desiredCount=1,
        deploymentController={"type": "EXTERNAL"},
    )
    made = await endpoint.call(
        "create_task_set", cluster="default", service="outside", taskDefinition="plain"
    )
    return good_requests(instance.arn, task.arn, made["taskSet"]["id"])


def model_check(shape: Any, value: Any) -> None:
    """Assert that an answer is what a client of the model can read."""
    types = {"integer": int, "long": int, "string": str, "boolean": bool, "timestamp": float}
    match shape.type_name:
        case "structure":
            assert set(value) <= set(shape.members)
            for name, item in value.items():
                model_check(shape.members[name], item)
        case "list":
            for item in value:
                model_check(shape.member, item)
        case "map":
            for item in value.values():
                model_check(shape.value, item)
        case name if name in types:
            assert isinstance(value, types[name]), (shape.name, value)


@given(body=JSON, pick=st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_requests_of_any_shape(model: ApiModel, body: Any, pick: random.Random) -> None:
    operation = pick.choice(sorted(model.operations))
    try:
        assert isinstance(model.check(operation, body), dict)
    except ApiError as error:
        assert error.name in {"SerializationException", "InvalidParameterException"}  # noqa: PT017
