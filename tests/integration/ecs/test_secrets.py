"""Secrets, environment files and logins that Amazon ECS orders, with a stand-in for the rest of AWS.

moto's server checks each signature and what each role may do; Debian's ``docker-registry`` asks for
passwords. Nothing of what is fetched may be found anywhere but in the containers.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.backend import messages
from tests.support.aws_stand_in import ACCOUNT, REGION, Gate, StandIn
from tests.support.fleet import eventually
from tests.support.images import LINGER
from tests.support.private_registry import PrivateRegistry, private_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration

CANARY = "canary-5ec2e7"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
PRIVATE = "registry.example"
ECR_PASSWORD = f"{ACCOUNT}-auth-token"
"""The one that moto gives."""
ALLOWED = (
    "ssm:GetParameters",
    "secretsmanager:GetSecretValue",
    "s3:GetObject",
    "ecr:GetAuthorizationToken",
)


@dataclass
class Scene:
    """AWS with something in it, a registry with two images, and an agent."""

    aws: StandIn
    gate: Gate
    """Before Systems Manager."""
    others: Gate
    """Before Secrets Manager and S3."""
    registry: PrivateRegistry
    host: Host
    arns: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    serial: int = 0

    def fill(self) -> None:
        """Put one of each kind where it is kept."""
        ssm, manager, s3 = (self.aws.client(n) for n in ("ssm", "secretsmanager", "s3"))
        for name in ("/prod/token", "plain"):
            ssm.put_parameter(Name=name, Type="SecureString", Value=f"{CANARY}-ssm-1")
        secret = json.dumps(
            {"user": "app", "number": 12345678901234567890, "token": f"{CANARY}-asm"}
        )
        self.arns["asm"] = manager.create_secret(Name="db", SecretString=secret)["ARN"]
        self.arns["binary"] = manager.create_secret(Name="b", SecretBinary=b"\0")["ARN"]
        login = json.dumps({"username": "robot", "password": f"{CANARY}-login-1"})
        self.arns["login"] = manager.create_secret(Name="login", SecretString=login)["ARN"]
        s3.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": REGION})
        first = f"# comment\nFILE={CANARY}-s3-1\nBOTH=file\nORDER=first\n"
        s3.put_object(Bucket="files", Key="dir/a b.env", Body=first.encode())
        s3.put_object(Bucket="files", Key="second.env", Body=b"ORDER=second\r\nSECOND=2\r\n")
        self.roles["good"] = self.aws.add_role("good", *ALLOWED)
        self.roles["poor"] = self.aws.add_role("poor", "sqs:ListQueues")

    def credentials(self, role: str = "good") -> dict[str, str]:
        """Return credentials of a role as control sends them with a task."""
        self.serial += 1
        return self.aws.assume(self.roles[role], f"credentials-{self.serial}")

    def task(self, *changes: dict[str, Any], role: str = "good") -> dict[str, Any]:
        """Return a task with one container for each change."""
        containers = [
            messages.container(f"c{n}", **{"image": self.host.image, "command": LINGER, **change})
            for n, change in enumerate(changes)
        ]
        return messages.task(*containers, executionRoleCredentials=self.credentials(role))

    def run(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Run a task; return what the engine says of its containers, by name."""
        self.host.order(task)
        self.host.wait(task["arn"], "RUNNING", within_s=60)
        done = subprocess.run(
            ["docker", "inspect", *self.host.containers(task["arn"])],
            capture_output=True,
            text=True,
            check=True,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)
        by_name = "com.amazonaws.ecs.container-name"
        return sorted(found, key=lambda one: one["Config"]["Labels"][by_name])

    def fails(self, task: dict[str, Any], *, within_s: float = 60.0) -> str:
        """Run a task that cannot start; return all reasons that are reported for it."""
        self.host.order(task)
        report = self.host.wait(task["arn"], "STOPPED", within_s=within_s).request
        reasons = [c.get("reason") or "" for c in report.get("containers", ())]
        return " | ".join([report.get("reason") or "", *reasons])


