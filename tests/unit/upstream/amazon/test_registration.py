"""Registering until it works, and stopping only where waiting cannot help."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from msgspec.structs import replace

from agent.errors import (
    AwsRefused,
    AwsUnavailable,
    ConfigError,
    CredentialsMissing,
    RegistrationRefused,
    StateFailure,
)
from agent.model.resources import HostResources
from agent.resources.attributes import Features, towards_ecs
from agent.state import Batch, StateStore
from agent.upstream.amazon import registration as registrations
from agent.upstream.amazon.calls import SteppedBackoff
from agent.upstream.amazon.ec2 import facts, warm_pool
from agent.upstream.amazon.identity import INSTANCE
from agent.upstream.amazon.registration import AmazonRegistration, Instance, RegistrationSettings
from agent.upstream.connection import ConnectionStatus
from agent.upstream.protocol import RegisterInfo
from tests.support.ecs_calls import Reply, ScriptedApi, ScriptedMetadata

ARN = "arn:aws:ecs:us-east-1:1:container-instance/c/0123"
OTHER = "arn:aws:ecs:us-east-1:1:container-instance/c/4567"
HOST = HostResources(cpu_units=1024, memory_mib=512, os_family="debian_12")
INFO = RegisterInfo(
    resources=HOST,
    attributes=towards_ecs(HOST, Features(), api_version="1.41"),
    tags={"team": "a"},
)
SETTINGS = RegistrationSettings(cluster="c", warm_pool_interval_s=0.0, proof_limit_s=0.0)


def answer(arn: str = ARN, changed: dict[str, str | None] | None = None) -> dict[str, Any]:
    """Return the answer of an ECS that keeps all attributes but the changed ones."""
    held: dict[str, str | None] = {
        **INFO.attributes,
        "rack": "r1",
        "ecs.availability-zone": "us-east-1a",
        **(changed or {}),
    }
    attributes = [{"name": n, "value": v} for n, v in held.items() if v is not None]
    return {"containerInstance": {"containerInstanceArn": arn, "attributes": attributes}}


class Bench:
    """One registration with scripted answers, and what it did."""

    def __init__(
        self,
        store: StateStore,
        *replies: Reply,
        settings: RegistrationSettings = SETTINGS,
        saved_arn: str = "",
        imds: ScriptedMetadata | None = None,
        **kwargs: Any,
    ) -> None:
        self.api = ScriptedApi(RegisterContainerInstance=list(replies))
        self.link = ConnectionStatus("http://ecs")
        self.registration = AmazonRegistration(
            settings,
            store,
            self.api,
            imds,
            lambda: INFO,
            self.link,
            SteppedBackoff(0.001, 0.002),
            saved_arn=saved_arn,
            **kwargs,
        )

    @classmethod
    async def open(
        cls,
        store: StateStore,
        *replies: Reply,
        settings: RegistrationSettings = SETTINGS,
        **kwargs: Any,
    ) -> Bench:
        saved_arn = await registrations.read_saved_arn(store, settings.cluster)
        return cls(store, *replies, settings=settings, saved_arn=saved_arn, **kwargs)

    async def registered(self) -> Instance:
        await self.registration.run()
        return await self.registration.instance()

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.api.requests("RegisterContainerInstance")


async def test_a_new_host_registers_and_is_saved(store: StateStore) -> None:
    bench = await Bench.open(
        store, answer(), settings=replace(SETTINGS, custom_attributes={"rack": "r1"})
    )
    waiting = asyncio.create_task(bench.registration.instance())
    instance = await bench.registered()
    assert await waiting == instance
    assert instance == Instance(arn=ARN, cluster="c", availability_zone="us-east-1a")
    assert bench.registration.instance_arn == ARN
    assert {"name": "rack", "value": "r1"} in bench.requests[0]["attributes"]
    assert bench.requests[0]["tags"] == [{"key": "team", "value": "a"}]
    assert bench.registration.liveness.due == math.inf
    assert not bench.link.error
    await bench.registration.run()
    assert len(bench.requests) == 1


async def test_a_restarted_agent_is_the_same_instance(store: StateStore) -> None:
    await (await Bench.open(store, answer())).registered()
    bench = await Bench.open(
        store, answer(), settings=replace(SETTINGS, custom_attributes={"rack": "r1"})
    )
    assert bench.registration.instance_arn == ARN
    assert (await bench.registered()).arn == ARN
    assert bench.requests[0]["containerInstanceArn"] == ARN
    assert "rack" not in {item["name"] for item in bench.requests[0]["attributes"]}


@pytest.mark.parametrize(
    "trouble",
    [
        AwsUnavailable("away", code="ThrottlingException", retry_after_s=0.0),
        AwsRefused("no", code="AccessDeniedException"),
        AwsRefused("no", code="ClusterNotFoundException"),
        AwsRefused("ClientException: Cluster not found.", code="ClientException"),
        AwsRefused("ClientException: The referenced cluster was inactive.", code="ClientException"),
        AwsRefused("what", code="SomethingNew"),
        CredentialsMissing("none"),
        {},
        {"containerInstance": None},
        {"containerInstance": {"containerInstanceArn": "x"}},
    ],
)
async def test_what_may_pass_is_waited_out_with_one_token(
    store: StateStore, trouble: Reply
) -> None:
    bench = await Bench.open(store, trouble, trouble, trouble, answer())
    assert (await bench.registered()).arn == ARN
    assert len(bench.requests) == 4
    assert len({request["clientToken"] for request in bench.requests}) == 1
    assert bench.link.error
    assert bench.link.next_try
    assert not bench.link.connected
    bench.link.up()
    assert bench.link.next_try == 0.0


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("AccessDeniedException", "policy"),
        ("ClusterNotFoundException", "create the cluster"),
        ("UnrecognizedClientException", "check the keys and the region"),
        ("InvalidSignatureException", "check the keys and the region"),
    ],
)
async def test_what_is_waited_out_names_the_mend(store: StateStore, code: str, mend: str) -> None:
    said = f"RegisterContainerInstance: {code}: No."
    bench = await Bench.open(store, AwsRefused(said, code=code), answer())
    await bench.registered()
    told = bench.link.error
    assert told.startswith(f"RegisterContainerInstance: {code}: No; ")
    assert mend in told


@pytest.mark.parametrize("code", ["InvalidParameterException", "ClientException"])
async def test_what_a_person_must_mend_ends_it(store: StateStore, code: str) -> None:
    bench = await Bench.open(store, AwsRefused(f"{code}: the tags are odd", code=code))
    with pytest.raises(RegistrationRefused, match="the tags are odd; correct the settings"):
        await bench.registered()
    assert len(bench.requests) == 1
    assert "the tags are odd" in bench.link.error


@pytest.mark.parametrize(
    ("said", "mend"),
    [
        ("Container instance 0123 is inactive.", "was deregistered or is of another control"),
        ("The referenced container instance was not found.", "is of another control"),
        ("Container instance type changes are not supported.", "back to its former type"),
        ("what else", "correct the settings that it names, or"),
    ],
)
async def test_an_instance_that_may_not_come_back(store: StateStore, said: str, mend: str) -> None:
    await (await Bench.open(store, answer())).registered()
    with pytest.raises(RegistrationRefused, match=mend) as caught:
        await (await Bench.open(store, AwsRefused(said, code="ClientException"))).registered()
    assert f"remove {store.path}" in str(caught.value)
    assert ARN in str(caught.value)


async def test_a_refusal_without_proof_says_nothing_about_the_host(store: StateStore) -> None:
    imds = ScriptedMetadata(
        {
            facts.DOCUMENT: [AwsUnavailable("slow"), AwsUnavailable("slow"), '{"a": 1}'],
            facts.SIGNATURE: "sig",
        }
    )
    refused = AwsRefused("no document", code="ClientException")
    bench = await Bench.open(store, refused, answer(), imds=imds)
    assert (await bench.registered()).arn == ARN
    assert [r["instanceIdentityDocument"] for r in bench.requests] == ["", '{"a": 1}']
    assert [r["instanceIdentityDocumentSignature"] for r in bench.requests] == ["", "sig"]


@pytest.mark.parametrize("held", [None, "windows"])
async def test_attributes_that_are_not_kept_end_it(store: StateStore, held: str | None) -> None:
    changed = answer(changed={"ecs.os-type": held})
    with pytest.raises(RegistrationRefused, match=f"ecs.os-type \\({held or 'absent'}\\)"):
        await (await Bench.open(store, changed)).registered()
    assert await store.get_meta(registrations.CLUSTER) is None


async def test_a_custom_attribute_that_did_not_arrive_ends_it(store: StateStore) -> None:
    body = {"containerInstanceArn": ARN, "attributes": []}
    settings = replace(SETTINGS, custom_attributes={"rack": "r1"})
    with pytest.raises(RegistrationRefused, match=r"rack \(absent\); correct ECS_INSTANCE_ATTRIB"):
        await (await Bench.open(store, {"containerInstance": body}, settings=settings)).registered()


@pytest.mark.parametrize("listed", [None, "x", [], [None, 7, {"value": "x"}]])
async def test_an_answer_without_attributes_will_do(store: StateStore, listed: Any) -> None:
    body = {"containerInstanceArn": ARN, "attributes": listed}
    instance = await (await Bench.open(store, {"containerInstance": body})).registered()
    assert instance == Instance(arn=ARN, cluster="c")


async def test_the_default_cluster_is_made_where_none_was_chosen(store: StateStore) -> None:
    missing = AwsRefused("Cluster not found.", code="ClientException")
    bench = await Bench.open(
        store, missing, answer(), settings=RegistrationSettings(cluster_given=False)
    )
    bench.api.scripts["CreateCluster"] = [{"cluster": {}}]
    assert (await bench.registered()).cluster == "default"
    assert [name for name, _ in bench.api.calls] == [
        "RegisterContainerInstance",
        "CreateCluster",
        "RegisterContainerInstance",
    ]
    assert bench.api.requests("CreateCluster") == [{"clusterName": "default"}]
    assert bench.requests[0] == bench.requests[1]


async def test_a_cluster_that_may_not_be_made_is_waited_for(store: StateStore) -> None:
    missing = AwsRefused("x", code="ClusterNotFoundException")
    bench = await Bench.open(
        store, missing, answer(), settings=RegistrationSettings(cluster_given=False)
    )
    bench.api.scripts["CreateCluster"] = [AwsRefused("denied", code="ClientException")]
    assert (await bench.registered()).arn == ARN
    assert "denied" in bench.link.error


async def test_a_chosen_cluster_is_never_made(store: StateStore) -> None:
    bench = await Bench.open(
        store,
        AwsRefused("x", code="ClusterNotFoundException"),
        answer(),
        settings=RegistrationSettings(cluster="default"),
    )
    await bench.registered()
    assert bench.api.requests("CreateCluster") == []
    assert "create the cluster 'default', or set ECS_CLUSTER" in bench.link.error


@pytest.mark.parametrize(
    ("saved", "configured", "same"),
    [
        ("c", "c", True),
        ("c", "arn:aws:ecs:r:1:cluster/c", True),
        ("arn:aws:ecs:r:1:cluster/c", "arn:aws:ecs:r:2:cluster/c", False),
        ("default", "", True),
        ("c", "", False),
        ("c", "d", False),
    ],
)
async def test_a_host_stays_in_its_cluster(
    store: StateStore, saved: str, configured: str, *, same: bool
) -> None:
    batch = Batch()
    batch.put_meta(registrations.CLUSTER, saved)
    await store.commit(batch)
    if same:
        await registrations.read_saved_arn(store, configured)
    else:
        with pytest.raises(ConfigError, match=f"set ECS_CLUSTER={saved}"):
            await registrations.read_saved_arn(store, configured)


async def test_another_arn_is_not_taken(store: StateStore) -> None:
    await (await Bench.open(store, answer())).registered()
    assert (await (await Bench.open(store, answer(OTHER))).registered()).arn == ARN
    short = "arn:aws:ecs:us-east-1:1:container-instance/0123"
    assert (await (await Bench.open(store, answer(short))).registered()).arn == ARN
    bench = await Bench.open(store, answer())
    assert bench.registration.instance_arn == ARN


async def test_manifests_are_counted_anew_for_a_new_instance(store: StateStore) -> None:
    batch = Batch()
    batch.put_meta(registrations.MANIFEST_SEQ, "7")
    await store.commit(batch)
    await (await Bench.open(store, answer())).registered()
    assert await store.get_meta(registrations.MANIFEST_SEQ) is None
    await store.commit(batch)
    await (await Bench.open(store, answer())).registered()
    assert await store.get_meta(registrations.MANIFEST_SEQ) == "7"


async def test_our_own_control_is_noticed(store: StateStore) -> None:
    ours = answer(changed={"ecs-host-agent.control": "1"})
    assert (await (await Bench.open(store, ours)).registered()).control_is_ours


async def test_a_new_instance_is_durable_before_it_is_used(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = store.commit, [1, 2, 3]
    bench = await Bench.open(store, answer())

    def commit(batch: Batch) -> asyncio.Future[None]:
        assert not bench.registration.instance_arn
        if failures.pop():
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(StateFailure("disk full"))
            if not failures:
                failures.append(0)
            return future
        return real(batch)

    monkeypatch.setattr(store, "commit", commit)
    assert (await bench.registered()).arn == ARN
    assert await store.get_meta(INSTANCE) == ARN
    assert len(bench.requests) == 1


async def test_a_full_disk_does_not_stop_an_instance_that_is_known(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await Bench.open(store, answer())).registered()

    def commit(batch: Batch) -> asyncio.Future[None]:
        del batch
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StateFailure("disk full"))
        return future

    monkeypatch.setattr(store, "commit", commit)
    assert (await (await Bench.open(store, answer())).registered()).arn == ARN


async def test_tags_of_the_ec2_instance_are_waited_for(store: StateStore) -> None:
    trouble = [AwsUnavailable("away")]

    async def instance_tags() -> dict[str, str]:
        if trouble:
            raise trouble.pop()
        return {"team": "b", "Name": "web"}

    bench = await Bench.open(store, answer(), instance_tags=instance_tags)
    await bench.registered()
    assert bench.link.error == "away"
    (request,) = bench.requests
    assert request["tags"] == [{"key": "team", "value": "a"}, {"key": "Name", "value": "web"}]


async def test_a_warm_instance_waits_once(store: StateStore) -> None:
    imds = ScriptedMetadata(
        {
            warm_pool.PATH: ["Warmed:Stopped", "InService"],
            facts.DOCUMENT: "{}",
            facts.SIGNATURE: "sig",
        }
    )
    bench = await Bench.open(
        store, answer(), settings=replace(SETTINGS, warm_pools_check=True), imds=imds
    )
    await bench.registered()
    assert "Warmed:Stopped" in bench.link.error
    await bench.registration.run()
    assert imds.asked.count(warm_pool.PATH) == 2


async def test_a_cancelled_registration_promises_nothing(store: StateStore) -> None:
    bench = await Bench.open(store, AwsUnavailable("away", retry_after_s=300.0))
    task = asyncio.create_task(bench.registered())
    await asyncio.sleep(0.05)
    assert bench.link.error
    assert bench.registration.liveness.due < math.inf
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.registration.liveness.due == math.inf


def test_pauses_only_ever_grow_longer() -> None:
    pauses = SteppedBackoff(3.0, 192.0, dice=random.Random(7))
    steps = [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 192.0, 192.0]
    for step in steps:
        assert step <= pauses.next_s() <= step * 1.2
    assert pauses.next_s(250.0) >= 250.0
    assert pauses.next_s(1e9) <= 360.0
    pauses.reset()
    assert 3.0 <= pauses.next_s(-5.0) <= 3.6
