from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from agent.doctor.checks import credentials
from agent.doctor.findings import Level
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
