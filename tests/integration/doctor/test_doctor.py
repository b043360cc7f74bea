"""The checks against a real kernel, a real engine and a real control endpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.config import Settings
from agent.doctor.checks import cgroups, control, docker, kernel, pause
from agent.doctor.findings import Finding, Level
from agent.doctor.host import HostFacts
from tests.integration.conftest import DOCKER_HOST
from tests.support import certificates
from tests.support.control_endpoint import control_endpoint
from tests.support.fleet import COMMAND

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("sdk")]

TOKEN = "t" * 40


def errors(findings: Sequence[Finding]) -> list[str]:
    """Return what is wrong and its mend."""
    return [f"{f.seen}; {f.mend}; {f.command}" for f in findings if f.level is Level.ERROR]


@pytest.mark.usefixtures("leak_check")
def test_the_kernel_is_tried_out_and_nothing_is_left() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent.doctor.probe"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    tried = ("network namespace", "veth", "bridge", "nftables", "nftables for bridges")
    assert found == dict.fromkeys(tried, "")


async def test_a_host_that_runs_our_tests_can_run_tasks() -> None:
    host = HostFacts(settings=Settings(docker_host=DOCKER_HOST))
    try:
        for check in (kernel.check, cgroups.check, docker.check, pause.check):
            assert errors(await check(host)) == []
    finally:
        await host.close()


async def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    host = HostFacts(settings=Settings(docker_host=f"unix://{tmp_path}/docker.sock"))
    (said,) = errors(await docker.check(host))
    await host.close()
    assert "there is no engine socket" in said


async def meet(
    tmp_path: Path, url: str, token: str = "", ca: Path | None = None, *, cluster: str = "default"
) -> list[Finding]:
    file = None
    if token:
        file = tmp_path / "token"
        file.write_text(token)
        file.chmod(0o600)
    settings = Settings(
        control_endpoint=url, control_token_file=file, control_ca_file=ca, cluster=cluster
    )
    return await control.check(HostFacts(settings=settings))


async def test_control_as_the_agent_would_meet_it(tmp_path: Path) -> None:
    made = certificates.make(tmp_path / "tls")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{TOKEN}\n")
    tokens.chmod(0o600)
    more: dict[str, Any] = {
        "tls_certificate": made.certificate,
        "tls_key": made.key,
        "token_file": tokens,
    }
    async with control_endpoint(tmp_path / "store", **more) as endpoint:
        port = endpoint.url.rpartition(":")[2]
        url = f"https://localhost:{port}"

        (refused,) = errors(await meet(tmp_path, url, ca=made.ca))
        assert "requires a token" in refused
        (refused,) = errors(await meet(tmp_path, url, "x" * 40, made.ca))
        assert "refuses this host's token" in refused
        (untrusted,) = errors(await meet(tmp_path, url, TOKEN))
        assert "ECS_CONTROL_CA_FILE" in untrusted
        (plain,) = errors(await meet(tmp_path, f"http://localhost:{port}", TOKEN))
        assert TOKEN not in plain
        assert errors(await meet(tmp_path, url, TOKEN, made.ca)) == []
        (cluster,) = errors(await meet(tmp_path, url, TOKEN, made.ca, cluster="prod"))
        assert "no active cluster 'prod'" in cluster
    (away,) = errors(await meet(tmp_path, url, TOKEN, made.ca))
    assert "no process listens" in away
    (unknown,) = errors(await meet(tmp_path, "https://no-such-host.invalid", TOKEN))
    assert "getent hosts no-such-host.invalid" in unknown


def test_the_command_on_this_host(tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text(f"DOCKER_HOST={DOCKER_HOST}\nECS_DATADIR={tmp_path}/data\nECS_CLUSTR=x\n")
    keep = {name: value for name, value in os.environ.items() if not name.startswith("ECS_")}
    done = subprocess.run(
        [str(COMMAND), "doctor", "--config", str(config), "--json"],
        env=keep,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    wrong = [finding for finding in report["findings"] if finding["level"] == "error"]
    assert [f["mend"] for f in wrong if f["check"] == "settings"] == ["did you mean ECS_CLUSTER?"]
    checks = {finding["check"] for finding in report["findings"]}
    assert {"kernel", "docker", "disk", "clock", "forwarding", "control", "service"} <= checks
    assert not [f for f in report["findings"] if "could not be checked" in f["seen"]]
