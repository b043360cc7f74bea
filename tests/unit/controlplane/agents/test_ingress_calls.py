"""The calls of ingresses, as an ingress makes them."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.controlplane.agents import ingress_leases
from agent.model.ingress import Reported, Reports, TargetReport, Truth
from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import Endpoint, control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HEALTHY = TargetReport(state="healthy")


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    async with control_endpoint(tmp_path) as running:
        yield running


class Ingress:
    """An ingress that does only what a test says."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.id = uuid.uuid4().hex
        self.url = f"{endpoint.url}/v1/ingresses/{self.id}"
        self.truth = Truth(run="", serial=0)

    async def poll(self, wait_s: float = 0.0, **more: str) -> Truth | None:
        query = {"run": self.truth.run, "after": str(self.truth.serial), "wait": str(wait_s)} | more
        async with self.endpoint.session.get(self.url, params=query) as answer:
            if answer.status == 204:
                return None
            assert answer.status == 200
            self.truth = msgspec.json.decode(await answer.read(), type=Truth)
            return self.truth

    async def tell(self, groups: dict[str, Any], *, is_whole: bool = False) -> bool:
        body = msgspec.json.encode(Reports(groups=groups, is_whole=is_whole))
        async with self.endpoint.session.post(f"{self.url}/health", data=body) as answer:
            assert answer.status == 200
            return msgspec.json.decode(await answer.read(), type=Reported).is_known


class Shop:
    """A listener that forwards to a group."""

    def __init__(self, elb: AwsClient) -> None:
        self.elb = elb

    async def build(self) -> Shop:
        made = await self.elb.call("create_load_balancer", Name="web", Subnets=["subnet-1"])
        balancer = made["LoadBalancers"][0]["LoadBalancerArn"]
        made = await self.elb.call(
            "create_target_group", Name="shop", Protocol="HTTP", Port=80, TargetType="ip"
        )
        self.group = made["TargetGroups"][0]["TargetGroupArn"]
        self.group_id = self.group.rpartition("/")[2]
        made = await self.elb.call(
            "create_listener",
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.group}],
        )
        self.listener = made["Listeners"][0]["ListenerArn"]
        return self

    async def register(self, address: str) -> None:
        targets = [{"Id": address}]
        await self.elb.call("register_targets", TargetGroupArn=self.group, Targets=targets)

    async def state(self) -> tuple[str, str]:
        told = await self.elb.call("describe_target_health", TargetGroupArn=self.group)
        health = told["TargetHealthDescriptions"][0]["TargetHealth"]
        return health["State"], health.get("Reason", "")


@pytest.fixture
async def shop(endpoint: Endpoint) -> AsyncIterator[Shop]:
    elb = await AwsClient.of(endpoint, "elbv2")
    yield await Shop(elb).build()
    elb.close()


async def test_an_ingress_is_told_everything_and_then_what_changes(
    endpoint: Endpoint, shop: Shop
) -> None:
    ingress = Ingress(endpoint)
    first = await ingress.poll()
    assert first is not None
    assert first.listeners is not None
    assert first.groups is not None
    assert [each.port for each in first.listeners] == [80]
    assert [each.id for each in first.groups] == [shop.group_id]
    assert first.targets == {shop.group_id: ()}
    assert await ingress.poll() is None

    held = asyncio.create_task(ingress.poll(wait_s=30.0))
    await asyncio.sleep(0)
    await shop.register("10.0.0.1")
    later = await held
    assert later is not None
    assert later.listeners is None
    assert [each.name for each in later.targets[shop.group_id]] == ["10.0.0.1/80"]

    await shop.elb.call(
        "deregister_targets", TargetGroupArn=shop.group, Targets=[{"Id": "10.0.0.1", "Port": 80}]
    )
    later = await ingress.poll(wait_s=30.0)
    assert later is not None
    assert later.targets[shop.group_id][0].drains

    ingress.truth = Truth(run="another", serial=5)
    whole = await ingress.poll()
    assert whole is not None
    assert whole.listeners


