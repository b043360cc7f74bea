"""The files of a log router, and what it and the containers that log to it are given."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.engine import container_body, graph
from agent.engine.container_body import ContainerContext
from agent.engine.graph import Edge
from agent.engine.preparations.contract import Provision
from agent.engine.preparations.firelens import FirelensPreparation, FirelensSettings
from agent.engine.preparations.secrets import SecretPreparation
from agent.errors import PayloadError
from agent.model.payload import Container, Credentials, Dependency, EngineConfig, RoleType, Secret
from agent.model.status import Condition
from agent.resources.role_credentials import RoleCredentials
from tests.support.host_access import host_access
from tests.support.task_aws import FakeAws, FakeControl
from tests.support.tasks import ARN, container, payload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.engine.preparations.contract import HostAccess

FIRELENS = FirelensPreparation()
TASK = ARN.rsplit("/", 1)[-1]
EXECUTION = Credentials(credentials_id="exec")
S3 = {"config-file-type": "s3", "config-file-value": "arn:aws:s3:::bucket/x.conf"}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a path that is as short as on a real host."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def router(kind: str = "fluentbit", *, user: str = "", **options: str) -> Container:
    return container(
        "router",
        firelens_configuration={"type": kind, "options": options},
        environment={"AWS_EXECUTION_ENV": "AWS_ECS_EC2"},
        docker_config=EngineConfig(
            config={"User": user}, host_config={"MemoryReservation": 64 * 1024 * 1024}
        ),
    )


def routed(name: str = "app", **options: str) -> Container:
    config = {"LogConfig": {"Type": "awsfirelens", "Config": {"Name": "null", **options}}}
    return container(name, docker_config=EngineConfig(host_config=config))


def access(path: Path, **parts: Any) -> HostAccess:
    settings = FirelensSettings(directory=path, cluster="attic", instance_id="i-1")
    return host_access(firelens=settings, **parts)


async def prepared(path: Path, *containers: Container, **task: Any) -> Provision:
    order = payload(*containers, **task)
    FIRELENS.check(order)
    return await FIRELENS.prepare(order, access(path))


async def test_what_lies_on_the_host(home: Path) -> None:
    await prepared(home, router(user="1234:5678"), routed(), network_mode="bridge")
    files = home / TASK
    text = (files / "config" / "fluent.conf").read_text()
    assert "Mem_Buf_Limit 32MB" in text
    assert "Record ecs_cluster default" in text, "of the task, whose host is of another one"
    assert "Record ec2_instance_id i-1" in text
    assert "Listen 0.0.0.0" in text
    assert (files / "config" / "fluent.conf").stat().st_mode & 0o777 == 0o644
    if os.geteuid() == 0:
        assert (files / "socket").stat().st_uid == 1234
        assert (files / "socket").stat().st_gid == 5678
    await FIRELENS.undo(payload(router(), routed()), access(home))
    assert not files.exists()


async def test_another_process_leaves_what_a_router_has_mounted(home: Path) -> None:
    await prepared(home, router(), routed())
    file = home / TASK / "config" / "fluent.conf"
    before = file.stat().st_ino
    await prepared(home, router(), routed())
    assert file.stat().st_ino == before


async def test_what_the_router_is_given(home: Path) -> None:
    task = payload(router("fluentd"), routed(**{"@type": "null"}), network_mode="host")
    provision = await FIRELENS.prepare(task, access(home))
    body = container_body.body(task, task.containers[0], ContainerContext(provision=provision))
    assert body["HostConfig"]["Binds"] == [
        f"{home}/{TASK}/config/fluent.conf:/fluentd/etc/fluent.conf",
        f"{home}/{TASK}/socket/:/var/run/",
    ]
    assert "FLUENT_UID=0" in body["Env"]


async def test_what_the_others_are_given(home: Path) -> None:
    app = routed(**{"log-driver-buffer-limit": "4096"})
    task = payload(router(), app, network_mode="awsvpc")
    provision = await FIRELENS.prepare(task, access(home))
    body = container_body.body(task, app, ContainerContext(provision=provision, sandbox_id="s"))
    assert body["HostConfig"]["LogConfig"] == {
        "Type": "fluentd",
        "Config": {
            "tag": f"app-firelens-{TASK}",
            "fluentd-address": f"unix://{home}/{TASK}/socket/fluent.sock",
            "fluentd-sub-second-precision": "true",
            "fluentd-async": "true",
            "fluentd-buffer-limit": "4096",
        },
    }
    assert {"FLUENT_HOST=127.0.0.1", "FLUENT_PORT=24224"} <= set(body["Env"])


async def test_secret_options_are_variables_of_the_router(home: Path) -> None:
    secret = Secret(name="key", value_from="k", endpoint="control", target="LOG_DRIVER")
    app = routed()
    app = Container(name="app", image="i", docker_config=app.docker_config, secrets=[secret])
    task = payload(router(), app)
    control = FakeControl()
    control.known["k"] = "canary"
    around = access(home, control_secrets=control.secrets)
    SecretPreparation().check(task)
    merged = Provision.merged(
        [await SecretPreparation().prepare(task, around), await FIRELENS.prepare(task, around)]
    )
    assert merged.secret_environment == {"router": {"key_1": "canary"}}
    text = (home / TASK / "config" / "fluent.conf").read_text()
    assert "key ${key_1}" in text
    assert "canary" not in text
    body = container_body.body(task, app, ContainerContext(provision=merged))
    assert "canary" not in str(body)


async def test_a_file_in_s3_is_fetched_once_with_the_execution_role(home: Path) -> None:
    roles = RoleCredentials()
    roles.keep(ARN, RoleType.EXECUTION, EXECUTION)
    aws = FakeAws()
    aws.known_objects["bucket/x.conf"] = b"[FILTER]\n"
    task = payload(router(**S3), routed(), execution_role_credentials=EXECUTION)
    for _ in range(2):
        provision = await FIRELENS.prepare(task, access(home, credentials=roles, aws=aws))
        aws.known_objects.clear()
    external = home / TASK / "config" / "external.conf"
    assert external.read_bytes() == b"[FILTER]\n"
    assert f"{external}:/fluent-bit/etc/external.conf" in provision.binds["router"]
    assert "@INCLUDE /fluent-bit/etc/external.conf" in external.with_name("fluent.conf").read_text()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (router(user="fluent"), "write numbers"),
        (router(user="1:nosuchgroup"), "write numbers"),
        (router(**S3), "needs an execution role"),
    ],
)
def test_what_no_host_can_do_is_refused_by_name(given: Container, why: str) -> None:
    with pytest.raises(PayloadError, match=why):
        FIRELENS.check(payload(given, routed()))


async def test_a_path_that_no_socket_can_have_is_refused(home: Path) -> None:
    with pytest.raises(PayloadError, match="set a shorter ECS_DATADIR"):
        await prepared(home / ("x" * 80), router(), routed())


def test_containers_wait_for_their_router_unless_that_makes_a_circle() -> None:
    after = [Dependency(container_name="router", condition=Condition.HEALTHY)]
    waiting = Container(name="b", image="i", docker_config=routed().docker_config, depends_on=after)
    found = graph.graph_of(payload(router(), routed(), waiting, container("c")))
    assert found["app"] == (Edge("router", Condition.START),)
    assert found["b"] == (Edge("router", Condition.HEALTHY),)
    assert found["c"] == found["router"] == ()
    busy = Container(
        name="router",
        image="i",
        firelens_configuration={"type": "fluentbit"},
        depends_on=[Dependency(container_name="app", condition=Condition.START)],
    )
    assert graph.graph_of(payload(busy, routed()))["app"] == ()
