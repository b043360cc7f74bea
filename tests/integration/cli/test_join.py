"""Real processes: a fleet with TLS and tokens, joined with the command and kept through a rotation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import tokens
from tests.support import certificates
from tests.support.fleet import COMMAND, Agent, Control, Fleet, eventually, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("sdk")]

NEW = "n" * 40


class Joining(Fleet):
    """A control endpoint with TLS and tokens, and a host that has not joined."""

    def __post_init__(self) -> None:
        super().__post_init__()
        made = certificates.make(self.directory / "tls")
        self.ca = made.ca
        self.tokens = self.directory / "tokens"
        self.agent_url = f"https://localhost:{free_port()}"
        self.control.arguments += [
            *["--agent-listen", self.agent_url.removeprefix("https://")],
            *["--tls-certificate", str(made.certificate), "--tls-key", str(made.key)],
            *["--token-file", str(self.tokens)],
        ]
        self.config = self.directory / "ecs.config"
        agent = self.add_agent()
        lines = [f"{name}={value}" for name, value in agent.environment.items()]
        self.config.write_text("\n".join(line for line in lines if "ENDPOINT" not in line) + "\n")
        agent.environment = {}
        agent.arguments = ["run", "--config", str(self.config)]

    def join(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command as root would on the host."""
        keep = {k: v for k, v in os.environ.items() if not k.startswith("ECS_")}
        done = subprocess.run(
            [str(COMMAND), "join", self.agent_url, "--config", str(self.config), *words],
            env=keep,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def pki(self, *words: str) -> Any:
        """Run a command for control's certificates, and return the JSON that it printed."""
        given = ["control", "pki", *words, "--data-dir", str(self.directory / "control")]
        done = subprocess.run(
            [str(COMMAND), *given], capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def instance(self) -> dict[str, Any]:
        """The one instance as control has it."""
        client = self.client()
        arns = client.list_container_instances()["containerInstanceArns"]
        arns += client.list_container_instances(status="DRAINING")["containerInstanceArns"]
        found = client.describe_container_instances(containerInstances=list(set(arns)))
        (one,) = found["containerInstances"]
        shown: dict[str, Any] = one
        return shown

    def reread(self, *lines: str) -> None:
        """Change the token file and have control read it."""
        seen = self.control.log.read_text().count("token file loaded")
        self.tokens.write_text("".join(f"{line}\n" for line in lines))
        os.kill(self.control.pid, signal.SIGHUP)
        eventually(lambda: self.control.log.read_text().count("token file loaded") > seen)


@pytest.fixture
def joining(tmp_path: Path) -> Iterator[Joining]:
    made = Joining(tmp_path)
    made.control.start()
    made.control.ready()
    yield made
    made.end()


def shows(agent: Agent, status: str, *, within_s: float) -> None:
    """Wait until the agent is connected and knows what an operator made of it."""

    def is_so() -> bool:
        view = agent.json("status")
        return bool(view["controlConnected"]) and view["instanceStatus"] == status

    eventually(is_so, within_s=within_s, what=status)


def test_a_host_joins_by_token_gets_a_certificate_and_is_revoked(joining: Joining) -> None:
    control, (agent,) = joining.control, joining.agents
    assert isinstance(control, Control)
    (old,) = tokens.parse(joining.tokens.read_text())

    refused = joining.join("--ca-file", str(joining.ca), check=False)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "control requires a token; give --token" in refused.stderr
    untrusted = joining.join("--token-file", str(joining.tokens), check=False)
    assert "is not trusted" in untrusted.stderr
    assert "give --ca-file with the certificate" in untrusted.stderr

    given = ["--token-file", str(joining.tokens), "--ca-file", str(joining.ca)]
    joined = joining.join(*given, "--attribute", "rack=a1", "--json")
    assert json.loads(joined.stdout)["controlId"]
    assert f"ecs-agent run --config {joining.config}" in joined.stderr
    assert old not in joined.stdout + joined.stderr + joining.config.read_text()
    assert "nothing was changed" in joining.join(*given).stdout

    agent.start()
    joining.wait_connected()
    custom = {item["name"]: item.get("value") for item in joining.instance()["attributes"]}
    assert custom["rack"] == "a1"

    # Both are good; then the host has the new one; then the old one is worth nothing.
    joining.reread(old, NEW)
    joining.join("--token", NEW)
    joining.reread(NEW)
    client, arn = joining.client(), joining.instance()["containerInstanceArn"]
    for status in ("DRAINING", "ACTIVE"):
        client.update_container_instances_state(containerInstances=[arn], status=status)
        shows(agent, status, within_s=10)
    assert "control unavailable" not in agent.log.read_text()

    # By now the host has a certificate, and no token is asked for.
    joining.reread("o" * 40)
    client.update_container_instances_state(containerInstances=[arn], status="DRAINING")
    shows(agent, "DRAINING", within_s=10)
    (listed,) = joining.pki("list", "--json")
    assert (listed["instanceArn"], listed["revokedAt"]) == (arn, 0)
    for word in (old, NEW):
        assert word not in control.log.read_text() + agent.log.read_text()

    # Revoked, it is told so and stops, and does not come back by itself.
    assert joining.pki("revoke", arn, "--json") == {"id": listed["id"], "instanceArn": arn}
    eventually(lambda: not agent.is_alive(), within_s=40, what="the agent stops")
    assert "deregistered" in agent.log.read_text() or "revoked" in agent.log.read_text()
    assert control.stop() == 0
