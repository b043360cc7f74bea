"""Everything that a task may have fetched, ordered with boto3, over both wires.

Our control gets the credentials of roles from a stand-in for AWS that checks signatures and policies,
the agent fetches with them. Nothing of it may be found anywhere but in the containers.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import describe, run
from tests.support.aws_stand_in import ACCOUNT, REGION, SESSION_TOKEN, StandIn
from tests.support.fleet import COMMAND, KEYS, LONG_POLL, WIRES, Fleet, eventually
from tests.support.images import LINGER
from tests.support.private_registry import PrivateRegistry, private_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import docker

pytestmark = pytest.mark.integration

CANARY = "canary-9b1f03"
ECR = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
PRIVATE = "registry.example"
ECR_PASSWORD = f"{ACCOUNT}-auth-token"
ALLOWED = (
    "ssm:GetParameters",
    "secretsmanager:GetSecretValue",
    "s3:GetObject",
    "ecr:GetAuthorizationToken",
)


@dataclass
class Site:
    """AWS with something in it, a registry with two images, control and one agent."""

    aws: StandIn
    registry: PrivateRegistry
    fleet: Fleet
    image: str
    secret: str = ""
    login: str = ""
    roles: dict[str, str] = field(default_factory=dict)

    def fill(self) -> None:
        """Put one of each kind where it is kept."""
        ssm, manager, s3 = (self.aws.client(n) for n in ("ssm", "secretsmanager", "s3"))
        ssm.put_parameter(Name="/prod/token", Type="SecureString", Value=f"{CANARY}-ssm-1")
        text = json.dumps({"number": 12345678901234567890, "token": f"{CANARY}-asm-1"})
        self.secret = manager.create_secret(Name="db", SecretString=text)["ARN"]
        text = json.dumps({"username": "robot", "password": f"{CANARY}-login"})
        self.login = manager.create_secret(Name="login", SecretString=text)["ARN"]
        s3.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": REGION})
        body = f"FILE={CANARY}-s3-1\nBOTH=file\n".encode()
        s3.put_object(Bucket="files", Key="prod.env", Body=body)
        s3.put_object(Bucket="files", Key="run.env", Body=b"RUN=1\n")
        self.roles["first"] = self.aws.add_role("first", *ALLOWED)
        self.roles["poor"] = self.aws.add_role("poor", "sqs:ListQueues")

    def register(self, family: str, role: str, *changes: dict[str, Any]) -> str:
        """Register a definition with one container for each change; ``role`` may be empty."""
        usual = {"image": self.image, "memory": 32, "command": LINGER, "stopTimeout": 2}
        roles = {"executionRoleArn": self.roles[role]} if role else {}
        answer = self.fleet.client().register_task_definition(
            family=family,
            networkMode="none",
            **roles,
            containerDefinitions=[
                {"name": f"c{n}", **usual, **change} for n, change in enumerate(changes)
            ],
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    def everything(self, role: str) -> str:
        """Register a definition with all of it."""
        return self.register(
            "everything",
            role,
            {
                "image": f"{PRIVATE}/team/app:v1",
                "repositoryCredentials": {"credentialsParameter": self.login},
                "environment": [{"name": "BOTH", "value": "explicit"}],
                "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::files/prod.env"}],
                "secrets": [
                    {"name": "TOKEN", "valueFrom": "/prod/token"},
                    {
                        "name": "BY_ARN",
                        "valueFrom": f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/prod/token",
                    },
                    {"name": "NUMBER", "valueFrom": f"{self.secret}:number::"},
                ],
                "logConfiguration": {
                    "logDriver": "json-file",
                    "options": {"max-file": "2"},
                    "secretOptions": [{"name": "tag", "valueFrom": f"{self.secret}:token::"}],
                },
            },
            {"image": f"{ECR}/app:v1"},
        )

    def running(self, definition: str, **more: Any) -> tuple[str, list[dict[str, Any]]]:
        """Run a task; return its ARN and what the engine says of its containers, by name."""
        client = self.fleet.client()
        (arn,) = run(client, definition, **more)

        def runs() -> bool:
            (task,) = describe(client, arn)
            assert task["lastStatus"] != "STOPPED", task
            return bool(task["lastStatus"] == "RUNNING")

        eventually(runs, what="the task runs")
        label = f"label=com.amazonaws.ecs.task-arn={arn}"
        listed = ["docker", "ps", "-q", "--no-trunc", "--filter", label]
        ids = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
        done = subprocess.run(["docker", "inspect", *ids], capture_output=True, check=True)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        by_name = "com.amazonaws.ecs.container-name"
        return arn, sorted(found, key=lambda one: one["Config"]["Labels"][by_name])

    def stopped(self, definition: str) -> dict[str, Any]:
        """Run a task that cannot start; return what DescribeTasks says of it then."""
        client = self.fleet.client()
        (arn,) = run(client, definition)

        def task() -> dict[str, Any] | None:
            (found,) = describe(client, arn)
            assert found["lastStatus"] != "RUNNING"
            return found if found["lastStatus"] == "STOPPED" else None

        return dict(eventually(task, what="the task is stopped"))

    def kept_by_control(self, service: str) -> Any:
        """Return a client of a service that control serves itself."""
        import boto3  # noqa: PLC0415 - slow to import

        return boto3.client(
            service,
            endpoint_url=self.fleet.control.url,
            region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )

    def archive(self, directory: Path) -> bytes:
        """Return everything in the archive for support of the agent's host."""
        (agent,) = self.fleet.agents
        target = directory / "support.tar.gz"
        subprocess.run(
            [str(COMMAND), "doctor", "--quick", "--bundle", str(target)],
            env={**self.own_environment(), **agent.environment},
            capture_output=True,
            check=False,
        )
        with tarfile.open(target) as tar:
            files = [tar.extractfile(one) for one in tar.getmembers() if one.isfile()]
            return b"".join(file.read() for file in files if file is not None)

    @staticmethod
    def own_environment() -> dict[str, str]:
        """Return what a command needs to be found and to find its own."""
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


