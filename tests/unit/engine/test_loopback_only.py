"""Which containers the engine makes without a network, and what becomes of their create body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.engine import loopback_only
from agent.engine.labels import LABEL_CONTAINER
from agent.errors import EngineRefused
from agent.model.payload import EngineConfig
from tests.support.memory_engine import Fault
from tests.support.task_host import TaskHost
from tests.support.tasks import container

if TYPE_CHECKING:
    from pathlib import Path


def body(host_config: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    return {"Image": "i", "HostConfig": {"NetworkMode": "none", **(host_config or {})}, **config}


def test_a_plain_container_gets_everything_but_a_network() -> None:
    given = body({"Memory": 5, "Binds": ["/a:/b"]}, Hostname="h")

    assert not loopback_only.why_not(given)
    assert loopback_only.left_out(given, "/files/x") == {
        "Image": "i",
        "Hostname": "h",
        "NetworkDisabled": True,
        "HostConfig": {
            "NetworkMode": "none",
            "Memory": 5,
            "Binds": ["/a:/b", "/files/x:/etc/hosts:z"],
        },
    }
    assert given["HostConfig"]["Binds"] == ["/a:/b"], "the body that was given is another one"


def test_a_file_system_that_cannot_be_written_has_a_hosts_file_that_cannot() -> None:
    made = loopback_only.left_out(body({"ReadonlyRootfs": True}), "/files/x")

    assert made["HostConfig"]["Binds"] == ["/files/x:/etc/hosts:ro,z"]


def test_a_hosts_file_of_the_definition_stays() -> None:
    made = loopback_only.left_out(body({"Binds": ["/own:/etc/hosts:ro"]}), "/files/x")

    assert made["HostConfig"]["Binds"] == ["/own:/etc/hosts:ro"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (body({"NetworkMode": "bridge"}), "network mode bridge"),
        (body({"NetworkMode": "host"}), "network mode host"),
        (body(NetworkDisabled=True), "disableNetworking"),
        (body(MacAddress="m"), "MAC address"),
        (body(NetworkingConfig={"EndpointsConfig": {"none": {}}}), "networks of the engine"),
        (body({"ExtraHosts": ["a:1.2.3.4"]}), "extraHosts"),
        (body({"dns": ["1.2.3.4"]}), "dnsServers"),
        (body({"DnsSearch": ["a"]}), "dnsSearchDomains"),
        (body({"DnsOptions": ["a"]}), "name servers"),
        (body({"Links": ["a:b"]}), "links"),
        (body({"PortBindings": {"80/tcp": []}}), "published ports"),
        (body({"PublishAllPorts": True}), "published ports"),
        (body({"Runtime": "kata"}), "runtime"),
    ],
)
def test_what_only_the_engine_can_give_is_named(given: dict[str, Any], reason: str) -> None:
    assert reason in loopback_only.why_not(given)


async def test_its_hosts_file_is_there_until_the_container_is_gone(tmp_path: Path) -> None:
    host = TaskHost(tmp_path / "agent.db", cleanup_wait_s=0.0)
    await host.start()
    other = container("b", docker_config=EngineConfig(host_config={"ExtraHosts": ["db:192.0.2.1"]}))
    await host.order(container("a"), other, network_mode="none")
    await host.until_known("RUNNING")
    made = {box.labels.get(LABEL_CONTAINER): box for box in host.runtime.boxes.values()}
    (file,) = (tmp_path / "hosts").iterdir()
    assert made["a"].host_config["Binds"] == [f"{file}:/etc/hosts:z"]
    assert made["a"].body["NetworkDisabled"] is True
    assert "NetworkDisabled" not in made["b"].body
    await host.crash()
    await host.start()
    assert file.exists()
    await host.stop()
    await host.until(lambda: not file.exists())
    await host.close()


async def test_a_hosts_file_that_was_lost_before_the_start_is_written_again(tmp_path: Path) -> None:
    """The engine would make a directory in its place, and refuse to start the container."""
    host = TaskHost(tmp_path / "agent.db")
    await host.start()
    host.runtime.fault("start", Fault(error=TimeoutError("not before the crash"), delay_s=60.0))
    await host.order(container("a"), network_mode="none")
    await host.until(lambda: host.container("a").runtime_id)
    await host.crash()
    (file,) = (tmp_path / "hosts").iterdir()
    file.unlink()
    await host.start()
    await host.until_known("RUNNING")
    assert file.is_file()
    await host.close()


async def test_a_hosts_file_that_is_lost_right_before_the_start_is_written_again(
    tmp_path: Path,
) -> None:
    host = TaskHost(tmp_path / "agent.db")
    await host.start()
    refused = EngineRefused("not a directory", operation="started")
    host.runtime.fault("start", Fault(error=refused, delay_s=0.2))
    await host.order(container("a"), network_mode="none")
    await host.until(lambda: host.container("a").runtime_id)
    (file,) = (tmp_path / "hosts").iterdir()
    file.unlink()
    file.mkdir()
    await host.until_known("RUNNING")
    assert file.is_file()
    assert host.runtime.count("start", "a") == 2
    await host.close()
