"""Fetching secrets: each once, a few at a time, and the right words when it fails."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent.engine.preparations import secrets, together
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.secrets import SecretPreparation
from agent.errors import (
    AwsRefused,
    AwsUnavailable,
    ControlUnavailable,
    CredentialsAwaited,
    PayloadError,
)
from agent.model.payload import Container, Credentials, EngineConfig, RoleType, Secret, TaskPayload
from agent.resources.role_credentials import RoleCredentials
from tests.support.host_access import host_access
from tests.support.task_aws import FakeAws, FakeControl
from tests.support.tasks import ARN, container, payload

REGION = "eu-west-1"
ASM = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:db-AbCdEf"
EXECUTION = Credentials(credentials_id="exec")
SPLUNK = EngineConfig(host_config={"logConfig": {"type": "splunk"}})


def ssm(name: str, value_from: str, region: str = REGION, **more: Any) -> Secret:
    return Secret(name=name, value_from=value_from, provider="ssm", region=region, **more)


def asm(name: str, value_from: str = ASM, **more: Any) -> Secret:
    return Secret(name=name, value_from=value_from, provider="asm", region=REGION, **more)


def own(name: str, value_from: str) -> Secret:
    return Secret(name=name, value_from=value_from, endpoint="control")


def task(*containers: Container, **fields: Any) -> TaskPayload:
    return payload(*containers, **{"execution_role_credentials": EXECUTION, **fields})


class Scene:
    """A preparation with what it works with."""

    def __init__(self) -> None:
        self.aws = FakeAws()
        self.control = FakeControl()
        self.kept = RoleCredentials()
        self.kept.keep(ARN, RoleType.EXECUTION, EXECUTION)
        self.access = host_access(
            credentials=self.kept, aws=self.aws, control_secrets=self.control.secrets
        )

    async def prepare(self, *given: Secret, **fields: Any) -> Provision:
        ordered = task(container("a", secrets=list(given), docker_config=SPLUNK), **fields)
        SecretPreparation().check(ordered)
        return await SecretPreparation().prepare(ordered, self.access)

    async def reason(self, *given: Secret, **fields: Any) -> str:
        with pytest.raises(PayloadError) as caught:
            await self.prepare(*given, **fields)
        assert "canary" not in str(caught.value)
        assert not caught.value.name
        return str(caught.value)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_only_a_task_with_secrets_is_prepared() -> None:
    assert not SecretPreparation().is_wanted(task(container("a")))
    assert SecretPreparation().is_wanted(task(container("a"), container("b", secrets=[asm("X")])))


def test_what_cannot_be_given_is_refused_at_once() -> None:
    bad = task(container("a", secrets=[Secret(name="X", value_from="y", provider="vault")]))
    with pytest.raises(PayloadError) as caught:
        SecretPreparation().check(bad)
    assert str(caught.value) == (
        f"resource cannot be initialized for task {ARN}: secret 'X' of container a: "
        "provider 'vault' is not known"
    )


async def test_each_container_gets_what_it_asks_for(scene: Scene) -> None:
    scene.aws.known_parameters = {"/p": "one", "/q": "two"}
    whole = '{"n": 12345678901234567890, "s": "text"}'
    scene.aws.known_secrets = {ASM: whole, f"{ASM} OLD": "o"}
    scene.control.known = {"kept here": "three"}
    ordered = task(
        container("a", secrets=[ssm("P", "/p"), asm("N", f"{ASM}:n::"), own("C", "kept here")]),
        container(
            "b",
            docker_config=SPLUNK,
            secrets=[
                ssm("P2", "/p"),
                ssm("splunk-token", "/q", target="LOG_DRIVER"),
                asm("S", f"{ASM}:s::"),
                asm("ALL"),
                asm("OLD", f"{ASM}::OLD:"),
            ],
        ),
    )
    given = await SecretPreparation().prepare(ordered, scene.access)
    assert given == Provision(
        secret_environment={
            "a": {"P": "one", "N": "12345678901234567890", "C": "three"},
            "b": {"P2": "one", "S": "text", "ALL": whole, "OLD": "o"},
        },
        log_options={"b": {"splunk-token": "two"}},
    )
    # Equal references are fetched once, all parameters of a region with one call.
    assert sorted(scene.aws.asked) == [
        ("asm", REGION, ASM),
        ("asm", REGION, f"{ASM} OLD"),
        ("ssm", REGION, "/p", "/q"),
    ]
    assert scene.control.asked == [(ARN, ["kept here"])]
    assert set(scene.aws.roles) == {"exec"}
    assert repr(given) == repr(Provision())
    assert given.secrets() >= {"one", "two", "three", "text", "o"}


async def test_parameters_are_asked_for_by_region(scene: Scene) -> None:
    scene.aws.known_parameters = {"p": "v", "arn:aws:ssm:r-2:1:parameter/p": "w"}
    given = await scene.prepare(
        ssm("A", "p", "r-1"), ssm("B", "arn:aws:ssm:r-2:1:parameter/p", "r-1")
    )
    assert given.secret_environment == {"a": {"A": "v", "B": "w"}}
    assert sorted(scene.aws.asked) == [
        ("ssm", "r-1", "p"),
        ("ssm", "r-2", "arn:aws:ssm:r-2:1:parameter/p"),
    ]


async def test_a_task_has_few_calls_under_way(scene: Scene) -> None:
    arns = [f"{ASM}{n}" for n in range(20)]
    scene.aws.known_secrets = dict.fromkeys(arns, "v")
    await scene.prepare(*(asm(f"X{n}", arn) for n, arn in enumerate(arns)))
    assert (len(scene.aws.asked), scene.aws.most) == (20, together.AT_ONCE)


async def test_a_task_without_an_execution_role_is_told_so(scene: Scene) -> None:
    none = {"execution_role_credentials": None}
    told = "secret resource: unable to find execution role credentials"
    assert await scene.reason(ssm("A", "p"), **none) == f"ssm {told}"
    assert await scene.reason(asm("A"), **none) == f"asm {told}"
    scene.control.known = {"p": "v"}
    given = await scene.prepare(own("A", "p"), **none)
    assert given.secret_environment == {"a": {"A": "v"}}, "control asks for no role"


async def test_credentials_that_are_still_to_come_are_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.kept.forget(ARN)
    scene.aws.known_parameters = {"p": "v"}
    waiting = asyncio.create_task(scene.prepare(ssm("A", "p")))
    await asyncio.sleep(0.01)
    assert not scene.aws.asked
    scene.kept.keep(ARN, RoleType.EXECUTION, EXECUTION)
    assert (await waiting).secret_environment == {"a": {"A": "v"}}


async def test_why_parameters_do_not_come(scene: Scene) -> None:
    where = f"Fetching secret data from SSM Parameter Store in {REGION}"
    scene.aws.known_parameters = {"known": "canary"}
    given = [ssm("A", "known"), ssm("B", "lost"), ssm("C", "gone")]
    assert await scene.reason(*given) == f"{where}: invalid parameters: lost,gone"
    denied = "GetParameters: AccessDeniedException: not authorized to perform: ssm:GetParameters"
    scene.aws.failures = [AwsRefused(denied, code="AccessDeniedException")]
    assert await scene.reason(*given) == f"{where}: {denied}"
    scene.aws.failures = [AwsUnavailable("GetParameters: no answer within 6 s")]
    assert await scene.reason(*given) == f"{where}: GetParameters: no answer within 6 s"


async def test_why_secrets_do_not_come(scene: Scene) -> None:
    where = f"Fetching secret data from AWS Secrets Manager in region {REGION}: "
    told = await scene.reason(asm("A"))
    assert told.startswith(
        f"{where}ResourceNotFoundException: The task can't retrieve the secret with ARN '{ASM}' "
        "from AWS Secrets Manager. "
    )
    assert told.endswith(
        "GetSecretValue: ResourceNotFoundException: Secrets Manager can't find it."
    )
    scene.aws.failures = [AwsRefused("GetSecretValue: AccessDeniedException: no", code="A")]
    assert await scene.reason(asm("A")) == (
        f"{where}secret {ASM}: GetSecretValue: AccessDeniedException: no"
    )
    scene.aws.known_secrets = {ASM: None}
    assert "its value is binary" in await scene.reason(asm("A"))
    assert "its value is binary" in await scene.reason(asm("A", f"{ASM}:key::"))
    scene.aws.known_secrets = {ASM: "canary"}
    told = await scene.reason(asm("A", f"{ASM}:key::"))
    assert told.startswith(f"{where}secret 'A' of container a: its value is not a JSON object")
    scene.aws.known_secrets = {ASM: "canary\0"}
    assert "NUL character" in await scene.reason(asm("A"))


async def test_all_that_is_wrong_is_told_together(scene: Scene) -> None:
    scene.aws.failures = [AwsUnavailable("one"), AwsUnavailable("two")]
    told = await scene.reason(asm("A"), asm("B", f"{ASM}2"))
    assert [part.rpartition(": ")[2] for part in told.split(";")] == ["one", "two"]


async def test_why_control_does_not_give(scene: Scene) -> None:
    assert await scene.reason(own("A", "lost")) == "Control did not send the secrets lost"
    scene.control.failures = [PayloadError("control does not have the secrets lost")]
    assert await scene.reason(own("A", "lost")) == "control does not have the secrets lost"
    scene.control.failures = [ControlUnavailable("away")]
    with pytest.raises(ControlUnavailable):
        await scene.prepare(own("A", "lost"))


async def test_what_ends_the_task_goes_before_what_is_waited_for(scene: Scene) -> None:
    scene.control.failures = [ControlUnavailable("away")]
    scene.aws.failures = [AwsUnavailable("two")]
    assert (await scene.reason(own("A", "x"), asm("B"))).endswith("two")
    scene.aws.failures = [CredentialsAwaited("later")]
    with pytest.raises(CredentialsAwaited):
        await scene.prepare(asm("B"))


async def test_secrets_that_never_come_are_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "LIMIT_S", 0.05)
    scene.aws.open.clear()
    given = [asm(f"X{n}", f"{ASM}{n}") for n in range(20)]
    assert await scene.reason(*given) == "The task's secrets did not come within 0.05 s"
    assert scene.aws.under_way == 0
