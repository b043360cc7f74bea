"""The calls of EC2 for security groups as AWS's SDK sees them, and what RunTask makes of groups."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agent.controlplane.names import Names
from agent.controlplane.security_groups import group_records, users
from agent.controlplane.services import acts
from agent.model.changes import AttachmentChange
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import (
    CAPABILITIES,
    ApiFailure,
    Endpoint,
    ScriptedAgent,
    a_report,
    control_endpoint,
    definition,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

VPC = group_records.vpc_id(Names())
DEFAULT = group_records.default_group_id(Names())
ERRORS = frozenset(
    {
        "CannotDelete",
        "DependencyViolation",
        "InvalidGroup.Duplicate",
        "InvalidGroup.NotFound",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "InvalidPermission.Duplicate",
        "InvalidPermission.NotFound",
        "InvalidSecurityGroupRuleId.NotFound",
        "InvalidVpcID.NotFound",
        "MissingParameter",
        "RulesPerSecurityGroupLimitExceeded",
        "UnsupportedOperation",
    }
)
HTTP = {"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


@pytest.fixture
async def ec2(endpoint: Endpoint) -> AsyncIterator[AwsClient]:
    client = await AwsClient.of(endpoint, "ec2", unlisted=ERRORS)
    yield client
    client.close()


async def made(ec2: AwsClient, name: str = "web", **more: Any) -> str:
    answer = await ec2.call("create_security_group", GroupName=name, Description="d", **more)
    group: str = answer["GroupId"]
    return group


async def shown(ec2: AwsClient, group: str) -> dict[str, Any]:
    (found,) = (await ec2.call("describe_security_groups", GroupIds=[group]))["SecurityGroups"]
    described: dict[str, Any] = found
    return described


async def allow(ec2: AwsClient, group: str, **permission: Any) -> list[dict[str, Any]]:
    answer = await ec2.call(
        "authorize_security_group_ingress", GroupId=group, IpPermissions=[permission]
    )
    assert answer["Return"] is True
    rules: list[dict[str, Any]] = answer["SecurityGroupRules"]
    return rules


async def test_a_group_is_created_shown_and_deleted(ec2: AwsClient) -> None:
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "team", "Value": "shop"}]}]
    group = await made(ec2, VpcId=VPC, TagSpecifications=tags)
    everywhere = {"IpProtocol": "-1", "UserIdGroupPairs": [], "PrefixListIds": []}
    assert await shown(ec2, group) == {
        "GroupId": group,
        "GroupName": "web",
        "Description": "d",
        "OwnerId": "000000000000",
        "VpcId": VPC,
        "SecurityGroupArn": f"arn:aws:ec2:us-east-1:000000000000:security-group/{group}",
        "IpPermissions": [],
        "IpPermissionsEgress": [
            everywhere
            | {"IpRanges": [{"CidrIp": "0.0.0.0/0"}], "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
        ],
        "Tags": [{"Key": "team", "Value": "shop"}],
    }
    code, text = await ec2.refused("create_security_group", GroupName="web", Description="d")
    assert (code, text) == (
        "InvalidGroup.Duplicate",
        f"The security group 'web' already exists for VPC '{VPC}'",
    )
    assert (await ec2.call("delete_security_group", GroupId=group))["GroupId"] == group
    code, text = await ec2.refused("describe_security_groups", GroupIds=[group])
    assert (code, text) == (
        "InvalidGroup.NotFound",
        f"The security group '{group}' does not exist",
    )
    await made(ec2)  # its name is free again


async def test_the_default_group_is_always_there_and_stays(ec2: AwsClient) -> None:
    (default,) = (await ec2.call("describe_security_groups"))["SecurityGroups"]
    assert (default["GroupId"], default["GroupName"]) == (DEFAULT, "default")
    (inside,) = default["IpPermissions"]
    assert inside["UserIdGroupPairs"] == [{"GroupId": DEFAULT, "UserId": "000000000000"}]
    code, _ = await ec2.refused("delete_security_group", GroupName="default")
    assert code == "CannotDelete"
    await allow(ec2, DEFAULT, **HTTP, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    assert len((await shown(ec2, DEFAULT))["IpPermissions"]) == 2


NO_GROUPS = (
    ({"GroupName": "default", "Description": "d"}, "InvalidParameterValue"),
    ({"GroupName": "sg-web", "Description": "d"}, "InvalidParameterValue"),
    ({"GroupName": "wéb", "Description": "d"}, "InvalidParameterValue"),
    ({"GroupName": "web", "Description": "d", "VpcId": "vpc-1"}, "InvalidVpcID.NotFound"),
    ({"GroupName": "web", "Description": "d", "DryRun": True}, "UnsupportedOperation"),
)


async def test_other_calls_of_ec2_are_refused_by_name(ec2: AwsClient) -> None:
    code, text = await ec2.refused("describe_route_tables")
    assert (code, text) == (
        "UnsupportedOperation",
        "The operation DescribeRouteTables is not supported by this control endpoint.",
    )


async def test_groups_that_are_refused(ec2: AwsClient) -> None:
    for request, code in NO_GROUPS:
        assert (await ec2.refused("create_security_group", **request))[0] == code, request
    assert len((await ec2.call("describe_security_groups"))["SecurityGroups"]) == 1


async def test_rules_are_added_found_and_removed(ec2: AwsClient) -> None:
    group, other = await made(ec2), await made(ec2, "db")
    rules = await allow(
        ec2,
        group,
        **HTTP,
        IpRanges=[{"CidrIp": "10.1.2.3/8", "Description": "inside"}],
        Ipv6Ranges=[{"CidrIpv6": "fd00::1/16"}],
        UserIdGroupPairs=[{"GroupId": other}, {"GroupName": "default"}],
    )
    (permission,) = (await shown(ec2, group))["IpPermissions"]
    assert permission["IpRanges"] == [{"CidrIp": "10.0.0.0/8", "Description": "inside"}]
    assert permission["Ipv6Ranges"] == [{"CidrIpv6": "fd00::/16"}]
    assert {pair["GroupId"] for pair in permission["UserIdGroupPairs"]} == {other, DEFAULT}
    code, text = await ec2.refused(
        "authorize_security_group_ingress",
        GroupId=group,
        IpPermissions=[HTTP | {"IpRanges": [{"CidrIp": "10.0.0.0/8"}]}],
    )
    assert (code, text) == (
        "InvalidPermission.Duplicate",
        'the specified rule "peer: 10.0.0.0/8, TCP, from port: 80, to port: 80, ALLOW" already exists',
    )
    found = await ec2.call(
        "describe_security_group_rules", Filters=[{"Name": "group-id", "Values": [group]}]
    )
    ids = {rule["SecurityGroupRuleId"] for rule in found["SecurityGroupRules"]}
    assert {rule["SecurityGroupRuleId"] for rule in rules} < ids
    named = {"GroupName": "web", "IpProtocol": "tcp", "FromPort": 80, "ToPort": 80}
    answer = await ec2.call("revoke_security_group_ingress", **named, CidrIp="10.0.0.0/8")
    assert len(answer["RevokedSecurityGroupRules"]) == 1
    code, _ = await ec2.refused("revoke_security_group_ingress", **named, CidrIp="10.0.0.0/8")
    assert code == "InvalidPermission.NotFound"
    left = [rule["SecurityGroupRuleId"] for rule in rules[1:]]
    await ec2.call("revoke_security_group_ingress", GroupId=group, SecurityGroupRuleIds=left)
    assert (await shown(ec2, group))["IpPermissions"] == []
    code, _ = await ec2.refused(
        "revoke_security_group_ingress", GroupId=group, SecurityGroupRuleIds=left
    )
    assert code == "InvalidSecurityGroupRuleId.NotFound"


async def test_egress_is_closed_and_opened(ec2: AwsClient) -> None:
    group = await made(ec2)
    for peer in ({"IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, {"Ipv6Ranges": [{"CidrIpv6": "::/0"}]}):
        await ec2.call(
            "revoke_security_group_egress",
            GroupId=group,
            IpPermissions=[{"IpProtocol": "-1"} | peer],
        )
    assert (await shown(ec2, group))["IpPermissionsEgress"] == []
    ping = {"IpProtocol": "1", "FromPort": 8, "ToPort": -1, "IpRanges": [{"CidrIp": "10.0.0.0/8"}]}
    await ec2.call("authorize_security_group_egress", GroupId=group, IpPermissions=[ping])
    (permission,) = (await shown(ec2, group))["IpPermissionsEgress"]
    assert (permission["IpProtocol"], permission["FromPort"], permission["ToPort"]) == (
        "icmp",
        8,
        -1,
    )


async def test_a_rule_is_modified_and_keeps_its_id(ec2: AwsClient) -> None:
    group = await made(ec2)
    (rule,) = await allow(ec2, group, **HTTP, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    rule_id = rule["SecurityGroupRuleId"]
    new = {"IpProtocol": "udp", "FromPort": 53, "ToPort": 53, "ReferencedGroupId": group}
    asked = [{"SecurityGroupRuleId": rule_id, "SecurityGroupRule": new}]
    await ec2.call("modify_security_group_rules", GroupId=group, SecurityGroupRules=asked)
    (now,) = (await ec2.call("describe_security_group_rules", SecurityGroupRuleIds=[rule_id]))[
        "SecurityGroupRules"
    ]
    assert (now["IpProtocol"], now["FromPort"]) == ("udp", 53)
    assert now["ReferencedGroupInfo"]["GroupId"] == group


NO_RULES: tuple[tuple[dict[str, Any], str], ...] = (
    (HTTP, "MissingParameter"),
    (HTTP | {"IpRanges": [{"CidrIp": "10.0.0.0/33"}]}, "InvalidParameterValue"),
    (HTTP | {"IpRanges": [{"CidrIp": "10.0.0.0"}]}, "InvalidParameterValue"),
    (HTTP | {"Ipv6Ranges": [{"CidrIpv6": "10.0.0.0/8"}]}, "InvalidParameterValue"),
    (
        {"IpProtocol": "tcp", "FromPort": 2, "ToPort": 1, "IpRanges": [{"CidrIp": "::/0"}]},
        "InvalidParameterValue",
    ),
    ({"IpProtocol": "sctpx", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "InvalidParameterValue"),
    ({"IpProtocol": "tcp", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}, "InvalidParameterValue"),
    (HTTP | {"UserIdGroupPairs": [{"GroupId": "sg-none"}]}, "InvalidGroup.NotFound"),
    (HTTP | {"PrefixListIds": [{"PrefixListId": "pl-1"}]}, "UnsupportedOperation"),
    (
        {
            "IpProtocol": "icmp",
            "FromPort": -1,
            "ToPort": 3,
            "IpRanges": [{"CidrIp": "0.0.0.0/0"}],
        },
        "InvalidParameterValue",
    ),
)


async def test_rules_that_are_refused(ec2: AwsClient) -> None:
    group = await made(ec2)
    for permission, code in NO_RULES:
        refused = await ec2.refused(
            "authorize_security_group_ingress", GroupId=group, IpPermissions=[permission]
        )
        assert refused[0] == code, permission
    assert (await shown(ec2, group))["IpPermissions"] == []


async def test_a_group_has_sixty_rules_per_direction_at_most(ec2: AwsClient) -> None:
    group = await made(ec2)
    ranges = [{"CidrIp": f"10.{n}.0.0/16"} for n in range(60)]
    await allow(ec2, group, **HTTP, IpRanges=ranges)
    code, _ = await ec2.refused(
        "authorize_security_group_ingress",
        GroupId=group,
        IpPermissions=[HTTP | {"IpRanges": [{"CidrIp": "11.0.0.0/8"}]}],
    )
    assert code == "RulesPerSecurityGroupLimitExceeded"


async def test_groups_are_filtered_and_paged(ec2: AwsClient) -> None:
    groups = {await made(ec2, f"web-{n}") for n in range(6)}
    found = await ec2.call(
        "describe_security_groups", Filters=[{"Name": "group-name", "Values": ["web-*"]}]
    )
    assert {group["GroupId"] for group in found["SecurityGroups"]} == groups
    first = await ec2.call("describe_security_groups", MaxResults=5)
    rest = await ec2.call("describe_security_groups", MaxResults=5, NextToken=first["NextToken"])
    paged = [group["GroupId"] for page in (first, rest) for group in page["SecurityGroups"]]
    assert sorted(paged) == sorted({*groups, DEFAULT})
    assert "NextToken" not in rest
    code, text = await ec2.refused(
        "describe_security_groups", Filters=[{"Name": "egress.foo", "Values": ["x"]}]
    )
    assert code == "InvalidParameterValue"
    assert "egress.foo" in text


async def test_a_group_that_rules_name_cannot_be_deleted(ec2: AwsClient) -> None:
    group, other = await made(ec2), await made(ec2, "db")
    await allow(ec2, group, **HTTP, UserIdGroupPairs=[{"GroupId": other}])
    code, text = await ec2.refused("delete_security_group", GroupId=other)
    assert (code, text) == ("DependencyViolation", f"resource {other} has a dependent object")
    await ec2.call("delete_security_group", GroupId=group)
    await ec2.call("delete_security_group", GroupId=other)


@pytest.fixture
async def agent(endpoint: Endpoint) -> ScriptedAgent:
    await endpoint.call("CreateCluster")
    await endpoint.call("RegisterTaskDefinition", **definition(networkMode="awsvpc"))
    capabilities = CAPABILITIES | {"ecs-host-agent.security-groups": ""}
    made = ScriptedAgent(endpoint, attributes=capabilities)
    await made.register()
    return made


async def run(endpoint: Endpoint, *groups: str) -> dict[str, Any]:
    vpc: dict[str, Any] = {"subnets": ["any"]} | (
        {"securityGroups": list(groups)} if groups else {}
    )
    answer = await endpoint.call(
        "RunTask", taskDefinition="web", networkConfiguration={"awsvpcConfiguration": vpc}
    )
    assert not answer["failures"]
    (task,) = answer["tasks"]
    started: dict[str, Any] = task
    return started


async def test_an_unknown_group_is_refused_as_on_ecs(
    endpoint: Endpoint, agent: ScriptedAgent
) -> None:
    with pytest.raises(ApiFailure) as caught:
        await run(endpoint, "sg-none")
    assert caught.value.name == "InvalidParameterException"
    assert caught.value.message == (
        "Error retrieving security group information for [sg-none]: The security group 'sg-none' "
        "does not exist (ErrorCode: InvalidGroup.NotFound)"
    )


async def test_a_host_that_does_not_enforce_groups_gets_no_task_that_names_one(
    endpoint: Endpoint, ec2: AwsClient
) -> None:
    await endpoint.call("CreateCluster")
    await endpoint.call("RegisterTaskDefinition", **definition(networkMode="awsvpc"))
    await ScriptedAgent(endpoint).register()
    group = await made(ec2)
    vpc = {"subnets": ["any"], "securityGroups": [group]}
    answer = await endpoint.call(
        "RunTask", taskDefinition="web", networkConfiguration={"awsvpcConfiguration": vpc}
    )
    assert answer["tasks"] == []
    (failure,) = answer["failures"]
    assert failure["reason"] == "ATTRIBUTE"


async def test_a_host_gets_the_rules_with_the_task_and_changes_of_rules_and_members(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient
) -> None:
    group, other = await made(ec2), await made(ec2, "db")
    await allow(ec2, group, **HTTP, UserIdGroupPairs=[{"GroupId": other}])
    first = await agent.poll(after=0)
    assert first is not None
    assert first.security_groups is not None
    assert (first.security_groups.full, first.security_groups.groups) == (True, [])

    task = await run(endpoint, group)
    names = {detail["name"] for detail in task["attachments"][0]["details"]}
    assert names == {"subnetId"}  # as on ECS: groups are not shown there
    order = await agent.poll()
    assert order is not None
    assert [each.task_arn for each in order.tasks] == [task["taskArn"]]
    assert order.security_groups is not None
    told = {each.group.id: each for each in order.security_groups.groups}
    assert told.keys() == {group, other}
    assert [rule.group for rule in told[group].group.rules if rule.group] == [other]
    assert all(each.whole for each in told.values())

    await allow(ec2, group, **HTTP, IpRanges=[{"CidrIp": "10.0.0.0/8"}])
    change = await settled(agent)
    (update,) = change
    assert [r.cidr_ipv4 for r in update.group.rules if r.cidr_ipv4.startswith("10.")] == [
        "10.0.0.0/8"
    ]

    peer = await run(endpoint, other)
    await settled(agent)
    interface = {"privateIPv4Address": "10.207.3.4"}
    await report(agent, peer, "PENDING", interface)
    (update,) = await settled(agent)
    assert (update.group.id, update.group.members) == (other, frozenset({"10.207.3.4"}))
    await report(agent, peer, "STOPPED", interface)
    (update,) = await settled(agent)
    assert update.left == {"10.207.3.4"}


async def settled(agent: ScriptedAgent) -> list[Any]:
    """Return the newest updates, once the host has seen everything."""
    found: list[Any] = []
    while (answer := await agent.poll(wait_s=1 if not found else 0)) is not None:
        if answer.security_groups is not None and answer.security_groups.groups:
            found = answer.security_groups.groups
    return found


async def report(
    agent: ScriptedAgent, task: dict[str, Any], status: str, details: dict[str, str]
) -> None:
    attachment = AttachmentChange(
        id=task["attachments"][0]["id"],
        type="ElasticNetworkInterface",
        status="ATTACHED",
        details=details,
    )
    await agent.report(a_report(task["taskArn"], status, attachments=[attachment]))


async def test_a_group_of_a_task_cannot_be_deleted_until_the_task_has_stopped(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient
) -> None:
    group = await made(ec2)
    task = await run(endpoint, group)
    assert (await ec2.refused("delete_security_group", GroupId=group))[0] == "DependencyViolation"
    await agent.report(a_report(task["taskArn"], "STOPPED"))
    await ec2.call("delete_security_group", GroupId=group)


async def in_group(endpoint: Endpoint, call: str, group: str, **more: Any) -> dict[str, Any]:
    vpc = {"subnets": ["any"], "securityGroups": [group]}
    return await endpoint.call(call, networkConfiguration={"awsvpcConfiguration": vpc}, **more)


async def calls_of_services(endpoint: Endpoint, group: str) -> list[Callable[[], Awaitable[Any]]]:
    """Return CreateService and UpdateService, each naming the group for the first time."""
    old = {"serviceName": "old", "taskDefinition": "web", "desiredCount": 0}
    vpc = {"awsvpcConfiguration": {"subnets": ["any"]}}
    await endpoint.call("CreateService", networkConfiguration=vpc, **old)
    new = old | {"serviceName": "new"}
    return [
        partial(in_group, endpoint, "CreateService", group, **new),
        partial(in_group, endpoint, "UpdateService", group, service="old"),
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["CreateService", "UpdateService"])
async def test_a_group_that_is_deleted_beneath_a_service_call_is_refused(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient,
    monkeypatch: pytest.MonkeyPatch, which: int,
) -> None:  # fmt: skip
    """It is gone after the call has looked it up, and before its transaction."""
    del agent
    group = await made(ec2)
    call = (await calls_of_services(endpoint, group))[which]
    real = acts.rollout_ops

    async def deleted_first(store: Any, before: Any, service: Any, now: float) -> Any:
        if group in str(service):  # not for the loop of services
            monkeypatch.undo()
            await ec2.call("delete_security_group", GroupId=group)
        return await real(store, before, service, now)

    monkeypatch.setattr(acts, "rollout_ops", deleted_first)
    with pytest.raises(ApiFailure, match=f"'{group}' does not exist"):
        await call()
    listed = await endpoint.call("DescribeServices", services=["old", "new"])
    assert group not in str(listed)


@pytest.mark.parametrize("which", [0, 1], ids=["CreateService", "UpdateService"])
async def test_a_group_that_a_service_begins_to_use_beneath_its_deletion_stays(
    endpoint: Endpoint, agent: ScriptedAgent, ec2: AwsClient,
    monkeypatch: pytest.MonkeyPatch, which: int,
) -> None:  # fmt: skip
    """The service is there after the deletion has looked for users, and before its transaction."""
    del agent
    group = await made(ec2)
    call = (await calls_of_services(endpoint, group))[which]
    real = users.is_used

    async def called_last(*arguments: Any) -> bool:
        monkeypatch.undo()
        found = await real(*arguments)
        await call()
        return found

    monkeypatch.setattr(users, "is_used", called_last)
    assert (await ec2.refused("delete_security_group", GroupId=group))[0] == "DependencyViolation"
    assert (await shown(ec2, group))["GroupId"] == group


async def test_a_task_that_names_no_group_is_in_the_default_one(
    endpoint: Endpoint, agent: ScriptedAgent
) -> None:
    await run(endpoint)
    order = await agent.poll(after=0)
    assert order is not None
    assert order.security_groups is not None
    (update,) = order.security_groups.groups
    assert (update.group.id, update.group.is_default) == (DEFAULT, True)
