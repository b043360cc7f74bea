"""Service Connect: what operators say with boto3, what the store has then, and what hosts are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.api.ecs.task_orders import SERVICE_CONNECT
from agent.controlplane.api.servicediscovery import operations as servicediscovery
from agent.controlplane.api.servicediscovery.errors import ResourceInUse
from agent.controlplane.definition import payload
from agent.controlplane.discovery.feed import NamesOfHosts
from agent.controlplane.discovery.loop import RegistrationLoop
from agent.controlplane.records import AttributeRecord, TaskDefinitionRecord, TaskRecord
from agent.model.changes import NetworkInterface
from agent.model.payload import AliasPort
from tests.support.control_endpoint import CAPABILITIES, definition

if TYPE_CHECKING:
    from tests.unit.controlplane.api.ecs.conftest import Endpoint
    from tests.unit.controlplane.api.ecs.service_shop import Shop

CLOUD_MAP = servicediscovery.handlers()
PORTS = [
    {"containerPort": 80, "name": "http", "appProtocol": "http"},
    {"containerPort": 9090, "name": "admin"},
    {"containerPort": 53, "protocol": "udp", "name": "dns"},
    {"containerPortRange": "100-110", "name": "many"},
    {"containerPort": 81},
]
NETWORK = {"awsvpcConfiguration": {"subnets": ["s-1"]}}
CLIENT = {"enabled": True, "namespace": "shop"}


def config(*services: dict[str, Any], **more: Any) -> dict[str, Any]:
    return CLIENT | {"services": list(services)} | more


def port(name: str = "http", number: int = 80, dns: str = "web", **more: Any) -> dict[str, Any]:
    alias = {"port": number} | ({"dnsName": dns} if dns else {})
    return {"portName": name, "clientAliases": [alias]} | more


@pytest.fixture
async def mall(shop: Shop) -> Shop:
    """A cluster with a host that answers names, the namespace ``shop`` and the family ``api``."""
    has = (*CAPABILITIES, "ecs.capability.network.container-port-range")
    for attributes in (has, (*has, SERVICE_CONNECT)):
        await shop.add_host(attributes={name: AttributeRecord() for name in attributes})
    await names(shop, "CreateHttpNamespace", Name="shop")
    container = {"name": "main", "image": "i", "memory": 64, "portMappings": PORTS}
    request = definition(family="api", networkMode="awsvpc", containerDefinitions=[container])
    await shop.endpoint.call("register_task_definition", **request)
    return shop


async def names(shop: Shop, operation: str, **request: Any) -> dict[str, Any]:
    return await CLOUD_MAP[operation](shop.endpoint.parts, request)


async def registries(shop: Shop) -> dict[str, str]:
    """Return the ids of all registries by their names."""
    return {one["Name"]: one["Id"] for one in (await names(shop, "ListServices"))["Services"]}


async def create(shop: Shop, name: str = "shop", /, **more: Any) -> dict[str, Any]:
    request: dict[str, Any] = {
        "taskDefinition": "api",
        "networkConfiguration": NETWORK,
        "serviceConnectConfiguration": config(port()),
    }
    return await shop.create(name, **(request | more))


async def update(shop: Shop, **more: Any) -> dict[str, Any]:
    answer = await shop.endpoint.call("update_service", service="shop", **more)
    return dict(answer["service"])


async def run(shop: Shop) -> None:
    """Have the loops work, and tasks run with addresses, until nothing changes."""
    parts = shop.endpoint.parts
    for _ in range(6):
        await shop.settle(60)
        async for found, task in access.scan(parts.store, TaskRecord, records.TASKS):
            if not task.containers[0].network_interfaces and task.desired_status == "RUNNING":
                await access.change(parts.store, TaskRecord, found.key, _with_address)
        await RegistrationLoop(parts.store, parts.names).settle()


def _with_address(task: TaskRecord) -> TaskRecord:
    number = int(task.id[:4], 16)
    address = f"10.0.{number // 256}.{number % 256}"
    interface = NetworkInterface(attachment_id="a", private_ipv4_address=address)
    (main,) = task.containers
    main = replace(main, last_status="RUNNING", network_interfaces=[interface])
    return replace(task, last_status="RUNNING", containers=[main])


async def told(shop: Shop) -> dict[str, set[str]]:
    """Return the ids of the tasks that a host is told of each alias."""
    update = await NamesOfHosts(shop.endpoint.parts.store, lambda: None).updates(0)
    assert update is not None
    assert update.names == []
    return {one.name: {each.id for each in one.instances} for one in update.aliases}


async def ids(shop: Shop, service: str = "shop") -> set[str]:
    arns = await shop.endpoint.call("list_tasks", serviceName=service)
    return {arn.rpartition("/")[2] for arn in arns["taskArns"]}


async def test_tasks_are_behind_their_alias_until_the_service_is_gone(mall: Shop) -> None:
    made = await create(mall)
    (registry,) = (await registries(mall)).items()
    assert registry[0] == "http"
    (deployment,) = made["deployments"]
    assert deployment["serviceConnectConfiguration"] == config(port())
    (resource,) = deployment["serviceConnectResources"]
    assert resource["discoveryName"] == "http"
    assert resource["discoveryArn"].endswith(f":service/{registry[1]}")
    assert await told(mall) == {"web": set()}, "there is the name, and nobody behind it yet"
    await run(mall)
    assert await told(mall) == {"web": await ids(mall)}
    assert len(await ids(mall)) == 2
    found = await names(mall, "DiscoverInstances", NamespaceName="shop", ServiceName="http")
    assert {one["Attributes"]["AWS_INSTANCE_PORT"] for one in found["Instances"]} == {"80"}

    # Told to stop, a task is gone before anybody reports anything.
    (first, second) = sorted(await ids(mall))
    await mall.endpoint.call("stop_task", task=first)
    assert await told(mall) == {"web": {second}}
    # Only the service changes what is its own.
    with pytest.raises(ResourceInUse, match="belongs to Service Connect"):
        await names(mall, "DeleteService", Id=registry[1])
    attributes = {"AWS_INSTANCE_IPV4": "10.9.9.9"}
    request = {"ServiceId": registry[1], "InstanceId": "x", "Attributes": attributes}
    with pytest.raises(ResourceInUse, match="belongs to Service Connect"):
        await names(mall, "RegisterInstance", **request)

    await mall.endpoint.call("delete_service", service="shop", force=True)
    await run(mall)
    assert (await mall.describe())["status"] == "INACTIVE"
    assert await told(mall) == {}
    assert await registries(mall) == {}
    (space,) = (await names(mall, "ListNamespaces"))["Namespaces"]
    await names(mall, "DeleteNamespace", Id=space["Id"])
    assert not [kv.key for kv in (await mall.endpoint.parts.store.range("/discovery/inst")).items]


async def test_tasks_know_their_namespace_and_go_to_hosts_that_answer(mall: Shop) -> None:
    parts = mall.endpoint.parts
    await create(mall, serviceConnectConfiguration=CLIENT)
    await mall.create("plain", taskDefinition="api", networkConfiguration=NETWORK)
    await run(mall)
    (space,) = (await names(mall, "ListNamespaces"))["Namespaces"]
    seen = set()
    async for _, task in access.scan(parts.store, TaskRecord, records.TASKS):
        key = records.task_definition_key(task.family, task.revision)
        found = await access.find(parts.store, TaskDefinitionRecord, key)
        assert found is not None
        built = payload.build(task, found.record, parts.names, desired="RUNNING")
        service = task.group.removeprefix("service:")
        assert built.connect_namespace == (space["Id"] if service == "shop" else "")
        host = mall.hosts[task.instance_id]
        if service == "shop":
            assert SERVICE_CONNECT in host.attributes
        seen.add(service)
    assert seen == {"shop", "plain"}
    assert await told(mall) == {}, "clients have no alias"
    assert (await mall.describe("plain"))["deployments"][0].get("serviceConnectResources") is None


async def test_a_port_of_an_alias_leads_to_that_of_the_container(mall: Shop) -> None:
    parts = mall.endpoint.parts
    await create(
        mall,
        desiredCount=1,
        serviceConnectConfiguration=config(port(number=8000), port("admin", 9090, "x")),
    )
    await run(mall)
    (task_id,) = await ids(mall)
    task = await access.find(parts.store, TaskRecord, records.task_key("default", task_id))
    assert task is not None
    key = records.task_definition_key("api", task.record.revision)
    found = await access.find(parts.store, TaskDefinitionRecord, key)
    assert found is not None
    built = payload.build(task.record, found.record, parts.names, desired="RUNNING")
    assert built.alias_ports == [AliasPort(port=8000, container_port=80)]
    discovered = await names(mall, "DiscoverInstances", NamespaceName="shop", ServiceName="http")
    (instance,) = discovered["Instances"]
    assert instance["Attributes"]["AWS_INSTANCE_PORT"] == "80"


async def test_an_update_leads_to_the_tasks_of_both_deployments(mall: Shop) -> None:
    await create(mall)
    await run(mall)
    old = await ids(mall)
    assert len((await update(mall, serviceConnectConfiguration=config(port())))["deployments"]) == 1
    renamed = config(port(discoveryName="front"), port("admin", 9090, ""))
    shown = await update(mall, serviceConnectConfiguration=renamed)
    assert [one["serviceConnectConfiguration"] for one in shown["deployments"]] == [
        renamed,
        config(port()),
    ]
    assert await told(mall) == {"web": old, "admin.shop": set()}
    assert set(await registries(mall)) == {"http", "front", "admin"}
    await run(mall)
    new = await ids(mall)
    assert not new & old
    assert await told(mall) == {"web": new, "admin.shop": new}
    assert set(await registries(mall)) == {"front", "admin"}
    (deployment,) = (await mall.describe())["deployments"]
    resources = [one["discoveryName"] for one in deployment["serviceConnectResources"]]
    assert resources == ["front", "admin"]
    # What an update does not say stays; what it turns off goes.
    await update(mall, desiredCount=1, forceNewDeployment=True)
    await run(mall)
    assert await told(mall) == {"web": await ids(mall), "admin.shop": await ids(mall)}
    await update(mall, serviceConnectConfiguration={"enabled": False})
    await run(mall)
    assert await told(mall) == {}
    assert await registries(mall) == {}
    (deployment,) = (await mall.describe())["deployments"]
    assert "serviceConnectConfiguration" not in deployment
    assert len(await ids(mall)) == 1


async def test_many_tasks_with_many_names_stop(mall: Shop) -> None:
    ports = [{"containerPort": n, "name": f"p{n}"} for n in range(1, 6)]
    container = {"name": "main", "image": "i", "memory": 16, "portMappings": ports}
    request = definition(family="wide", networkMode="awsvpc", containerDefinitions=[container])
    await mall.endpoint.call("register_task_definition", **request)
    given = config(*(port(f"p{n}", n, f"n{n}") for n in range(1, 6)))
    await create(mall, taskDefinition="wide", desiredCount=45, serviceConnectConfiguration=given)
    await run(mall)
    found = await told(mall)
    assert {name: len(tasks) for name, tasks in found.items()} == {f"n{n}": 45 for n in range(1, 6)}
    # Each is in five registries, and all of it goes with the service.
    await mall.endpoint.call("delete_service", service="shop", force=True)
    await run(mall)
    assert (await mall.describe())["status"] == "INACTIVE"
    assert await told(mall) == {}
    assert await registries(mall) == {}


async def test_names_belong_to_one_service(mall: Shop) -> None:
    await create(mall)

    async def refused(*services: dict[str, Any], **more: Any) -> str:
        code, text = await mall.endpoint.refused(
            "create_service",
            serviceName="other",
            taskDefinition="api",
            desiredCount=1,
            networkConfiguration=NETWORK,
            serviceConnectConfiguration=config(*services, **more),
        )
        assert code == "InvalidParameterException"
        return text

    assert "discoveryName http is used in the namespace shop already" in await refused(port())
    shown = (await mall.describe())["serviceArn"]
    text = await refused(port(discoveryName="b"))
    assert text == f"The dnsName web leads to another service in this namespace: {shown}."
    twice = await refused(port(dns="a"), port("admin", 9090, "b", discoveryName="http"))
    assert "already" in twice
    twice = await refused(port(discoveryName="x"), port("admin", 9090, "b", discoveryName="x"))
    assert twice == "The discoveryName x is used twice in serviceConnectConfiguration."
    assert set(await registries(mall)) == {"http"}, "what is refused leaves nothing behind"
    # In another namespace they are free, and so are they after the service.
    await names(mall, "CreatePrivateDnsNamespace", Name="two.internal", Vpc="v")
    await create(
        mall, "other", serviceConnectConfiguration=config(port(), namespace="two.internal")
    )
    await mall.endpoint.call("delete_service", service="shop", force=True)
    await run(mall)
    await create(mall, "third")
    # Two ports of the same tasks may have one name.
    both = config(port(), port("admin", 9090, "web"))
    await mall.endpoint.call("update_service", service="third", serviceConnectConfiguration=both)


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"services": [port("nothing")]}, "InvalidParameter", "'nothing' is the name of no port"),
    ({"services": [port()] * 6}, "InvalidParameter", "at most 5 services"),
    ({"services": [port("dns", 53)]}, "InvalidParameter", "must be one TCP port"),
    ({"services": [port("many", 100)]}, "InvalidParameter", "must be one TCP port"),
    ({"services": [port(number=81)]}, "UnsupportedFeature", "use 80"),
    ({"services": [port(number=0)]}, "InvalidParameter", "between 1 and 65535"),
    (
        {"services": [port(number=8000), port("admin", 8000, "b")]},
        "UnsupportedFeature",
        "for two ports of the same tasks",
    ),
    ({"services": [{"portName": "http"}]}, "InvalidParameter", "one client alias, not 0"),
    ({"services": [port(discoveryName="Web")]}, "InvalidParameter", "lower-case letters"),
    ({"services": [port(discoveryName="x" * 65)]}, "InvalidParameter", "1 to 64"),
    ({"services": [port(dns="-web")]}, "InvalidParameter", "not begin with -"),
    ({"services": [port(dns="a..b")]}, "InvalidParameter", "must be a domain name"),
    ({"services": [port(dns="a." * 63 + "bb")]}, "InvalidParameter", "at most 127"),
    ({"namespace": "nowhere"}, "NamespaceNotFound", "Namespace was not found."),
    ({"namespace": ""}, "InvalidParameter", "needs a namespace"),
    ({"services": [port(ingressPortOverride=81)]}, "UnsupportedFeature", "ingressPortOverride"),
    (
        {"services": [port(timeout={"idleTimeoutSeconds": 1})]},
        "UnsupportedFeature",
        "services.timeout",
    ),
    (
        {"services": [port(tls={"issuerCertificateAuthority": {"awsPcaAuthorityArn": "a"}})]},
        "UnsupportedFeature",
        "services.tls",
    ),
    ({"logConfiguration": {"logDriver": "awslogs"}}, "UnsupportedFeature", "logConfiguration"),
    ({"accessLogConfiguration": {"format": "JSON"}}, "UnsupportedFeature", "accessLogConf"),
    ({"containerConfigurations": [{"logLevel": "debug"}]}, "UnsupportedFeature", "containerConf"),
]


@pytest.mark.parametrize(("given", "code", "says"), CASES)
async def test_what_cannot_be(mall: Shop, given: dict[str, Any], code: str, says: str) -> None:
    name, text = await mall.endpoint.refused(
        "create_service",
        serviceName="shop",
        taskDefinition="api",
        desiredCount=1,
        networkConfiguration=NETWORK,
        serviceConnectConfiguration=CLIENT | given,
    )
    assert (name, says in text) == (f"{code}Exception", True), text
    assert await registries(mall) == {}


async def test_services_that_cannot_have_it(mall: Shop) -> None:
    request: dict[str, Any] = {
        "serviceName": "shop",
        "taskDefinition": "api",
        "desiredCount": 1,
        "networkConfiguration": NETWORK,
        "serviceConnectConfiguration": config(port()),
    }
    for change, code, says in (
        ({"desiredCount": 1001}, "InvalidParameter", "at most 1000"),
        (
            {"taskDefinition": "web", "networkConfiguration": {}},
            "UnsupportedFeature",
            "network mode awsvpc",
        ),
        (
            {"deploymentConfiguration": {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 1}},
            "UnsupportedFeature",
            "use ROLLING",
        ),
    ):
        name, text = await mall.endpoint.refused("create_service", **(request | change))
        assert (name, says in text) == (f"{code}Exception", True), text


async def test_the_default_namespace_of_a_cluster(endpoint: Endpoint, mall: Shop) -> None:
    async def namespaces() -> dict[str, dict[str, Any]]:
        found = (await names(mall, "ListNamespaces"))["Namespaces"]
        return {one["Name"]: one for one in found}

    created = await endpoint.call(
        "create_cluster", clusterName="new", serviceConnectDefaults={"namespace": "fresh"}
    )
    fresh = (await namespaces())["fresh"]
    assert fresh["Type"] == "HTTP"
    assert created["cluster"]["serviceConnectDefaults"] == {"namespace": fresh["Arn"]}
    shop = (await namespaces())["shop"]["Arn"]
    for given in ("shop", shop):
        answer = await endpoint.call(
            "update_cluster", cluster="default", serviceConnectDefaults={"namespace": given}
        )
        assert answer["cluster"]["serviceConnectDefaults"] == {"namespace": shop}
    await endpoint.call("update_cluster", cluster="default", settings=[])
    (shown,) = (await endpoint.call("describe_clusters"))["clusters"]
    assert shown["serviceConnectDefaults"] == {"namespace": shop}
    made = await create(mall, serviceConnectConfiguration={"enabled": True, "services": [port()]})
    assert made["deployments"][0]["serviceConnectConfiguration"]["namespace"] == shop

    await create(mall, "client", serviceConnectConfiguration=CLIENT)
    await create(mall, "off", serviceConnectConfiguration={"enabled": False})
    for given in ("shop", shop):
        listed = await endpoint.call("list_services_by_namespace", namespace=given)
        found = [arn.rpartition("/")[2] for arn in listed["serviceArns"]]
        assert found == ["client", "shop"]
    listed = await endpoint.call("list_services_by_namespace", namespace="fresh")
    assert listed["serviceArns"] == []
    code, _ = await endpoint.refused("list_services_by_namespace", namespace="nowhere")
    assert code == "NamespaceNotFoundException"

    unknown = {"namespace": f"{shop}x"}
    code, _ = await endpoint.refused(
        "update_cluster", cluster="new", serviceConnectDefaults=unknown
    )
    assert code == "NamespaceNotFoundException"
    code, text = await endpoint.refused(
        "create_cluster", clusterName="bad", serviceConnectDefaults={"namespace": "a/b"}
    )
    assert (code, "visible ASCII" in text) == ("InvalidParameterException", True)
    answer = await endpoint.call(
        "update_cluster", cluster="new", serviceConnectDefaults={"namespace": ""}
    )
    assert "serviceConnectDefaults" not in answer["cluster"]
    assert "fresh" in await namespaces(), "the namespace stays"


async def test_a_rollback_leads_back(mall: Shop) -> None:
    await create(mall)
    await run(mall)
    old = await ids(mall)
    await update(mall, serviceConnectConfiguration=config(port(dns="next", discoveryName="next")))
    assert set(await told(mall)) == {"web", "next"}
    (rollout, *_) = (await mall.endpoint.call("list_service_deployments", service="shop"))[
        "serviceDeployments"
    ]
    await mall.endpoint.call(
        "stop_service_deployment",
        serviceDeploymentArn=rollout["serviceDeploymentArn"],
        stopType="ROLLBACK",
    )
    await run(mall)
    assert await told(mall) == {"web": old}
    assert set(await registries(mall)) == {"http"}
