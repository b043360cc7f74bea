"""Secrets that control keeps, from ``ecs-agent secret put`` to a container, without any AWS."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from tests.integration.e2e.conftest import describe, register, run
from tests.support.fleet import COMMAND, KEYS, LONG_POLL, Fleet, eventually, fleet
from tests.support.images import LINGER
from tests.support.private_registry import private_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import docker

pytestmark = pytest.mark.integration

CANARY = "canary-5c27d1"
REGISTRY = "registry.example"


@pytest.fixture
def site(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    del leak_check
    folder = tmp_path / "fleet"
    folder.mkdir()
    with fleet(folder, wire=LONG_POLL, ECS_LOGLEVEL="debug") as made:
        yield made


def secret(site: Fleet, *words: str, given: str = "") -> str:
    """Run a command of ``ecs-agent secret`` as an operator does, and return what it prints."""
    done = subprocess.run(
        [str(COMMAND), "secret", *words, "--data-dir", str(site.directory / "control")],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def manager(site: Fleet) -> Any:
    """Return boto3's client of Secrets Manager at this control."""
    return boto3.client(
        "secretsmanager",
        endpoint_url=site.control.url,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def wait_for(client: Any, arn: str, status: str) -> dict[str, Any]:
    def reached() -> dict[str, Any] | None:
        (task,) = describe(client, arn)
        assert task["lastStatus"] in (status, "PENDING", "RUNNING"), task
        return task if task["lastStatus"] == status else None

    return dict(eventually(reached, what=f"the task is {status}"))


def environment_of(container_id: str) -> dict[str, str]:
    done = subprocess.run(["docker", "inspect", container_id], capture_output=True, check=True)
    (found,) = json.loads(done.stdout)
    return dict(pair.split("=", 1) for pair in found["Config"]["Env"])


def test_a_container_has_what_was_stored_and_nothing_else_holds_it(
    site: Fleet, busybox_image: str, containers_of: Callable[[str], list[str]]
) -> None:
    put = json.loads(secret(site, "put", "/prod/token", "--json", given=f"{CANARY}-1\n"))
    made = manager(site).create_secret(
        Name="db", SecretString=json.dumps({"user": "u", "password": f"{CANARY}-db"})
    )
    client = site.client()
    secrets = [
        {"name": "BY_ARN", "valueFrom": put["arn"]},
        {"name": "BY_NAME", "valueFrom": "/prod/token"},
        {"name": "PASSWORD", "valueFrom": f"{made['ARN']}:password::"},
    ]
    definition = register(
        client, busybox_image, "exec sleep 1000", containers=[{"secrets": secrets}]
    )
    (first,) = run(client, definition)
    wait_for(client, first, "RUNNING")
    (container,) = containers_of(first)
    found = environment_of(container)
    assert (found["BY_ARN"], found["BY_NAME"]) == (f"{CANARY}-1", f"{CANARY}-1")
    assert found["PASSWORD"] == f"{CANARY}-db"

    # The value and the key change; both processes start anew.
    secret(site, "put", "/prod/token", given=f"{CANARY}-2")
    assert "2 secrets encrypted" in secret(site, "rotate-key", "--forget-old")
    site.control.kill()
    site.control.start()
    site.control.ready()
    (agent,) = site.agents
    agent.kill()
    agent.start()
    site.wait_connected()
    (second,) = run(client, definition)
    wait_for(client, second, "RUNNING")
    (container,) = containers_of(second)
    assert environment_of(container)["BY_NAME"] == f"{CANARY}-2"
    assert containers_of(first)

    views = [agent.cli(*words, "--json") for words in (["tasks"], ["status"])]
    assert CANARY not in "".join(views) + secret(site, "list", "--json")
    searched = [one for one in site.directory.rglob("*") if one.is_file()]
    assert any(one.name == "control.db" for one in searched)
    for path in searched:
        assert CANARY.encode() not in path.read_bytes(), path


def test_a_secret_that_is_missing_ends_the_task_with_the_reason(
    site: Fleet, busybox_image: str
) -> None:
    client = site.client()
    arn = "arn:aws:ssm:us-east-1:000000000000:parameter/late"
    definition = register(
        client,
        busybox_image,
        "exec sleep 1000",
        containers=[{"secrets": [{"name": "A", "valueFrom": arn}]}],
    )
    (task,) = run(client, definition)
    told = wait_for(client, task, "STOPPED")
    assert f"control does not have the secrets {arn}" in told["stoppedReason"], told
    assert told["stopCode"] == "TaskFailedToStart"
    secret(site, "put", "late", given=CANARY)
    (task,) = run(client, definition)
    wait_for(client, task, "RUNNING")


def test_an_image_is_pulled_with_a_login_that_control_keeps(
    site: Fleet, sdk: docker.APIClient, busybox_image: str, tmp_path: Path
) -> None:
    folder = tmp_path / "registry"
    folder.mkdir()
    image = f"{REGISTRY}/team/app:v1"
    with private_registry(folder, REGISTRY) as registry:
        registry.set_passwords({"robot": CANARY})
        registry.push(sdk, busybox_image, image, "robot", CANARY)
        login = json.dumps({"username": "robot", "password": CANARY})
        made = manager(site).create_secret(Name="login", SecretString=login)
        client = site.client()
        container = {
            "image": image,
            "command": LINGER,
            "repositoryCredentials": {"credentialsParameter": made["ARN"]},
        }
        definition = register(client, busybox_image, "true", containers=[container])
        try:
            (task,) = run(client, definition)
            wait_for(client, task, "RUNNING")
            site.stop_tasks()
        finally:
            subprocess.run(["docker", "rmi", "-f", image], capture_output=True, check=False)
