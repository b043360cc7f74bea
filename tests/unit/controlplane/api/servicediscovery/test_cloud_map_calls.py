"""The calls of Cloud Map as AWS's SDK sees them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PREFIX = "arn:aws:servicediscovery:us-east-1:000000000000"
UNSUPPORTED = "UnsupportedFeatureException"


@pytest.fixture
async def names(tmp_path: Path) -> AsyncIterator[AwsClient]:
    async with control_endpoint(tmp_path) as endpoint:
        client = await AwsClient.of(endpoint, "servicediscovery", unlisted=frozenset({UNSUPPORTED}))
        yield client
        client.close()


async def namespace(names: AwsClient, name: str = "shop.internal", **more: Any) -> str:
    """Create a private namespace of DNS and return its id."""
    made = await names.call("create_private_dns_namespace", Name=name, Vpc="vpc-1", **more)
    done = await names.call("get_operation", OperationId=made["OperationId"])
    operation = done["Operation"]
    assert (operation["Status"], operation["Type"]) == ("SUCCESS", "CREATE_NAMESPACE")
    found: str = operation["Targets"]["NAMESPACE"]
    return found


async def registry(names: AwsClient, in_: str, name: str = "web", **more: Any) -> dict[str, Any]:
    """Create a registry with A records and custom health."""
    request: dict[str, Any] = {
        "Name": name,
        "NamespaceId": in_,
        "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 10}]},
        "HealthCheckCustomConfig": {"FailureThreshold": 1},
    }
    made = await names.call("create_service", **(request | more))
    found: dict[str, Any] = made["Service"]
    return found


async def discovered(names: AwsClient, **request: Any) -> list[str]:
    """Return the ids that DiscoverInstances finds."""
    values = {"NamespaceName": "shop.internal", "ServiceName": "web"} | request
    answer = await names.call("discover_instances", **values)
    return sorted(one["InstanceId"] for one in answer["Instances"])


async def test_a_namespace_from_its_creation_to_its_end(names: AwsClient) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    id_ = await namespace(names, Description="näh", Tags=tags)
    shown = (await names.call("get_namespace", Id=f"{PREFIX}:namespace/{id_}"))["Namespace"]
    assert shown.pop("CreateDate")
    assert shown.pop("CreatorRequestId")
    assert shown == {
        "Id": id_,
        "Arn": f"{PREFIX}:namespace/{id_}",
        "ResourceOwner": "000000000000",
        "Name": "shop.internal",
        "Type": "DNS_PRIVATE",
        "Description": "näh",
        "ServiceCount": 0,
        "Properties": {
            "DnsProperties": {"SOA": {"TTL": 15}},
            "HttpProperties": {"HttpName": "shop.internal"},
        },
    }
    await names.call(
        "update_private_dns_namespace",
        Id=id_,
        Namespace={"Properties": {"DnsProperties": {"SOA": {"TTL": 60}}}},
    )
    shown = (await names.call("get_namespace", Id=id_))["Namespace"]
    assert (shown["Description"], shown["Properties"]["DnsProperties"]) == (
        "näh",
        {"SOA": {"TTL": 60}},
    )
    arn = shown["Arn"]
    await names.call("tag_resource", ResourceARN=arn, Tags=[{"Key": "b", "Value": "c"}])
    await names.call("untag_resource", ResourceARN=arn, TagKeys=["team"])
    assert (await names.call("list_tags_for_resource", ResourceARN=arn))["Tags"] == [
        {"Key": "b", "Value": "c"}
    ]
    made = await registry(names, id_)
    code, text = await names.refused("delete_namespace", Id=id_)
    assert code == "ResourceInUse"
    assert "has associated services" in text
    await names.call("delete_service", Id=made["Id"])
    await names.call("delete_namespace", Id=id_)
    for operation in ("get_namespace", "delete_namespace"):
        assert (await names.refused(operation, Id=id_))[0] == "NamespaceNotFound"
    # The name is free again.
    assert await namespace(names) != id_


async def test_a_creation_that_is_repeated_with_its_token(names: AwsClient) -> None:
    request = {"Name": "Shop", "CreatorRequestId": "a"}
    made = await names.call("create_http_namespace", **request)
    assert await names.call("create_http_namespace", **request) == made
    for other in ({"CreatorRequestId": "b"}, {"Description": "d"}, {"Name": "shop"}):
        with pytest.raises(ClientError) as caught:
            await names.call("create_http_namespace", **(request | other))
        answer = caught.value.response
        assert answer["Error"]["Code"] == "NamespaceAlreadyExists"
        assert answer["CreatorRequestId"] == "a"
    id_ = answer["NamespaceId"]
    service = {"Name": "web", "NamespaceId": id_, "CreatorRequestId": "a"}
    first = await names.call("create_service", **service)
    assert await names.call("create_service", **service) == first
    with pytest.raises(ClientError) as caught:
        await names.call("create_service", **(service | {"CreatorRequestId": "b"}))
    assert caught.value.response["Error"]["Code"] == "ServiceAlreadyExists"
    assert caught.value.response["ServiceId"] == first["Service"]["Id"]
    # Names that only programs ask for may differ by case alone.
    assert await names.call("create_service", **(service | {"Name": "WEB"})) != first
    instance = {
        "ServiceId": first["Service"]["Arn"],
        "InstanceId": "i-1",
        "CreatorRequestId": "a",
        "Attributes": {"colour": "red"},
    }
    made = await names.call("register_instance", **instance)
    assert await names.call("register_instance", **instance) == made
    assert await names.call("register_instance", **(instance | {"CreatorRequestId": "b"})) != made


async def test_a_registry_and_its_instances(names: AwsClient) -> None:
    id_ = await namespace(names)
    made = await registry(names, id_, Description="front")
    assert made["CreateDate"]
    assert made["CreatorRequestId"]
    assert (made["Type"], made["InstanceCount"], made["NamespaceId"]) == ("DNS_HTTP", 0, id_)
    dns = {
        "NamespaceId": id_,
        "RoutingPolicy": "MULTIVALUE",
        "DnsRecords": [{"Type": "A", "TTL": 10}],
    }
    assert made["DnsConfig"] == dns
    before = await names.call(
        "discover_instances_revision", NamespaceName="SHOP.internal", ServiceName="Web"
    )
    for number in range(3):
        await names.call(
            "register_instance",
            ServiceId=made["Id"],
            InstanceId=f"i-{number}",
            Attributes={"AWS_INSTANCE_IPV4": f"10.0.0.{number}", "even": str(number % 2 == 0)},
        )
    after = await names.call(
        "discover_instances_revision", NamespaceName="shop.internal", ServiceName="web"
    )
    assert after["InstancesRevision"] > before["InstancesRevision"]
    assert (await names.call("get_service", Id=made["Id"]))["Service"]["InstanceCount"] == 3
    one = await names.call("get_instance", ServiceId=made["Id"], InstanceId="i-1")
    assert one["Instance"]["Attributes"] == {"AWS_INSTANCE_IPV4": "10.0.0.1", "even": "False"}
    first = await names.call("list_instances", ServiceId=made["Id"], MaxResults=2)
    rest = await names.call("list_instances", ServiceId=made["Id"], NextToken=first["NextToken"])
    assert [each["Id"] for each in first["Instances"] + rest["Instances"]] == ["i-0", "i-1", "i-2"]
    assert "NextToken" not in rest
    assert await discovered(names) == ["i-0", "i-1", "i-2"]
    assert await discovered(names, QueryParameters={"even": "True"}) == ["i-0", "i-2"]
    assert len(await discovered(names, MaxResults=1)) == 1
    # Optional parameters choose among those that are found, and are not a condition.
    even = {"QueryParameters": {"even": "True"}}
    first = {"AWS_INSTANCE_IPV4": "10.0.0.0"}
    assert await discovered(names, **even, OptionalParameters=first) == ["i-0"]
    assert await discovered(names, **even, OptionalParameters={"zone": "a"}) == ["i-0", "i-2"]
    found = await names.call(
        "discover_instances",
        NamespaceName="shop.internal",
        ServiceName="web",
        QueryParameters={"AWS_INSTANCE_IPV4": "10.0.0.1"},
    )
    assert found["Instances"] == [
        {
            "InstanceId": "i-1",
            "NamespaceName": "shop.internal",
            "ServiceName": "web",
            "HealthStatus": "HEALTHY",
            "Attributes": {"AWS_INSTANCE_IPV4": "10.0.0.1", "even": "False"},
        }
    ]
    assert (await names.refused("delete_service", Id=made["Id"]))[0] == "ResourceInUse"
    for number in range(3):
        await names.call("deregister_instance", ServiceId=made["Id"], InstanceId=f"i-{number}")
    gone = {"ServiceId": made["Id"], "InstanceId": "i-1"}
    for operation in ("deregister_instance", "get_instance"):
        assert (await names.refused(operation, **gone))[0] == "InstanceNotFound"
    await names.call("delete_service", Id=made["Id"])
    assert (await names.refused("get_service", Id=made["Id"]))[0] == "ServiceNotFound"


async def test_health(names: AwsClient) -> None:
    id_ = await namespace(names)
    made = await registry(names, id_)
    address = {"AWS_INSTANCE_IPV4": "10.0.0.1"}
    for name, more in (("a", {}), ("b", {"AWS_INIT_HEALTH_STATUS": "UNHEALTHY"})):
        await names.call(
            "register_instance", ServiceId=made["Id"], InstanceId=name, Attributes=address | more
        )
    health = await names.call("get_instances_health_status", ServiceId=made["Id"])
    assert health["Status"] == {"a": "HEALTHY", "b": "UNHEALTHY"}
    assert await discovered(names) == ["a"]
    assert await discovered(names, HealthStatus="ALL") == ["a", "b"]
    assert await discovered(names, HealthStatus="UNHEALTHY") == ["b"]
    await names.call(
        "update_instance_custom_health_status",
        ServiceId=made["Id"],
        InstanceId="a",
        Status="UNHEALTHY",
    )
    assert await discovered(names) == ["a", "b"], "all, because none is healthy"
    assert await discovered(names, HealthStatus="HEALTHY") == []
    some = await names.call("get_instances_health_status", ServiceId=made["Id"], Instances=["a"])
    assert some["Status"] == {"a": "UNHEALTHY"}
    code, _ = await names.refused(
        "get_instances_health_status", ServiceId=made["Id"], Instances=["a", "c"]
    )
    assert code == "InstanceNotFound"
    # Without custom health nobody knows, and nobody may say.
    bare = (await names.call("create_service", Name="bare", NamespaceId=id_, Type="HTTP"))[
        "Service"
    ]
    await names.call("register_instance", ServiceId=bare["Id"], InstanceId="a", Attributes={})
    health = await names.call("get_instances_health_status", ServiceId=bare["Id"])
    assert health["Status"] == {"a": "UNKNOWN"}
    assert await discovered(names, ServiceName="bare", HealthStatus="UNHEALTHY") == ["a"]
    code, _ = await names.refused(
        "update_instance_custom_health_status",
        ServiceId=bare["Id"],
        InstanceId="a",
        Status="HEALTHY",
    )
    assert code == "CustomHealthNotFound"


async def test_an_update_of_a_registry(names: AwsClient) -> None:
    id_ = await namespace(names)
    both = [{"Type": "A", "TTL": 10}, {"Type": "SRV", "TTL": 10}]
    made = await registry(names, id_, DnsConfig={"DnsRecords": both, "RoutingPolicy": "WEIGHTED"})
    change = {"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 60}]}, "Description": "d"}
    done = await names.call("update_service", Id=made["Id"], Service=change)
    operation = (await names.call("get_operation", **done))["Operation"]
    assert operation["Targets"] == {"SERVICE": made["Id"]}
    shown = (await names.call("get_service", Id=made["Id"]))["Service"]
    assert shown["DnsConfig"]["DnsRecords"] == [{"Type": "A", "TTL": 60}]
    assert (shown["DnsConfig"]["RoutingPolicy"], shown["Description"]) == ("WEIGHTED", "d")
    code, text = await names.refused(
        "update_service", Id=made["Id"], Service={"DnsConfig": {"DnsRecords": both}}
    )
    assert (code, "SRV" in text) == ("InvalidInput", True)


async def test_lists_and_their_filters(names: AwsClient) -> None:
    first = await namespace(names, "a.internal")
    second = await namespace(names, "b.internal")
    await names.call("create_http_namespace", Name="http")
    for name in ("x", "y"):
        await registry(names, first, name)
    await registry(names, second, "z")

    async def listed(*filters: dict[str, Any]) -> list[str]:
        answer = await names.call("list_namespaces", Filters=list(filters))
        return sorted(one["Name"] for one in answer["Namespaces"])

    assert await listed() == ["a.internal", "b.internal", "http"]
    assert await listed({"Name": "TYPE", "Values": ["HTTP"], "Condition": "EQ"}) == ["http"]
    begins = {"Name": "NAME", "Values": ["a."], "Condition": "BEGINS_WITH"}
    assert await listed(begins) == ["a.internal"]
    assert await listed({"Name": "RESOURCE_OWNER", "Values": ["OTHER_ACCOUNTS"]}) == []
    found = await names.call(
        "list_services", Filters=[{"Name": "NAMESPACE_ID", "Values": [first], "Condition": "EQ"}]
    )
    assert sorted(one["Name"] for one in found["Services"]) == ["x", "y"]
    pages: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await names.call("list_services", MaxResults=1, **token)
        pages += [one["Name"] for one in page["Services"]]
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert sorted(pages) == ["x", "y", "z"]
    assert (await names.refused("list_namespaces", NextToken="x"))[0] == "InvalidInput"
    done = await names.call(
        "list_operations",
        Filters=[
            {"Name": "TYPE", "Values": ["CREATE_NAMESPACE"], "Condition": "IN"},
            {"Name": "NAMESPACE_ID", "Values": [second]},
            {"Name": "UPDATE_DATE", "Values": ["0", "9999999999"], "Condition": "BETWEEN"},
        ],
    )
    assert [one["Status"] for one in done["Operations"]] == ["SUCCESS"]
    for bad in (
        {"Name": "UPDATE_DATE", "Values": ["yesterday", "0"], "Condition": "BETWEEN"},
        {"Name": "UPDATE_DATE", "Values": ["0"], "Condition": "BETWEEN"},
        {"Name": "TYPE", "Values": ["a", "b"]},
        {"Name": "SERVICE_ID", "Values": ["a"], "Condition": "BEGINS_WITH"},
    ):
        assert (await names.refused("list_operations", Filters=[bad]))[0] == "InvalidInput"


NO_REGISTRY: list[tuple[dict[str, Any], str]] = [
    ({"Name": "-web"}, "Name must be labels"),
    ({"Name": "a" * 128}, "Name must be labels"),
    ({"DnsConfig": {"DnsRecords": []}}, "must have an item"),
    ({"DnsConfig": {"DnsRecords": [{"Type": "CNAME", "TTL": 1}]}}, "CNAME records are not"),
    ({"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 1}] * 2}}, "the type A twice"),
    ({"DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 2**31}]}}, "TTL must be"),
    ({"Type": "HTTP"}, "DnsConfig cannot be specified"),
    ({"HealthCheckConfig": {"Type": "TCP"}}, "HealthCheckConfig is not supported"),
    ({"HealthCheckCustomConfig": {"FailureThreshold": 11}}, "FailureThreshold must be"),
    ({"Tags": [{"Key": "aws:a", "Value": ""}]}, "reserved"),
    ({"NamespaceId": "arn:aws:ecs:us-east-1:0:x"}, "is not the ARN of a namespace"),
]


async def test_registries_that_cannot_be(names: AwsClient) -> None:
    id_ = await namespace(names)
    for change, says in NO_REGISTRY:
        with pytest.raises(ClientError) as caught:
            await registry(names, id_, **change)
        error = caught.value.response["Error"]
        assert (error["Code"], says in error["Message"]) == ("InvalidInput", True), error


async def test_namespaces_and_calls_that_are_refused(names: AwsClient) -> None:
    for name in ("a..b", "-a", "a b", "a" * 64):
        code, _ = await names.refused("create_private_dns_namespace", Name=name, Vpc="v")
        assert code == "InvalidInput", name
    assert (await names.refused("create_http_namespace", Name="arn:x"))[0] == "InvalidInput"
    code, text = await names.refused("create_public_dns_namespace", Name="example.com")
    assert code == UNSUPPORTED
    assert "use CreatePrivateDnsNamespace" in text
    asked = {"NamespaceName": "nowhere", "ServiceName": "web"}
    assert (await names.refused("discover_instances", **asked))[0] == "NamespaceNotFound"
    await namespace(names)
    asked = {"NamespaceName": "shop.internal", "ServiceName": "web"}
    assert (await names.refused("discover_instances", **asked))[0] == "ServiceNotFound"
    assert (await names.refused("get_operation", OperationId="x"))[0] == "OperationNotFound"
    code, _ = await names.refused("list_tags_for_resource", ResourceARN=f"{PREFIX}:service/srv-1")
    assert code == "ResourceNotFoundException"


NO_INSTANCE: list[tuple[dict[str, str], str]] = [
    ({}, "AWS_INSTANCE_IPV4 is required"),
    ({"AWS_INSTANCE_IPV4": "10.0.0.300"}, "is not an address"),
    ({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "0"}, "is not a port"),
    ({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_ALIAS_DNS_NAME": "x"}, "no load balancers"),
    ({"AWS_INSTANCE_IPV4": "10.0.0.1", "a b": "x"}, "visible ASCII"),
    ({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INIT_HEALTH_STATUS": "so-so"}, "must be HEALTHY"),
    ({f"k{n}": "v" for n in range(31)}, "at most 30"),
]


async def test_instances_that_cannot_be(names: AwsClient) -> None:
    made = await registry(names, await namespace(names))
    for attributes, says in NO_INSTANCE:
        code, text = await names.refused(
            "register_instance", ServiceId=made["Id"], InstanceId="a", Attributes=attributes
        )
        assert (code, says in text) == ("InvalidInput", True), text


async def test_deletions_beside_creations_leave_nothing_without_its_parent(
    names: AwsClient,
) -> None:
    """Whoever comes first, a registry never is in a namespace that there is not, and so on."""
    for _ in range(5):
        id_ = await namespace(names)
        made = await asyncio.gather(
            registry(names, id_),
            names.call("delete_namespace", Id=id_),
            return_exceptions=True,
        )
        assert sum(isinstance(one, ClientError) for one in made) == 1
        if isinstance(made[0], dict):
            first = made[0]["Id"]
            there = await asyncio.gather(
                names.call(
                    "register_instance",
                    ServiceId=first,
                    InstanceId="a",
                    Attributes={"AWS_INSTANCE_IPV4": "10.0.0.1"},
                ),
                names.call("delete_service", Id=first),
                return_exceptions=True,
            )
            assert sum(isinstance(one, ClientError) for one in there) == 1
            if isinstance(there[0], dict):
                await names.call("deregister_instance", ServiceId=first, InstanceId="a")
                await names.call("delete_service", Id=first)
            await names.call("delete_namespace", Id=id_)