async def test_a_target_that_has_drained_is_told_as_gone_when_its_time_is_over(
    endpoint: Endpoint, shop: Shop
) -> None:
    await shop.elb.call(
        "modify_target_group_attributes",
        TargetGroupArn=shop.group,
        Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "1"}],
    )
    await shop.register("10.0.0.1")
    ingress = Ingress(endpoint)
    await ingress.poll()
    await shop.elb.call(
        "deregister_targets", TargetGroupArn=shop.group, Targets=[{"Id": "10.0.0.1", "Port": 80}]
    )
    async with asyncio.timeout(40):
        while ingress.truth.targets.get(shop.group_id) != ():
            await ingress.poll(wait_s=30.0)


async def test_only_the_load_balancers_that_are_named_are_told(
    endpoint: Endpoint, shop: Shop
) -> None:
    ingress = Ingress(endpoint)
    told = await ingress.poll(balancer="other")
    assert told is not None
    assert told.listeners == ()
    assert told.groups == ()
    ingress.truth = Truth(run="", serial=0)
    told = await ingress.poll(balancer="web")
    assert told is not None
    assert told.listeners


async def test_the_health_of_targets_is_what_an_ingress_reports_while_it_lives(
    endpoint: Endpoint, shop: Shop
) -> None:
    await shop.register("10.0.0.1")
    ingress = Ingress(endpoint)
    await ingress.poll()
    assert await shop.state() == ("initial", "Elb.RegistrationInProgress")
    reports = {shop.group_id: {"10.0.0.1/80": HEALTHY}, "0123456789abcdef": {}}
    assert not await ingress.tell(reports), "only a whole report begins a lease"
    assert await ingress.tell(reports, is_whole=True)
    assert await shop.state() == ("healthy", "")
    bad = TargetReport(state="unhealthy", reason="Target.Timeout", description="Request timed out")
    assert await ingress.tell({shop.group_id: {"10.0.0.1/80": bad}})
    assert await shop.state() == ("unhealthy", "Target.Timeout")
    async with endpoint.session.delete(ingress.url) as answer:
        assert answer.status == 204
    assert await shop.state() == ("initial", "Elb.RegistrationInProgress")
    told = await ingress.poll(wait_s=30.0, reported="1")
    assert told is not None
    assert not told.is_known


@pytest.mark.parametrize(
    "body",
    [
        b"nothing",
        b'{"groups":{"g":{"t":{"state":"new"}}}}',
        msgspec.json.encode({"groups": {"g": {"t": {"state": "healthy", "reason": "x" * 300}}}}),
        b'{"groups":{},"balancers":["a b"]}',
    ],
)
async def test_reports_that_cannot_be_taken_are_refused(endpoint: Endpoint, body: bytes) -> None:
    url = Ingress(endpoint).url
    async with endpoint.session.post(f"{url}/health", data=body) as answer:
        assert answer.status == 400
    async with endpoint.session.get(f"{endpoint.url}/v1/ingresses/nobody") as answer:
        assert answer.status == 400


async def test_there_are_only_so_many_ingresses(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of an agent is enough to report as an ingress, under any id."""
    monkeypatch.setattr(ingress_leases, "INGRESSES_MOST", 1)
    first, second = Ingress(endpoint), Ingress(endpoint)
    assert await first.tell({}, is_whole=True)
    body = msgspec.json.encode(Reports(groups={}, is_whole=True))
    url = f"{second.url}/health"
    async with endpoint.session.post(url, data=body) as answer:
        assert answer.status == 429
        assert (await answer.json())["code"] == "TooManyIngresses"
    assert await first.tell({}, is_whole=True), "one that is known goes on"
    await endpoint.session.delete(first.url)
    assert await second.tell({}, is_whole=True)


async def test_a_report_with_too_many_groups_is_refused(endpoint: Endpoint) -> None:
    ingress = Ingress(endpoint)
    body = msgspec.json.encode(Reports(groups={f"g{n}": None for n in range(10_001)}))
    async with endpoint.session.post(f"{ingress.url}/health", data=body) as answer:
        assert answer.status == 400
        assert "more than 10000 items" in (await answer.json())["message"]
