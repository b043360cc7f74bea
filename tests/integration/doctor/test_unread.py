"""What the doctor says of things that are gone, and of things that it may not see."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import msgspec
import pytest

from agent.config import Settings
from agent.doctor.checks import forwarding
from agent.doctor.findings import Finding, Level, Report
from agent.doctor.host import HostFacts
from tests.integration.conftest import DOCKER_HOST
from tests.support.private_engine import BRIDGE, PrivateEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[3]


@pytest.fixture
def private_engine(leak_check: None) -> Iterator[PrivateEngine]:
    del leak_check
    directory = Path(tempfile.mkdtemp(prefix="ecs-"))  # short: sockets below it have long names
    made = PrivateEngine(directory)
    made.start()
    yield made
    made.end()
    shutil.rmtree(directory)


def forwarding_of(engine: PrivateEngine) -> list[Finding]:
    async def look() -> list[Finding]:
        host = HostFacts(settings=Settings(docker_host=engine.host))
        try:
            return await forwarding.check(host)
        finally:
            await host.close()

    return asyncio.run(look())


def test_a_bridge_of_dockers_that_is_gone_is_an_error_with_its_mend(
    private_engine: PrivateEngine,
) -> None:
    found = forwarding_of(private_engine)
    assert not [f for f in found if "bridge" in f.seen and f.level is Level.ERROR]

    subprocess.run(["ip", "link", "del", BRIDGE], check=True)
    image = private_engine.busybox()
    client = docker.APIClient(base_url=private_engine.host, version="auto")
    made = client.create_container(image, ["true"])
    with pytest.raises(docker.errors.APIError, match=BRIDGE):
        client.start(made)
    client.remove_container(made)
    client.close()

    found = forwarding_of(private_engine)
    (error,) = [f for f in found if f.level is Level.ERROR]
    assert error.seen == (
        f"Docker's bridge {BRIDGE} is gone: every task in bridge mode fails to start"
    )
    assert error.command == "systemctl restart docker"
    assert [f for f in found if "default route" in f.seen], "sizes of packets are told nevertheless"


def test_an_ordinary_user_is_told_what_could_not_be_seen(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 40)
    token.chmod(0o600)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.ordinary_user", DOCKER_HOST, str(token),
         "http://127.0.0.1:9"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )  # fmt: skip
    report = msgspec.json.decode(done.stdout, type=Report)
    assert not [f for f in report.findings if "could not be checked" in f.seen]
    ok = {f.seen for f in report.findings if f.level is Level.OK}
    for claim in ("lets forwarded packets pass", "DOCKER-USER", "no other agent", "token file"):
        assert not [seen for seen in ok if claim in seen], claim
    unknown = " | ".join(f.seen for f in report.findings if f.level is Level.WARNING)
    for told in (
        "whether iptables lets forwarded packets pass is not known",
        "whether other nftables rules drop packets is not known",
        "has Docker's chain DOCKER-USER is not known",
        f"whether the token file {token} exists and is valid is not known",
        "whether control at 127.0.0.1:9 accepts this host is not known",
        "whether another agent runs in a container is not known",
        "where images and containers are stored",
    ):
        assert told in unknown
    asked = [f for f in report.findings if f.level is Level.ERROR]
    assert {f.check for f in asked} == {"docker"}, "what is merely unknown is not an error"