@pytest.fixture
def scene(fresh: Callable[..., Host], tmp_path: Path, sdk: docker.APIClient) -> Iterator[Scene]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with (
        StandIn() as aws,
        Gate(aws.port) as gate,
        Gate(aws.port) as others,
        private_registry(folder, PRIVATE, ECR) as registry,
    ):
        host = fresh(
            AWS_ENDPOINT_URL=aws.url,
            AWS_ENDPOINT_URL_SSM=gate.url,
            AWS_ENDPOINT_URL_SECRETS_MANAGER=others.url,
            AWS_ENDPOINT_URL_S3=others.url,
            ECS_LOGLEVEL="debug",
        )
        made = Scene(aws, gate, others, registry, host)
        made.fill()
        robot = f"{CANARY}-login-1"
        registry.set_passwords({"robot": robot, "AWS": ECR_PASSWORD})
        registry.push(sdk, host.image, f"{PRIVATE}/team/app:v1", "robot", robot)
        registry.push(sdk, host.image, f"{ECR}/app:v1", "AWS", ECR_PASSWORD)
        host.start()
        try:
            yield made
        finally:
            host.end()
            forget_images()


def forget_images() -> None:
    """Take the names of the registry's images away, so that they are pulled again."""
    for name in (f"{PRIVATE}/team/app:v1", f"{ECR}/app:v1"):
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def secret(name: str, value_from: str, provider: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "valueFrom": value_from,
        "provider": provider,
        "region": REGION,
        "type": "ENVIRONMENT_VARIABLE",
        "target": "CONTAINER",
        "containerPath": None,
        **more,
    }


def file(path: str) -> dict[str, str]:
    return {"type": "s3", "value": f"arn:aws:s3:::files/{path}"}


def login(parameter: str) -> dict[str, Any]:
    data = {"credentialsParameter": parameter, "region": REGION}
    return {"registryAuthentication": {"type": "asm", "asmAuthData": data}}


def token(*, uses_role: bool = True) -> dict[str, Any]:
    data = {"region": REGION, "registryId": ACCOUNT, "useExecutionRole": uses_role}
    return {"registryAuthentication": {"type": "ecr", "ecrAuthData": data}}


def everything(scene: Scene) -> dict[str, Any]:
    asm = scene.arns["asm"]
    parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prod/token"
    log = {"LogConfig": {"Type": "json-file", "Config": {"max-file": "2"}}}
    return scene.task(
        {
            "image": f"{PRIVATE}/team/app:v1",
            **login(scene.arns["login"]),
            "environment": {"BOTH": "explicit", "TOKEN": "explicit"},
            "environmentFiles": [file("dir/a b.env"), file("second.env")],
            "dockerConfig": {"config": "{}", "hostConfig": json.dumps(log), "version": "1.17"},
            "secrets": [
                secret("TOKEN", "/prod/token", "ssm"),
                secret("BY_ARN", parameter, "ssm"),
                secret("NUMBER", f"{asm}:number::", "asm"),
                secret("WHOLE", asm, "asm"),
                secret("tag", f"{asm}:token::", "asm", target="LOG_DRIVER"),
            ],
        },
        {"image": f"{ECR}/app:v1", **token()},
    )


