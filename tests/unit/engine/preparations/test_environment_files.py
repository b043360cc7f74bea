from __future__ import annotations

from typing import Any

import pytest

from agent.engine.preparations import environment_files
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.environment_files import (
    LINE_BYTES,
    BadLine,
    EnvironmentFilePreparation,
    S3Object,
    objects_of,
    variables,
)
from agent.errors import AwsRefused, AwsUnavailable, CredentialsAwaited, PayloadError
from agent.model.payload import Container, Credentials, RoleType
from agent.resources.role_credentials import RoleCredentials
from tests.support.host_access import host_access
from tests.support.task_aws import FakeAws
from tests.support.tasks import ARN, container, payload

EXECUTION = Credentials(credentials_id="exec")


def s3(path: str) -> dict[str, str]:
    return {"type": "s3", "value": f"arn:aws:s3:::{path}"}


def with_files(name: str, *paths: str) -> Container:
    return container(name, environment_files=[s3(path) for path in paths])


class Scene:
    def __init__(self) -> None:
        self.aws = FakeAws()
        self.kept = RoleCredentials()
        self.kept.keep(ARN, RoleType.EXECUTION, EXECUTION)
        self.access = host_access(credentials=self.kept, aws=self.aws)

    async def prepare(self, *containers: Container, **fields: Any) -> Provision:
        ordered = payload(*containers, **{"execution_role_credentials": EXECUTION, **fields})
        EnvironmentFilePreparation().check(ordered)
        return await EnvironmentFilePreparation().prepare(ordered, self.access)

    async def reason(self, *paths: str, **fields: Any) -> str:
        with pytest.raises(PayloadError) as caught:
            await self.prepare(with_files("a", *paths), **fields)
        assert "canary" not in str(caught.value)
        return str(caught.value)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"A=1\nB=2", {"A": "1", "B": "2"}),
        (b"A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        (b"A=b=c", {"A": "b=c"}),
        (b"A=", {"A": ""}),
        (b"#A=1\nno equals sign\n=no name\n\n", {}),
        (b' A = "x" ', {" A ": ' "x" '}),
        (b" #A=1", {" #A": "1"}),
        (b"export A=1", {"export A": "1"}),
        (b"A=1\nA=2", {"A": "2"}),
        (b"A=$HOME\\n", {"A": "$HOME\\n"}),
        ("A=é".encode(), {"A": "é"}),
        (b"A=\xff", {"A": "\ufffd"}),
        (b"\xef\xbb\xbfA=1\nB=\xef\xbb\xbf2", {"A": "1", "B": "\ufeff2"}),
        (b"", {}),
        (b"A=" + b"x" * (LINE_BYTES - 2), {"A": "x" * (LINE_BYTES - 2)}),
    ],
)
def test_what_a_file_sets(content: bytes, found: dict[str, str]) -> None:
    assert variables(content) == found


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"A=1\nB=canary" + b"x" * LINE_BYTES, "line 2 is longer than 65536 bytes"),
        (b"A=canary\0", "line 1 has a NUL character"),
        (b"canary\0=1", "line 1 has a NUL character"),
    ],
)
def test_what_no_variable_can_hold(content: bytes, text: str) -> None:
    with pytest.raises(BadLine, match=text) as caught:
        variables(content)
    assert "canary" not in str(caught.value)


def test_where_files_are() -> None:
    files = [s3("b/a.env"), {"type": "s3", "value": "arn:aws-us-gov:s3:::b.2/dir/x y.env"}]
    given = container("a", environment_files=files)
    assert objects_of(payload(given), given) == [
        S3Object("b", "a.env"),
        S3Object("b.2", "dir/x y.env"),
    ]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ({"type": "http", "value": "arn:aws:s3:::b/k"}, "type 'http' is not s3"),
        ({"value": "arn:aws:s3:::b/k"}, "type '' is not s3"),
        ({"type": "s3", "value": "s3://b/k"}, "'s3://b/k' is not an ARN of S3"),
        ({"type": "s3", "value": "arn:aws:s3:::b"}, "is not an ARN of S3"),
        ({"type": "s3", "value": "arn:aws:s3:::b/"}, "is not an ARN of S3"),
        ({"type": "s3"}, "'' is not an ARN of S3"),
    ],
)
def test_anything_else_is_refused_at_once(file: dict[str, str], text: str) -> None:
    ordered = payload(container("a", environment_files=[file]))
    assert EnvironmentFilePreparation().is_wanted(ordered)
    with pytest.raises(PayloadError, match=text) as caught:
        EnvironmentFilePreparation().check(ordered)
    assert f"for task {ARN}: environment file of container a: " in str(caught.value)
    assert not EnvironmentFilePreparation().is_wanted(payload(container("a")))


async def test_each_container_gets_its_files_and_the_first_file_wins(scene: Scene) -> None:
    scene.aws.known_objects = {"b/1.env": b"A=first\nB=1", "b/2.env": b"A=second\nC=2"}
    given = await scene.prepare(
        with_files("a", "b/1.env", "b/2.env"), with_files("b", "b/2.env"), container("c")
    )
    assert given == Provision(
        file_environment={
            "a": {"A": "first", "B": "1", "C": "2"},
            "b": {"A": "second", "C": "2"},
        }
    )
    assert sorted(scene.aws.asked) == [("s3", "", "b", "1.env"), ("s3", "", "b", "2.env")]
    assert set(scene.aws.roles) == {"exec"}
    assert "first" not in repr(given)


async def test_why_files_do_not_come(scene: Scene) -> None:
    no_key = "GetObject: NoSuchKey: The key does not exist."
    where = "Unable to download env file with key 1.env from bucket b, error:"
    assert await scene.reason("b/1.env") == f"{where} {no_key}"
    both = await scene.reason("b/1.env", "b/2.env")
    assert both == f"{where} {no_key};{where.replace('1.env', '2.env')} {no_key}"
    scene.aws.failures = [AwsRefused("GetObject: AccessDenied: Access Denied", code="AccessDenied")]
    assert await scene.reason("b/1.env") == f"{where} GetObject: AccessDenied: Access Denied"
    scene.aws.failures = [AwsUnavailable("GetObject: no answer within 10 s")]
    assert (await scene.reason("b/1.env")).endswith("no answer within 10 s")
    scene.aws.known_objects = {"b/1.env": b"A=canary\n" * 200_000}
    assert (await scene.reason("b/1.env")).endswith("larger than 1048576 bytes")
    scene.aws.known_objects = {"b/1.env": b"A=canary\0"}
    assert await scene.reason("b/1.env") == (
        "Unable to read env file with key 1.env from bucket b, error: line 1 has a NUL character, "
        "which no variable can hold"
    )
    told = await scene.reason("b/1.env", execution_role_credentials=None)
    assert told == "environment file resource: unable to find execution role credentials"


async def test_what_is_only_late_does_not_end_the_task(scene: Scene) -> None:
    scene.aws.failures = [CredentialsAwaited("later")]
    with pytest.raises(CredentialsAwaited):
        await scene.prepare(with_files("a", "b/1.env"))


async def test_files_that_never_come_are_given_up(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment_files, "LIMIT_S", 0.05)
    scene.aws.open.clear()
    told = await scene.reason(*(f"b/{n}.env" for n in range(20)))
    assert told.startswith("The environment files b/0.env, b/1.env, ")
    assert told.endswith("did not come within 0.05 s")
    assert scene.aws.under_way == 0
