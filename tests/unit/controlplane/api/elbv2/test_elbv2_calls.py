"""The calls of Elastic Load Balancing as AWS's SDK sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, ScriptedAgent, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000"
ERRORS = frozenset(
    {
        "DuplicateListener",
        "DuplicateLoadBalancerName",
        "DuplicateTagKeys",
        "DuplicateTargetGroupName",
        "IncompatibleProtocols",
        "InvalidConfigurationRequest",
        "InvalidLoadBalancerAction",
        "InvalidTarget",
        "ListenerNotFound",
        "LoadBalancerNotFound",
        "OperationNotPermitted",
        "PriorityInUse",
        "ResourceInUse",
        "RuleNotFound",
        "TargetGroupNotFound",
        "TooManyActions",
        "TooManyTags",
        "UnsupportedOperation",
        "UnsupportedProtocol",
        "ValidationError",
    }
)
"""The short names of the query protocol; the model lists the long ones."""


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


@pytest.fixture
async def elb(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "elbv2", unlisted=ERRORS)
    yield client
    client.close()


class Shop:
    """A load balancer with a listener and two target groups."""

    def __init__(self, elb: AwsClient) -> None:
        self.elb = elb

    async def build(self) -> Shop:
        self.balancer = await balancer(self.elb)
        self.blue = await group(self.elb, "blue")
        self.green = await group(self.elb, "green")
        answer = await self.elb.call(
            "create_listener",
            LoadBalancerArn=self.balancer,
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.blue}],
        )
        (self.shown,) = answer["Listeners"]
        self.listener = self.shown["ListenerArn"]
        return self

    async def rule(self, priority: int, path: str = "/a/*", **more: Any) -> str:
        answer = await self.elb.call("create_rule", **self.a_rule(priority, path, **more))
        return str(answer["Rules"][0]["RuleArn"])

    def a_rule(self, priority: int, path: str = "/a/*", **more: Any) -> dict[str, Any]:
        return {
            "ListenerArn": self.listener,
            "Priority": priority,
            "Conditions": [{"Field": "path-pattern", "Values": [path]}],
            "Actions": [{"Type": "forward", "TargetGroupArn": self.green}],
        } | more

    async def rules(self) -> list[dict[str, Any]]:
        answer = await self.elb.call("describe_rules", ListenerArn=self.listener)
        return list(answer["Rules"])


async def balancer(elb: AwsClient, name: str = "web", **more: Any) -> str:
    answer = await elb.call("create_load_balancer", Name=name, Subnets=["subnet-1"], **more)
    return str(answer["LoadBalancers"][0]["LoadBalancerArn"])


async def group(elb: AwsClient, name: str, **more: Any) -> str:
    request = {"Protocol": "HTTP", "Port": 80, "TargetType": "ip"} | more
    answer = await elb.call("create_target_group", Name=name, **request)
    return str(answer["TargetGroups"][0]["TargetGroupArn"])


async def test_a_load_balancer_from_its_creation_to_its_end(elb: AwsClient) -> None:
    tags = [{"Key": "team", "Value": "shop"}]
    arn = await balancer(elb, Tags=tags)
    assert arn.startswith(f"{ARN}:loadbalancer/app/web/")
    assert await balancer(elb, Tags=tags) == arn, "the same call returns the same load balancer"
    code, _ = await elb.refused("create_load_balancer", Name="web", Subnets=["subnet-2"])
    assert code == "DuplicateLoadBalancerName"

    await elb.wait("load_balancer_available", Names=["web"])
    (shown,) = (await elb.call("describe_load_balancers", LoadBalancerArns=[arn]))["LoadBalancers"]
    assert (shown["Type"], shown["Scheme"], shown["State"]) == (
        "application",
        "internet-facing",
        {"Code": "active"},
    )
    assert [zone["SubnetId"] for zone in shown["AvailabilityZones"]] == ["subnet-1"]

    protect = {"Key": "deletion_protection.enabled", "Value": "true"}
    await elb.call("modify_load_balancer_attributes", LoadBalancerArn=arn, Attributes=[protect])
    code, _ = await elb.refused("delete_load_balancer", LoadBalancerArn=arn)
    assert code == "OperationNotPermitted"
    change = [protect | {"Value": "false"}, {"Key": "idle_timeout.timeout_seconds", "Value": "90"}]
    await elb.call("modify_load_balancer_attributes", LoadBalancerArn=arn, Attributes=change)
    answer = await elb.call("describe_load_balancer_attributes", LoadBalancerArn=arn)
    attributes = {each["Key"]: each["Value"] for each in answer["Attributes"]}
    assert attributes["idle_timeout.timeout_seconds"] == "90"
    assert attributes["access_logs.s3.enabled"] == "false"

    await elb.call("delete_load_balancer", LoadBalancerArn=arn)
    await elb.call("delete_load_balancer", LoadBalancerArn=arn)
    await elb.wait("load_balancers_deleted", LoadBalancerArns=[arn])


REFUSED_BALANCERS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"Name": "-web"}, "ValidationError"),
    ({"Name": "internal-web"}, "ValidationError"),
    ({"Name": "a" * 33}, "ValidationError"),
    ({"Subnets": []}, "ValidationError"),
    ({"Type": "gateway"}, "ValidationError"),
    ({"IpAddressType": "dualstack"}, "ValidationError"),
    ({"SecurityGroups": ["sg-1"]}, "UnsupportedOperation"),
    ({"EnablePrefixForIpv6SourceNat": "on"}, "ValidationError"),
    ({"SubnetMappings": [{"SubnetId": "s", "AllocationId": "a"}]}, "UnsupportedOperation"),
    ({"Tags": [{"Key": "a", "Value": "1"}] * 2}, "DuplicateTagKeys"),
    ({"Tags": [{"Key": "aws:a", "Value": "1"}]}, "ValidationError"),
    ({"Tags": [{"Key": str(n), "Value": "1"} for n in range(51)]}, "TooManyTags"),
)
REFUSED_GROUPS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"Protocol": "HTTPS"}, "ValidationError"),
    ({"ProtocolVersion": "GRPC"}, "InvalidConfigurationRequest"),
    ({"TargetType": "lambda"}, "ValidationError"),
    ({"Port": 70000}, "ValidationError"),
    ({"VpcId": "vpc-1"}, "ValidationError"),
    ({"HealthCheckPath": "health"}, "ValidationError"),
    ({"HealthCheckPath": "/a b"}, "ValidationError"),
    ({"HealthCheckPort": "none"}, "ValidationError"),
    ({"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 5}, "ValidationError"),
    ({"HealthCheckEnabled": False}, "InvalidConfigurationRequest"),
    ({"HealthyThresholdCount": 11}, "ValidationError"),
    ({"Matcher": {"HttpCode": "200-599"}}, "ValidationError"),
    ({"Protocol": "TCP", "HealthCheckPath": "/health"}, "InvalidConfigurationRequest"),
    ({"Protocol": "TCP", "Matcher": {"HttpCode": "200"}}, "InvalidConfigurationRequest"),
)


async def test_attributes_of_a_listener_are_those_of_a_new_one(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    answer = await elb.call("describe_listener_attributes", ListenerArn=shop.listener)
    attributes = {each["Key"]: each["Value"] for each in answer["Attributes"]}
    header = "routing.http.response.x_frame_options.header_value"
    server = "routing.http.response.server.enabled"
    assert (attributes[server], attributes[header]) == ("true", "")
    same = [{"Key": server, "Value": "true"}]
    again = await elb.call("modify_listener_attributes", ListenerArn=shop.listener, Attributes=same)
    assert again["Attributes"] == answer["Attributes"]
    code, message = await elb.refused(
        "modify_listener_attributes",
        ListenerArn=shop.listener,
        Attributes=[{"Key": header, "Value": "DENY"}],
    )
    assert code == "InvalidConfigurationRequest"
    assert header in message
    gone = shop.listener[:-4] + "0000"
    code, _ = await elb.refused("describe_listener_attributes", ListenerArn=gone)
    assert code == "ListenerNotFound"


async def test_a_load_balancer_has_no_capacity_reserved(elb: AwsClient) -> None:
    arn = await balancer(elb)
    answer = await elb.call("describe_capacity_reservation", LoadBalancerArn=arn)
    assert answer["CapacityReservationState"] == []
    assert "MinimumLoadBalancerCapacity" not in answer
    code, _ = await elb.refused("describe_capacity_reservation", LoadBalancerArn=arn[:-4] + "0000")
    assert code == "LoadBalancerNotFound"


async def test_what_no_ingress_can_do_is_refused_by_name(elb: AwsClient) -> None:
    for change, code in REFUSED_BALANCERS:
        request = {"Name": "web", "Subnets": ["subnet-1"]} | change
        found, text = await elb.refused("create_load_balancer", **request)
        assert found == code, (change, text)
    for change, code in REFUSED_GROUPS:
        request = {"Name": "g", "Protocol": "HTTP", "Port": 80, "TargetType": "ip"} | change
        found, text = await elb.refused("create_target_group", **request)
        assert found == code, (change, text)
    assert (await elb.call("describe_target_groups"))["TargetGroups"] == []
    code, text = await elb.refused("describe_ssl_policies")
    assert code == "UnsupportedOperation"
    assert "DescribeSSLPolicies is not supported by this control endpoint" in text


async def test_a_target_group_from_its_creation_to_its_end(elb: AwsClient) -> None:
    arn = await group(elb, "web", HealthCheckPath="/health", Matcher={"HttpCode": "200-299"})
    assert (
        await group(elb, "web", HealthCheckPath="/health", Matcher={"HttpCode": "200-299"}) == arn
    )
    code, _ = await elb.refused(
        "create_target_group", Name="web", Protocol="HTTP", Port=81, TargetType="ip"
    )
    assert code == "DuplicateTargetGroupName"
    (shown,) = (await elb.call("describe_target_groups", Names=["web"]))["TargetGroups"]
    shown.pop("VpcId")
    assert shown == {
        "TargetGroupArn": arn,
        "TargetGroupName": "web",
        "Protocol": "HTTP",
        "Port": 80,
        "HealthCheckProtocol": "HTTP",
        "HealthCheckPort": "traffic-port",
        "HealthCheckEnabled": True,
        "HealthCheckIntervalSeconds": 30,
        "HealthCheckTimeoutSeconds": 5,
        "HealthyThresholdCount": 5,
        "UnhealthyThresholdCount": 2,
        "HealthCheckPath": "/health",
        "Matcher": {"HttpCode": "200-299"},
        "LoadBalancerArns": [],
        "TargetType": "ip",
        "ProtocolVersion": "HTTP1",
        "IpAddressType": "ipv4",
    }
    changed = await elb.call(
        "modify_target_group", TargetGroupArn=arn, HealthCheckIntervalSeconds=10
    )
    (shown,) = changed["TargetGroups"]
    assert (shown["HealthCheckIntervalSeconds"], shown["HealthCheckPath"]) == (10, "/health")
    delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "20"}
    await elb.call("modify_target_group_attributes", TargetGroupArn=arn, Attributes=[delay])
    answer = await elb.call("describe_target_group_attributes", TargetGroupArn=arn)
    assert delay in answer["Attributes"]
    for bad in (
        {"Key": "stickiness.enabled", "Value": "true"},
        {"Key": "deregistration_delay.timeout_seconds", "Value": "3601"},
        {"Key": "no.such", "Value": "1"},
    ):
        code, text = await elb.refused(
            "modify_target_group_attributes", TargetGroupArn=arn, Attributes=[bad]
        )
        assert (code, bad["Key"] in text) == ("InvalidConfigurationRequest", True)
    await elb.call("delete_target_group", TargetGroupArn=arn)
    await elb.call("delete_target_group", TargetGroupArn=arn)
    code, _ = await elb.refused("describe_target_groups", TargetGroupArns=[arn])
    assert code == "TargetGroupNotFound"


async def test_a_listener_with_rules_by_priority(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    second, first = await shop.rule(20), await shop.rule(10, "/b")
    assert [each["Priority"] for each in await shop.rules()] == ["10", "20", "default"]
    code, _ = await elb.refused("create_rule", **shop.a_rule(10))
    assert code == "PriorityInUse"
    pairs = [{"RuleArn": first, "Priority": 20}, {"RuleArn": second, "Priority": 10}]
    await elb.call("set_rule_priorities", RulePriorities=pairs)
    assert [each["RuleArn"] for each in await shop.rules()][:2] == [second, first]

    weights = [
        {"TargetGroupArn": shop.blue, "Weight": 9},
        {"TargetGroupArn": shop.green, "Weight": 1},
    ]
    forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}
    await elb.call("modify_rule", RuleArn=first, Actions=[forward])
    (rule,) = (await elb.call("describe_rules", RuleArns=[first]))["Rules"]
    assert rule["Actions"][0]["ForwardConfig"]["TargetGroups"] == weights
    assert rule["Conditions"][0]["PathPatternConfig"] == {"Values": ["/b"]}

    (shown,) = (await elb.call("describe_target_groups", Names=["green"]))["TargetGroups"]
    assert shown["LoadBalancerArns"] == [shop.balancer]
    code, _ = await elb.refused("delete_target_group", TargetGroupArn=shop.green)
    assert code == "ResourceInUse"
    for arn in (first, second):
        await elb.call("delete_rule", RuleArn=arn)
    await elb.call("delete_target_group", TargetGroupArn=shop.green)
    (default,) = await shop.rules()
    code, _ = await elb.refused("delete_rule", RuleArn=default["RuleArn"])
    assert code == "OperationNotPermitted"


async def test_a_listener_is_repeated_changed_and_deleted(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    same = {
        "LoadBalancerArn": shop.balancer,
        "Protocol": "HTTP",
        "Port": 80,
        "DefaultActions": [{"Type": "forward", "TargetGroupArn": shop.blue}],
    }
    (again,) = (await elb.call("create_listener", **same))["Listeners"]
    assert again == shop.shown
    fixed = {
        "Type": "fixed-response",
        "FixedResponseConfig": {"StatusCode": "503", "MessageBody": "back soon\n"},
    }
    code, _ = await elb.refused("create_listener", **same | {"DefaultActions": [fixed]})
    assert code == "DuplicateListener"
    changed = await elb.call(
        "modify_listener", ListenerArn=shop.listener, Port=8080, DefaultActions=[fixed]
    )
    (shown,) = changed["Listeners"]
    assert shown["Port"] == 8080
    assert shown["DefaultActions"][0]["FixedResponseConfig"] == {
        "StatusCode": "503",
        "MessageBody": "back soon\n",
        "ContentType": "text/plain",
    }
    await elb.call("delete_listener", ListenerArn=shop.listener)
    code, _ = await elb.refused("delete_listener", ListenerArn=shop.listener)
    assert code == "ListenerNotFound"


REFUSED_RULES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"Priority": 50_001}, "ValidationError"),
    ({"Conditions": []}, "ValidationError"),
    ({"Conditions": [{"Field": "path-pattern", "Values": ["/ä"]}]}, "ValidationError"),
    ({"Conditions": [{"Field": "color", "Values": ["/"]}]}, "ValidationError"),
    ({"Conditions": [{"Field": "path-pattern", "Values": ["/"]}] * 2}, "ValidationError"),
    ({"Conditions": [{"Field": "path-pattern", "Values": ["/"] * 6}]}, "ValidationError"),
    (
        {"Conditions": [{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/33"]}}]},
        "ValidationError",
    ),
    (
        {"Conditions": [{"Field": "host-header", "HostHeaderConfig": {"RegexValues": ["a"]}}]},
        "UnsupportedOperation",
    ),
    (
        {"Conditions": [{"Field": "path-pattern", "HostHeaderConfig": {"Values": ["a"]}}]},
        "ValidationError",
    ),
    ({"Conditions": [{"Field": "source-ip", "Values": ["10.0.0.0/8"]}]}, "ValidationError"),
    ({"Actions": [{"Type": "authenticate-oidc"}]}, "UnsupportedOperation"),
    (
        {
            "Actions": [
                {
                    "Type": "fixed-response",
                    "FixedResponseConfig": {"StatusCode": "200"},
                    "RedirectConfig": {"StatusCode": "HTTP_301", "Path": "/b"},
                }
            ]
        },
        "InvalidLoadBalancerAction",
    ),
    ({"Actions": []}, "ValidationError"),
    ({"Actions": [{"Type": "redirect"}]}, "ValidationError"),
    (
        {"Actions": [{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}]},
        "InvalidLoadBalancerAction",
    ),
    (
        {"Actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "302"}}]},
        "InvalidLoadBalancerAction",
    ),
    (
        {"Actions": [{"Type": "forward", "TargetGroupArn": f"{ARN}:targetgroup/x/{'0' * 16}"}]},
        "TargetGroupNotFound",
    ),
    ({"ListenerArn": f"{ARN}:listener/app/web/{'0' * 16}/{'0' * 16}"}, "ListenerNotFound"),
)


async def test_rules_that_are_not_valid_are_refused(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    for change, code in REFUSED_RULES:
        found, text = await elb.refused("create_rule", **shop.a_rule(1, **change))
        assert found == code, (change, text)
    await group(elb, "raw", Protocol="TCP")
    (raw,) = (await elb.call("describe_target_groups", Names=["raw"]))["TargetGroups"]
    forward = [{"Type": "forward", "TargetGroupArn": raw["TargetGroupArn"]}]
    code, _ = await elb.refused("create_rule", **shop.a_rule(1, Actions=forward))
    assert code == "IncompatibleProtocols"
    net = await balancer(elb, "net", Type="network")
    code, text = await elb.refused(
        "create_listener", LoadBalancerArn=net, Protocol="UDP", Port=53, DefaultActions=forward
    )
    assert (code, "use TCP" in text) == ("UnsupportedProtocol", True)
    assert len(await shop.rules()) == 1


async def test_targets_tell_why_they_get_no_traffic(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    targets = [{"Id": "10.0.0.1", "Port": 8080}, {"Id": "10.0.0.2"}]
    for arn in (shop.blue, shop.green):
        await elb.call("register_targets", TargetGroupArn=arn, Targets=[*targets, targets[1]])
        await elb.call("register_targets", TargetGroupArn=arn, Targets=targets[:1])

    async def states(arn: str, **more: Any) -> list[tuple[str, int, str, str]]:
        answer = await elb.call("describe_target_health", TargetGroupArn=arn, **more)
        return [
            (
                each["Target"]["Id"],
                each["Target"]["Port"],
                each["TargetHealth"]["State"],
                each["TargetHealth"]["Reason"],
            )
            for each in answer["TargetHealthDescriptions"]
        ]

    waits, unused = ("initial", "Elb.RegistrationInProgress"), ("unused", "Target.NotInUse")
    assert await states(shop.blue) == [("10.0.0.1", 8080, *waits), ("10.0.0.2", 80, *waits)]
    assert await states(shop.green) == [("10.0.0.1", 8080, *unused), ("10.0.0.2", 80, *unused)]
    await elb.call("deregister_targets", TargetGroupArn=shop.blue, Targets=[{"Id": "10.0.0.1"}])
    leaves = ("draining", "Target.DeregistrationInProgress")
    assert (await states(shop.blue))[0] == ("10.0.0.1", 8080, *leaves)
    await elb.call("register_targets", TargetGroupArn=shop.blue, Targets=targets[:1])
    assert (await states(shop.blue))[0] == ("10.0.0.1", 8080, *waits)

    off = {"Key": "deregistration_delay.timeout_seconds", "Value": "0"}
    await elb.call("modify_target_group_attributes", TargetGroupArn=shop.blue, Attributes=[off])
    await elb.call("deregister_targets", TargetGroupArn=shop.blue, Targets=targets)
    assert await states(shop.blue) == []
    await elb.wait("target_deregistered", TargetGroupArn=shop.blue, Targets=targets)
    code, _ = await elb.refused(
        "deregister_targets", TargetGroupArn=shop.blue, Targets=[{"Id": "10.9.9.9", "Port": 1}]
    )
    assert code == "InvalidTarget"
    code, _ = await elb.refused(
        "register_targets", TargetGroupArn=shop.blue, Targets=[{"Id": "web.example"}]
    )
    assert code == "ValidationError"


async def test_an_instance_is_a_target_by_the_address_of_its_host(
    endpoint: Endpoint, elb: AwsClient
) -> None:
    await endpoint.call("CreateCluster")
    known = ScriptedAgent(endpoint, attributes={"ecs-host-agent.address": "192.0.2.7"})
    silent = ScriptedAgent(endpoint)
    for agent in (known, silent):
        await agent.register()
    arn = await group(elb, "hosts", TargetType="instance")
    await elb.call("register_targets", TargetGroupArn=arn, Targets=[{"Id": known.id, "Port": 99}])
    answer = await elb.call("describe_target_health", TargetGroupArn=arn)
    (only,) = answer["TargetHealthDescriptions"]
    assert only["Target"] == {"Id": known.id, "Port": 99}
    for missing in (silent.id, "i-0123456789abcdef0"):
        code, _ = await elb.refused(
            "register_targets", TargetGroupArn=arn, Targets=[{"Id": missing}]
        )
        assert code == "InvalidTarget"


async def test_tags_of_every_kind_of_resource(elb: AwsClient) -> None:
    shop = await Shop(elb).build()
    arns = [shop.balancer, shop.blue, shop.listener, await shop.rule(1)]
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
    await elb.call("add_tags", ResourceArns=arns, Tags=tags)
    await elb.call("remove_tags", ResourceArns=arns, TagKeys=["a", "other"])
    answer = await elb.call("describe_tags", ResourceArns=arns)
    assert answer["TagDescriptions"] == [
        {"ResourceArn": arn, "Tags": [{"Key": "b", "Value": ""}]} for arn in arns
    ]
    code, _ = await elb.refused("describe_tags", ResourceArns=[f"{shop.balancer[:-1]}x"])
    assert code == "LoadBalancerNotFound"
    code, _ = await elb.refused("add_tags", ResourceArns=["arn"], Tags=tags)
    assert code == "ValidationError"


async def test_lists_come_in_pages(elb: AwsClient) -> None:
    names = [f"g-{n}" for n in range(5)]
    for name in reversed(names):
        await group(elb, name)
    found: list[str] = []
    marker: dict[str, str] = {}
    while True:
        answer = await elb.call("describe_target_groups", PageSize=2, **marker)
        found += [each["TargetGroupName"] for each in answer["TargetGroups"]]
        if "NextMarker" not in answer:
            break
        marker = {"Marker": answer["NextMarker"]}
    assert found == names
    code, _ = await elb.refused("describe_load_balancers", PageSize=2, **marker)
    assert code == "ValidationError"