def test_a_task_with_all_of_it(scene: Scene) -> None:
    task = everything(scene)
    first, second = scene.run(task)
    env = dict(pair.split("=", 1) for pair in first["Config"]["Env"])
    whole = json.loads(env.pop("WHOLE"))
    assert whole == {"user": "app", "number": 12345678901234567890, "token": f"{CANARY}-asm"}
    given_to_all = {"PATH", "AWS_REGION", "AWS_DEFAULT_REGION", "ECS_AGENT_URI"}
    given_to_all |= {"ECS_CONTAINER_METADATA_URI", "ECS_CONTAINER_METADATA_URI_V4"}
    assert {name: env[name] for name in env if name not in given_to_all} == {
        "TOKEN": f"{CANARY}-ssm-1",
        "BY_ARN": f"{CANARY}-ssm-1",
        "NUMBER": "12345678901234567890",
        "BOTH": "explicit",
        "FILE": f"{CANARY}-s3-1",
        "ORDER": "first",
        "SECOND": "2",
    }
    assert first["HostConfig"]["LogConfig"]["Config"] == {"max-file": "2", "tag": f"{CANARY}-asm"}
    assert not [pair for pair in second["Config"]["Env"] if CANARY in pair]
    assert CANARY not in json.dumps([one["Config"]["Labels"] for one in (first, second)])
    views = [scene.host.agent.cli(*words, "--json") for words in (["tasks"], ["status"])]

    # Everything is changed; a running task keeps what it has, a new one gets the new.
    ssm, manager = scene.aws.client("ssm"), scene.aws.client("secretsmanager")
    ssm.put_parameter(
        Name="/prod/token", Type="SecureString", Value=f"{CANARY}-ssm-2", Overwrite=True
    )
    renewed = json.dumps({"username": "robot", "password": f"{CANARY}-login-2"})
    manager.put_secret_value(SecretId="login", SecretString=renewed)
    scene.registry.set_passwords({"robot": f"{CANARY}-login-2", "AWS": ECR_PASSWORD})
    forget_images()
    again, _ = scene.run(everything(scene))
    assert f"TOKEN={CANARY}-ssm-2" in again["Config"]["Env"]

    scene.host.stop_task(task["arn"])
    secrets = [CANARY, *scene.aws.given]
    for path in scene.host.agent.directory.glob(f"{scene.host.agent.name}*"):
        for one in [path, *path.rglob("*")]:
            if one.is_file():
                held = one.read_bytes()
                assert not [secret for secret in secrets if secret.encode() in held], one
    assert not [view for view in views if CANARY in view]


def test_what_a_role_may_not_do_is_told(scene: Scene) -> None:
    def poor(**change: Any) -> str:
        return scene.fails(scene.task(change, role="poor"))

    asm = scene.arns["asm"]
    told = poor(secrets=[secret("A", "plain", "ssm")])
    assert told.startswith(f"Fetching secret data from SSM Parameter Store in {REGION}: "), told
    assert "AccessDenied" in told
    told = poor(secrets=[secret("A", asm, "asm")])
    where = f"Fetching secret data from AWS Secrets Manager in region {REGION}: secret {asm}: "
    assert told.startswith(where), told
    assert "AccessDenied" in told
    told = poor(environmentFiles=[file("second.env")])
    where = "Unable to download env file with key second.env from bucket files, error: "
    assert told.startswith(where), told
    assert "AccessDenied" in told
    told = poor(image=f"{PRIVATE}/team/app:v1", **login(scene.arns["login"]))
    assert "CannotPullContainerAuthError: asm fetching secret from the service" in told
    assert "AccessDenied" in told
    told = poor(image=f"{ECR}/app:v1", **token())
    assert "CannotPullECRContainerError: " in told
    assert "AccessDenied" in told
    told = scene.fails(scene.task({"image": f"{ECR}/app:v1", **token(uses_role=False)}))
    assert "CannotPullECRContainerError: " in told, "the host has keys that AWS does not know"


def test_what_is_not_there_is_told(scene: Scene) -> None:
    def fails(**change: Any) -> str:
        return scene.fails(scene.task(change))

    assert "invalid parameters: lost,/gone" in fails(
        secrets=[
            secret("A", "plain", "ssm"),
            secret("B", "lost", "ssm"),
            secret("C", "/gone", "ssm"),
        ]
    )
    gone = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:gone-AbCdEf"
    assert f"can't retrieve the secret with ARN '{gone}'" in fails(
        secrets=[secret("A", gone, "asm")]
    )
    assert "its value is binary" in fails(secrets=[secret("A", scene.arns["binary"], "asm")])
    told = fails(secrets=[secret("A", f"{scene.arns['asm']}:lost::", "asm")])
    assert "secret 'A' of container c0: its JSON has no key 'lost'" in told
    assert "NoSuchKey" in fails(environmentFiles=[file("lost.env")])
    lost = [{"type": "s3", "value": "arn:aws:s3:::lost-bucket/x.env"}]
    assert "NoSuchBucket" in fails(environmentFiles=lost)
    told = fails(image=f"{PRIVATE}/team/app:v1", **login(scene.arns["asm"]))
    assert "CannotPullContainerAuthError: " in told
    assert "asm fetching username: AuthorizationData is malformed, empty field" in told
    scene.registry.set_passwords({"AWS": ECR_PASSWORD})
    told = fails(image=f"{PRIVATE}/team/app:v1", **login(scene.arns["login"]))
    assert "CannotPullContainerError: " in told
    assert "unauthorized" in told
    no_role = messages.task(
        messages.container("c", scene.host.image, *LINGER, secrets=[secret("A", "plain", "ssm")])
    )
    told = scene.fails(no_role)
    assert told.startswith("ssm secret resource: unable to find execution role credentials")


