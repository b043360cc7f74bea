from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.config import Settings
from agent.doctor.checks import credentials
from agent.doctor.findings import Level
from agent.doctor.host import HostFacts
from agent.model.wire import HostIdentity
from agent.upstream.certificates.files import IdentityFiles
from tests.support.findings import levels, only

if TYPE_CHECKING:
    from pathlib import Path


def test_a_token_file_must_be_roots_alone() -> None:
    good = credentials.SecretFile(path="/etc/ecs/token")
    assert levels(credentials.judge(good, endpoint="http://c")) == {"ok"}
    for wrong in ({"mode": 0o644}, {"owner": 1000}):
        findings = credentials.judge(msgspec.structs.replace(good, **wrong), endpoint="https://c")
        assert "chmod 600 /etc/ecs/token" in only(findings, Level.ERROR).command


def test_a_token_file_that_only_root_may_read() -> None:
    hidden = credentials.SecretFile(path="/etc/ecs/token", unread=True)
    finding = only(credentials.judge(hidden, endpoint="http://c"), Level.WARNING)
    assert "/etc/ecs/token exists and is valid is not known" in finding.seen
    assert finding.command == "sudo ecs-agent doctor"


async def test_a_host_with_a_certificate_needs_no_token_file(tmp_path: Path) -> None:
    issued = HostIdentity(id="a", certificate="c", expires_at=time.time() + 60, renew_at=0.0)
    url = "https://c:6821"
    token = tmp_path / "token"
    facts = HostFacts(
        settings=Settings(control_endpoint=url, control_token_file=token, data_dir=tmp_path)
    )
    assert levels(await credentials.check(facts)) == {"error"}
    files = IdentityFiles(tmp_path)
    await asyncio.to_thread(files.save, "k", issued, url)
    assert levels(await credentials.check(facts)) == {"ok"}
    await asyncio.to_thread(
        files.save, "k", msgspec.structs.replace(issued, expires_at=time.time() - 60), url
    )
    assert levels(await credentials.check(facts)) == {"error"}


def test_a_token_file_that_is_of_no_use(tmp_path: Path) -> None:
    missing = credentials.look_at(tmp_path / "token")
    assert "join" in only(credentials.judge(missing, endpoint="x"), Level.ERROR).command
    (tmp_path / "token").write_text("two! words")
    found = credentials.look_at(tmp_path / "token")
    finding = only(credentials.judge(found, endpoint="http://c"), Level.ERROR)
    assert "is not a token" in finding.seen
    assert "two!" not in finding.seen


@pytest.mark.parametrize(
    ("endpoint", "level"),
    [("", "ok"), ("http://127.0.0.1:6820", "ok"), ("https://c", "ok"), ("http://c", "warning")],
)
def test_no_token_matters_where_others_listen(endpoint: str, level: str) -> None:
    assert levels(credentials.judge(None, endpoint=endpoint)) == {level}
