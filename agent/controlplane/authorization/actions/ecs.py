"""Permissions of Amazon ECS. Pure.

More precise than AWS in one thing: RegisterTaskDefinition, DeregisterTaskDefinition and DescribeTaskDefinition are
about a task definition, where AWS has ``*``; whoever allows them on ``*`` sees no difference.

Source: "Actions, resources, and condition keys for Amazon Elastic Container Service".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.controlplane.authorization.actions.rows import (
    Also,
    Asked,
    Kind,
    Named,
    Passed,
    Resource,
    Resources,
    Row,
    Run,
    given,
    listed,
    texts,
)
from agent.controlplane.names import parse_arn, split_task_definition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.controlplane.authorization.actions.rows import Values
    from agent.controlplane.names import Names

TASKS_SERVICE: Final = "ecs-tasks.amazonaws.com"
ECS_SERVICE: Final = "ecs.amazonaws.com"
_DEFAULT: Final = "default"
_IN_CLUSTERS: Final = frozenset(
    {
        "cluster",
        "container-instance",
        "service",
        "service-deployment",
        "service-revision",
        "task",
        "task-set",
    }
)
ROLES: Final = ("taskRoleArn", "executionRoleArn")
"""Of tasks: members of a task definition and of overrides."""
_ROLES_OF_SERVICES: Final = (
    ("role",),
    ("loadBalancers", "advancedConfiguration", "roleArn"),
    ("deploymentConfiguration", "lifecycleHooks", "roleArn"),
    ("serviceConnectConfiguration", "services", "tls", "roleArn"),
    ("volumeConfigurations", "managedEBSVolume", "roleArn"),
    ("vpcLatticeConfigurations", "roleArn"),
)
"""Where requests about services and tasks have roles for Amazon ECS itself; some are refused afterwards."""


def _cluster(asked: Asked) -> str:
    return _cluster_arn(asked, asked.members.get("cluster") or _DEFAULT)


def _cluster_arn(asked: Asked, text: str) -> str:
    return text if text.startswith("arn:") else asked.names.cluster(text)


def _cluster_name(asked: Asked) -> str:
    return _cluster(asked).rpartition("/")[2]


def _of_cluster(asked: Asked) -> list[Resource]:
    return [_cluster(asked)]


def _clusters(member: str) -> Resources:
    def found(asked: Asked) -> list[Resource]:
        names = listed(asked.members.get(member)) or [_DEFAULT]
        return [_cluster_arn(asked, text) for text in names]

    return found


def _in_cluster(kind: str, member: str) -> Resources:
    """Return resources whose ARN has the cluster, given by id, by name or by ARN."""

    def found(asked: Asked) -> list[Resource]:
        return [_located(asked, kind, text) for text in listed(asked.members.get(member))]

    return found


def _located(asked: Asked, kind: str, text: str) -> str:
    # An ARN of the old format has no cluster.
    if text.startswith("arn:") and text.count("/") > 1:
        return text
    return asked.arn("ecs", f"{kind}/{_cluster_name(asked)}/{text.rpartition('/')[2]}")


def _targets(asked: Asked) -> list[Resource]:
    each = {one.get("targetId", "") for one in asked.members.get("attributes", ())}
    return [_located(asked, "container-instance", text) for text in sorted(each)]


def _service(asked: Asked) -> str:
    text = asked.members.get("service") or asked.members.get("serviceName") or ""
    return _located(asked, "service", text) if text else ""


def _services(asked: Asked) -> list[Resource]:
    return [_service(asked)]


def _task_sets(asked: Asked) -> list[Resource]:
    of = listed(asked.members.get("taskSets")) or listed(asked.members.get("taskSet")) or ["*"]
    service = _service(asked).rpartition("/")[2]
    return [
        text
        if text.startswith("arn:")
        else asked.arn("ecs", f"task-set/{_cluster_name(asked)}/{service}/{text}")
        for text in of
    ]


def run_later(asked: Asked, cluster: str, definition: str) -> Also:
    """Return what a target that runs tasks at some time needs: what RunTask would need now."""
    values = texts({"ecs:cluster": _cluster_arn(asked, cluster)})
    return Also("ecs:RunTask", _definition(definition), values)


def _definition(text: str) -> Resource:
    """Return a task definition by its ARN, if the revision is given, else by its family."""
    split = split_task_definition(text)
    if split is None:
        return text
    return Named(Kind.FAMILY, text)


def _definitions(*members: str) -> Resources:
    def found(asked: Asked) -> list[Resource]:
        return [
            _definition(text) for member in members for text in listed(asked.members.get(member))
        ]

    return found


def _new_definition(asked: Asked) -> list[Resource]:
    return [asked.arn("ecs", f"task-definition/{asked.members['family']}:*")]


def _providers(member: str) -> Resources:
    def found(asked: Asked) -> list[Resource]:
        return [
            text if text.startswith("arn:") else asked.names.capacity_provider(text)
            for text in listed(asked.members.get(member))
        ]

    return found


def _of_cluster_of(names: Names, arn: str) -> Values:
    """Return the cluster of a resource: what the ARN says counts, not what the request does."""
    parsed = parse_arn(arn)
    if parsed is None or parsed.kind not in _IN_CLUSTERS:
        return {}
    if parsed.kind == "cluster" or len(parsed.path) > 1:
        return texts({"ecs:cluster": names.cluster(parsed.path[0])})
    return {}


def _values(asked: Asked) -> Values:
    """Return the values of the keys in a request of an operation that is about a cluster."""
    return {**_values_without_cluster(asked), **texts({"ecs:cluster": _cluster(asked)})}


def _values_without_cluster(asked: Asked) -> Values:
    """Return the values of all other keys that a request has; members of other operations are not in it."""
    members = asked.members
    network = (members.get("networkConfiguration") or {}).get("awsvpcConfiguration") or {}
    strategy = members.get("capacityProviderStrategy") or ()
    connect = members.get("serviceConnectConfiguration") or {}
    return texts(
        {
            "ecs:service": _service(asked) or None,
            "ecs:task-definition": _definition(members.get("taskDefinition") or "") or None,
            "ecs:container-instances": [
                _located(asked, "container-instance", text)
                for text in listed(members.get("containerInstances"))
                + listed(members.get("containerInstance"))
            ],
            "ecs:capacity-provider": [
                asked.names.capacity_provider(one.get("capacityProvider", "")) for one in strategy
            ]
            or None,
            "ecs:enable-execute-command": members.get("enableExecuteCommand"),
            "ecs:enable-ecs-managed-tags": members.get("enableECSManagedTags"),
            "ecs:propagate-tags": members.get("propagateTags"),
            "ecs:auto-assign-public-ip": network.get("assignPublicIp"),
            "ecs:namespace": members.get("namespace") or connect.get("namespace"),
            "ecs:account-setting": members.get("name"),
            "ecs:container-name": members.get("container"),
        }
    )


def _values_of_task(asked: Asked) -> Values:
    task = asked.members.get("task")
    return {
        **_values(asked),
        **texts({"ecs:task": _located(asked, "task", task) if task else None}),
    }


def _values_of_definition(asked: Asked) -> Values:
    members: Mapping[str, Any] = asked.members
    containers = members.get("containerDefinitions", ())
    return texts(
        {
            "ecs:compute-compatibility": members.get("requiresCompatibilities"),
            "ecs:task-cpu": members.get("cpu"),
            "ecs:task-memory": members.get("memory"),
            "ecs:privileged": any(one.get("privileged", False) for one in containers),
        }
    )


def _roles(members: Mapping[str, Any]) -> list[Passed]:
    return [Passed(members[name], TASKS_SERVICE) for name in ROLES if members.get(name)]


def _roles_of_definition(asked: Asked) -> list[Passed]:
    return _roles(asked.members)


def _roles_for_ecs(asked: Asked) -> list[Passed]:
    found = [role for path in _ROLES_OF_SERVICES for role in _at(asked.members, path)]
    return [Passed(role, ECS_SERVICE) for role in dict.fromkeys(found)]


def _at(value: Any, path: tuple[str, ...]) -> list[str]:
    """Return all texts at a path, through lists."""
    if isinstance(value, list | tuple):
        return [text for each in value for text in _at(each, path)]
    if not path:
        return [value] if value else []
    return _at(value.get(path[0]), path[1:]) if value else []


def _runs(asked: Asked) -> list[Run]:
    """Return what a request has run; without a task definition, a service goes on as it is."""
    definition = asked.members.get("taskDefinition")
    return [Run(definition, asked.members.get("overrides") or {})] if definition else []


_task = _in_cluster("task", "task")
_tasks = _in_cluster("task", "tasks")
_instance = _in_cluster("container-instance", "containerInstance")
_instances = _in_cluster("container-instance", "containerInstances")
_tagged = given("resourceArn")


def _exec(asked: Asked) -> list[Resource]:
    return [_cluster(asked), *_task(asked)]


_ROWS: Final = (
    ("ContinueServiceDeployment", given("serviceDeploymentArn")),
    ("CreateCapacityProvider", _providers("name")),
    ("CreateCluster", given()),
    ("CreateService", _services),
    ("CreateTaskSet", _task_sets),
    ("DeleteAccountSetting", given()),
    ("DeleteAttributes", _targets),
    ("DeleteCapacityProvider", _providers("capacityProvider")),
    ("DeleteCluster", _of_cluster),
    ("DeleteService", _services),
    ("DeleteTaskDefinitions", _definitions("taskDefinitions")),
    ("DeleteTaskSet", _task_sets),
    ("DeregisterContainerInstance", _of_cluster),
    ("DeregisterTaskDefinition", _definitions("taskDefinition")),
    ("DescribeCapacityProviders", _providers("capacityProviders")),
    ("DescribeClusters", _clusters("clusters")),
    ("DescribeContainerInstances", _instances),
    ("DescribeServiceDeployments", given("serviceDeploymentArns")),
    ("DescribeServiceRevisions", given("serviceRevisionArns")),
    ("DescribeServices", _in_cluster("service", "services")),
    ("DescribeTaskDefinition", _definitions("taskDefinition")),
    ("DescribeTaskSets", _task_sets),
    ("DescribeTasks", _tasks),
    ("GetTaskProtection", _tasks),
    ("ListAccountSettings", given()),
    ("ListAttributes", _of_cluster),
    ("ListClusters", given()),
    ("ListContainerInstances", _of_cluster),
    ("ListServiceDeployments", _services),
    ("ListServices", given()),
    ("ListServicesByNamespace", given()),
    ("ListTagsForResource", _tagged),
    ("ListTaskDefinitionFamilies", given()),
    ("ListTaskDefinitions", given()),
    ("ListTasks", _instance),
    ("PutAccountSetting", given()),
    ("PutAccountSettingDefault", given()),
    ("PutAttributes", _targets),
    ("PutClusterCapacityProviders", _of_cluster),
    ("StopServiceDeployment", given("serviceDeploymentArn")),
    ("StopTask", _task),
    ("TagResource", _tagged),
    ("UntagResource", _tagged),
    ("UpdateCapacityProvider", _providers("name")),
    ("UpdateCluster", _of_cluster),
    ("UpdateClusterSettings", _of_cluster),
    ("UpdateContainerInstancesState", _instances),
    ("UpdateService", _services),
    ("UpdateServicePrimaryTaskSet", _services),
    ("UpdateTaskProtection", _tasks),
    ("UpdateTaskSet", _task_sets),
)

WITHOUT_CLUSTER: Final = frozenset(
    {
        "ContinueServiceDeployment",
        "CreateCapacityProvider",
        "CreateCluster",
        "DeleteAccountSetting",
        "DeleteCapacityProvider",
        "DeleteTaskDefinitions",
        "DeregisterTaskDefinition",
        "DescribeCapacityProviders",
        "DescribeClusters",
        "DescribeServiceDeployments",
        "DescribeServiceRevisions",
        "DescribeTaskDefinition",
        "ListAccountSettings",
        "ListClusters",
        "ListServicesByNamespace",
        "ListTagsForResource",
        "ListTaskDefinitionFamilies",
        "ListTaskDefinitions",
        "PutAccountSetting",
        "PutAccountSettingDefault",
        "RegisterTaskDefinition",
        "StopServiceDeployment",
        "TagResource",
        "UntagResource",
        "UpdateCapacityProvider",
    }
)
"""Operations that are about no cluster, unless a resource that they name is in one."""

_LAUNCHES: Final[Mapping[str, Any]] = {"passes": _roles_for_ecs, "runs": _runs}
_LAUNCHING: Final = frozenset({"CreateService", "CreateTaskSet", "UpdateService"})

ROWS: Final[Mapping[str, Row]] = {
    **{
        name: Row(
            f"ecs:{name}",
            resources,
            _values_without_cluster if name in WITHOUT_CLUSTER else _values,
            _of_cluster_of,
            **(_LAUNCHES if name in _LAUNCHING else {}),
        )
        for name, resources in _ROWS
    },
    "ExecuteCommand": Row("ecs:ExecuteCommand", _exec, _values_of_task, _of_cluster_of),
    "RegisterTaskDefinition": Row(
        "ecs:RegisterTaskDefinition",
        _new_definition,
        _values_of_definition,
        passes=_roles_of_definition,
    ),
    **{
        name: Row(f"ecs:{name}", _definitions("taskDefinition"), _values, **_LAUNCHES)
        for name in ("RunTask", "StartTask")
    },
}