def test_a_service_that_is_away_or_silent_costs_its_tasks_and_no_others(scene: Scene) -> None:
    wants = {"secrets": [secret("A", "plain", "ssm")]}
    others = {"secrets": [secret("A", scene.arns["asm"], "asm")]}
    scene.gate.shut()
    began = time.monotonic()
    told = scene.fails(scene.task(wants))
    took_s = time.monotonic() - began
    assert told.startswith(f"Fetching secret data from SSM Parameter Store in {REGION}: "), told
    assert "no process listens on 127.0.0.1" in told
    assert took_s < 30, "five tries within seconds"

    scene.gate.hang()
    hanging = [scene.task(wants) for _ in range(12)]
    began = time.monotonic()
    scene.host.order(*hanging)
    eventually(lambda: scene.gate.calls, what="calls hang")
    scene.run(scene.task(others))
    assert time.monotonic() - began < 20, "a task with another service starts as ever"
    for task in hanging:
        report = scene.host.wait(task["arn"], "STOPPED", within_s=90).request
        assert (
            "Fetching secret data from SSM" in report["reason"]
            or "did not come" in report["reason"]
        )

    scene.gate.open()
    (found,) = scene.run(scene.task(wants))
    assert f"A={CANARY}-ssm-1" in found["Config"]["Env"]


def test_what_is_away_is_named(scene: Scene) -> None:
    def fails(**change: Any) -> str:
        told = scene.fails(scene.task(change), within_s=40)
        assert "no process listens on 127.0.0.1" in told, told
        return told

    scene.others.shut()
    asm = scene.arns["asm"]
    told = fails(secrets=[secret("A", asm, "asm")])
    assert told.startswith(f"Fetching secret data from AWS Secrets Manager in region {REGION}: ")
    told = fails(environmentFiles=[file("second.env")])
    assert told.startswith("Unable to download env file with key second.env from bucket files, ")
    told = fails(image=f"{PRIVATE}/team/app:v1", **login(scene.arns["login"]))
    assert "CannotPullContainerAuthError: asm fetching secret from the service for " in told

    scene.others.hang()
    began = time.monotonic()
    told = scene.fails(scene.task({"environmentFiles": [file("second.env")]}), within_s=60)
    assert "key second.env from bucket files" in told or "files/second.env" in told
    assert time.monotonic() - began < 45, "30 s, as Amazon's agent gives a download"


def test_credentials_may_come_after_their_task(scene: Scene) -> None:
    task = scene.task({"secrets": [secret("A", "plain", "ssm")]})
    scene.host.order(task)
    scene.host.wait(task["arn"], "RUNNING")
    late = scene.task({"secrets": [secret("A", "plain", "ssm")]})
    scene.gate.hang()
    before = scene.gate.calls
    scene.host.backend.acs.wait_ack(scene.host.order(late))
    eventually(lambda: scene.gate.calls > before, what="the agent asks")
    scene.host.crash()
    scene.gate.open()
    scene.host.start()
    scene.host.backend.acs.wait_ack(scene.host.manifest(task["arn"], late["arn"]))
    eventually(
        lambda: "fetch secrets" in scene.host.agent.cli("why", late["arn"]),
        what="it says what it waits for",
    )
    scene.host.backend.acs.order(
        "IAMRoleCredentialsMessage",
        taskArn=late["arn"],
        taskClusterArn=None,
        clusterArn=None,
        containerInstanceArn=None,
        roleType="TaskExecution",
        roleCredentials=late["executionRoleCredentials"],
    )
    scene.host.wait(late["arn"], "RUNNING", within_s=60)
