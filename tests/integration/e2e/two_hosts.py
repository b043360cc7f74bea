"""Two hosts on one wire that take part in the network between hosts, and tasks on them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.integration.e2e.conftest import NETWORK, describe, register
from tests.support.fleet import Agent, Fleet, eventually, free_port
from tests.support.second_host import FIRST, LINK, second_host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.second_host import Hosts

SERVE = "mkdir -p /www; hostname >/www/index.html; exec httpd -f -v -p 80 -h /www"
"""Answers with its name, and tells in its log who asked."""
IPV6 = ("2001:db8::1", "2001:db8::2")
"""Addresses of the hosts on the wire."""


class Task(NamedTuple):
    """A running task."""

    arn: str
    address: str
    container: str
    ipv6: str = ""


class World(NamedTuple):
    """Two hosts of one control."""

    fleet: Fleet
    hosts: Hosts
    image: str

    @property
    def agents(self) -> tuple[Agent, Agent]:
        first, second = self.fleet.agents[:2]
        return first, second

    def instance(self, agent: Agent) -> str:
        return str(agent.json("status")["instanceArn"])

    def start(self, agent: Agent, command: str, *groups: str, mode: str = "awsvpc") -> Task:
        client = self.fleet.client()
        network: dict[str, Any] = json.loads(json.dumps(NETWORK))
        if groups:
            network["awsvpcConfiguration"]["securityGroups"] = [*groups]
        definition = register(client, self.image, command, mode=mode)
        answer = client.start_task(
            taskDefinition=definition,
            containerInstances=[self.instance(agent)],
            **({"networkConfiguration": network} if mode == "awsvpc" else {}),
        )
        assert not answer["failures"], answer
        arn = answer["tasks"][0]["taskArn"]

        def running() -> dict[str, Any] | None:
            found = describe(client, arn)[0]
            assert found["lastStatus"] != "STOPPED", found
            return found if found["lastStatus"] == "RUNNING" else None

        found = eventually(running, what="the task runs")
        container = found["containers"][0]["runtimeId"]
        if mode != "awsvpc":
            return Task(arn, "", container)
        return Task(arn, address_of(found), container, address_of(found, "privateIPv6Address"))

    def asks(self, agent: Agent, task: Task, peer: Task, *, ipv6: bool = False) -> str:
        """Return what a peer answers to a task; empty if it does not."""
        url = f"http://[{peer.ipv6}]/" if ipv6 else f"http://{peer.address}/"
        line = f"docker exec {task.container} timeout 3 wget -q -O - {url}"
        if agent is self.agents[1]:
            return self.hosts.second.sh(line, check=False).strip()
        done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
        return done.stdout.strip()

    def resolved(self, agent: Agent, container: str, name: str) -> set[str]:
        """Return the addresses that a container gets for a name; none if there is no such name."""
        line = f"docker exec {container} nslookup {name}"
        if agent is self.agents[1]:
            printed = self.hosts.second.sh(line, check=False)
        else:
            done = subprocess.run(line.split(), capture_output=True, text=True, check=False)
            printed = done.stdout
        _, _, answers = printed.partition("Name:")
        return {each.split()[-1] for each in answers.splitlines() if each.startswith("Address")}

    def has_seen(self, agent: Agent, task: Task, address: str) -> bool:
        """Return whether a task saw somebody by this address."""
        log = agent.cli("logs", task.arn.rpartition("/")[2])
        return f"{address}]:" in log or f"{address}:" in log


@contextlib.contextmanager
def two_hosts(directory: Path, image: str, *options: str) -> Iterator[World]:
    """Run control, with these options, and an agent on this host, and an agent on the second."""
    with second_host(directory) as hosts:
        archive = subprocess.run(["docker", "save", image], capture_output=True, check=True)
        hosts.second.sh("docker load", stdin=archive.stdout)
        subprocess.run(f"ip addr add {IPV6[0]}/64 dev {LINK} nodad".split(), check=True)
        hosts.second.sh(f"ip addr add {IPV6[1]}/64 dev {LINK} nodad")
        fleet = Fleet(directory, extra={"ECS_FLEET_NETWORK": "routes"})
        port = free_port()
        fleet.control.arguments += ["--agent-listen", f"{FIRST}:{port}", *options]
        fleet.add_agent()
        fleet.add_agent(
            ECS_CONTROL_ENDPOINT=f"http://{FIRST}:{port}"
        ).wrapper = hosts.second.wrapper
        made = World(fleet, hosts, image)
        try:
            fleet.start()
            for agent in fleet.agents:
                eventually(partial(reached, agent), what=f"{agent.name} reaches the other")
            yield made
        except BaseException:
            for process in (fleet.control, *fleet.agents):
                print(f"--- {process.name}\n{process.tail(80)}")  # noqa: T201
            raise
        finally:
            fleet.end()


def address_of(task: dict[str, Any], kind: str = "privateIPv4Address") -> str:
    details = {d["name"]: d["value"] for d in task["attachments"][0]["details"]}
    return str(details.get(kind, ""))


def name_of(task: Task) -> str:
    return "ip-" + task.address.replace(".", "-")


def network(agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(agent.cli("network", "--json", check=False) or "{}")
    return found


def reached(agent: Agent) -> list[dict[str, Any]]:
    return [peer for peer in network(agent).get("peers", ()) if not peer["problem"]]