@pytest.fixture(params=WIRES)
def site(
    leak_check: None,
    tmp_path: Path,
    sdk: docker.APIClient,
    busybox_image: str,
    request: pytest.FixtureRequest,
) -> Iterator[Site]:
    del leak_check
    folder = tmp_path / "registry"
    folder.mkdir()
    with StandIn() as aws, private_registry(folder, PRIVATE, ECR) as registry:
        (tmp_path / "fleet").mkdir()
        made = Fleet(tmp_path / "fleet", wire=request.param)
        site = Site(aws, registry, made, busybox_image)
        site.fill()
        robot = f"{CANARY}-login"
        registry.set_passwords({"robot": robot, "AWS": ECR_PASSWORD})
        registry.push(sdk, busybox_image, f"{PRIVATE}/team/app:v1", "robot", robot)
        registry.push(sdk, busybox_image, f"{ECR}/app:v1", "AWS", ECR_PASSWORD)
        made.control.arguments += ["--region", REGION]
        made.control.environment = {
            **aws.admin.environment(),
            "AWS_ENDPOINT_URL_STS": aws.url,
            "ECS_LOGLEVEL": "debug",
        }
        made.add_agent(AWS_ENDPOINT_URL=aws.url, ECS_LOGLEVEL="debug")
        try:
            made.start()
            yield site
        finally:
            made.end()
            for name in (f"{PRIVATE}/team/app:v1", f"{ECR}/app:v1"):
                subprocess.run(["docker", "rmi", "-f", name], capture_output=True, check=False)


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in container["Config"]["Env"])


def test_a_task_has_all_of_it_and_nobody_else(site: Site, tmp_path: Path) -> None:
    arn, (first, second) = site.running(site.everything("first"))
    env = env_of(first)
    assert (env["TOKEN"], env["BY_ARN"]) == (f"{CANARY}-ssm-1", f"{CANARY}-ssm-1")
    assert env["NUMBER"] == "12345678901234567890"
    assert (env["FILE"], env["BOTH"]) == (f"{CANARY}-s3-1", "explicit")
    config = first["HostConfig"]["LogConfig"]["Config"]
    assert config == {"max-file": "2", "tag": f"{CANARY}-asm-1"}
    assert CANARY not in json.dumps([one["Config"]["Labels"] for one in (first, second)])

    # A secret, a file and the role change: the next task has the new ones.
    ssm = site.aws.client("ssm")
    ssm.put_parameter(
        Name="/prod/token", Type="SecureString", Value=f"{CANARY}-ssm-2", Overwrite=True
    )
    body = f"FILE={CANARY}-s3-2\n".encode()
    site.aws.client("s3").put_object(Bucket="files", Key="prod.env", Body=body)
    site.roles["second"] = site.aws.add_role("second", *ALLOWED)
    site.aws.client("iam").delete_role_policy(RoleName="first", PolicyName="some")
    override = {
        "containerOverrides": [
            {
                "name": "c0",
                "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::files/run.env"}],
            }
        ]
    }
    _, (again, _) = site.running(site.everything("second"), overrides=override)
    assert env_of(again)["TOKEN"] == f"{CANARY}-ssm-2"
    assert env_of(again)["RUN"] == "1"
    told = site.stopped(site.everything("first"))
    assert "AccessDenied" in str(told)

    views = [site.fleet.agents[0].cli(*words, "--json") for words in (["tasks"], ["status"])]
    archive = site.archive(tmp_path)
    site.fleet.client().stop_task(task=arn)
    secrets = [CANARY.encode(), site.aws.admin.secret.encode(), SESSION_TOKEN]
    searched = [one for one in site.fleet.directory.rglob("*") if one.is_file()]
    assert len(searched) > 5
    for path in searched:
        held = path.read_bytes()
        assert not [one for one in secrets if one in held], path
    assert not [one for one in secrets if one in archive + "".join(views).encode()]


def test_what_cannot_be_fetched_ends_the_task_with_the_reason(site: Site) -> None:
    secrets = [{"name": "A", "valueFrom": "/prod/token"}]
    poor = site.stopped(site.register("poor", "poor", {"secrets": secrets}))
    where = f"Fetching secret data from SSM Parameter Store in {REGION}: "
    assert poor["stoppedReason"].startswith(where), poor
    assert "AccessDenied" in poor["stoppedReason"]
    assert poor["stopCode"] == "TaskFailedToStart"

    lost = [{"name": "A", "valueFrom": f"{site.secret}:lost::"}]
    told = site.stopped(site.register("lost", "first", {"secrets": lost}))
    assert "its JSON has no key 'lost'" in told["stoppedReason"]

    login = {"credentialsParameter": site.secret}
    image = {"image": f"{PRIVATE}/team/app:v1", "repositoryCredentials": login}
    told = site.stopped(site.register("login", "first", image))
    assert told["containers"][0]["reason"].startswith("CannotPullContainerAuthError: "), told

    told = site.stopped(site.register("ecr", "poor", {"image": f"{ECR}/app:v1"}))
    assert told["containers"][0]["reason"].startswith("CannotPullECRContainerError: "), told


def test_what_control_keeps_needs_no_aws(site: Site) -> None:
    ssm, manager = (site.kept_by_control(name) for name in ("ssm", "secretsmanager"))
    ssm.put_parameter(Name="/kept/token", Type="SecureString", Value=f"{CANARY}-kept-1")
    arn = ssm.get_parameter(Name="/kept/token")["Parameter"]["ARN"]
    text = json.dumps({"username": "robot", "password": f"{CANARY}-login", "number": 1.10})
    login = manager.create_secret(Name="kept-login", SecretString=text)["ARN"]
    secrets = [
        {"name": "BY_NAME", "valueFrom": "/kept/token"},
        {"name": "BY_ARN", "valueFrom": arn},
        {"name": "USER", "valueFrom": f"{login}:username::"},
    ]
    image = {
        "image": f"{PRIVATE}/team/app:v1",
        "repositoryCredentials": {"credentialsParameter": login},
        "secrets": secrets,
    }
    definition = site.register("kept", "", image)
    if site.fleet.wire != LONG_POLL:
        answer = site.fleet.client().run_task(taskDefinition=definition)
        (failure,) = answer["failures"]
        assert failure["reason"] == "ATTRIBUTE", "Amazon's wire has no way to ask control for them"
        return
    _, (found,) = site.running(definition)
    env = env_of(found)
    assert (env["BY_NAME"], env["BY_ARN"]) == (f"{CANARY}-kept-1", f"{CANARY}-kept-1")
    assert env["USER"] == "robot"

    ssm.put_parameter(
        Name="/kept/token", Type="SecureString", Value=f"{CANARY}-kept-2", Overwrite=True
    )
    _, (found,) = site.running(definition)
    assert env_of(found)["BY_NAME"] == f"{CANARY}-kept-2"
    ssm.delete_parameter(Name="/kept/token")
    told = site.stopped(site.register("gone", "", {"secrets": secrets[1:2]}))
    assert "control does not have the secrets" in told["stoppedReason"]
    for path in site.fleet.directory.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
