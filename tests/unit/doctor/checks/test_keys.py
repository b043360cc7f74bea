from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.config import SecretText, Settings
from agent.doctor.checks import credentials, keys
from agent.doctor.checks.keys import KeysFile
from agent.doctor.findings import Finding, FindingList, Level
from agent.doctor.host import HostFacts
from tests.support.findings import levels, only

if TYPE_CHECKING:
    from pathlib import Path

ANYWHERE = Settings(external=True, aws_region="eu-west-1")
EC2 = Settings(aws_region="eu-west-1")
GOOD = KeysFile(path="/root/.aws/credentials")


def judged(settings: Settings, **changes: Any) -> list[Finding]:
    return keys.judge(
        FindingList("credentials"), settings, msgspec.structs.replace(GOOD, **changes)
    )


@pytest.mark.parametrize(
    ("settings", "changes", "level", "word"),
    [
        (ANYWHERE, {}, "ok", ""),
        (ANYWHERE, {"left_s": 1800.0}, "ok", ""),
        (ANYWHERE, {"left_s": -60.0}, "error", "amazon-ssm-agent"),
        (EC2, {"left_s": -60.0}, "error", "amazon-ssm-agent"),
        (ANYWHERE, {"age_s": 7300.0}, "warning", "amazon-ssm-agent"),
        (EC2, {"age_s": 7300.0}, "ok", ""),
        (ANYWHERE, {"unread": True}, "warning", "as root"),
        (EC2, {"unread": True}, "warning", "as root"),
        (ANYWHERE, {"missing": True}, "warning", "activation"),
        (EC2, {"missing": True}, "ok", ""),
        (ANYWHERE, {"trouble": "no profile"}, "error", "ECS_ALTERNATE_CREDENTIAL_PROFILE"),
        (EC2, {"trouble": "no profile"}, "warning", "ECS_ALTERNATE_CREDENTIAL_PROFILE"),
        (ANYWHERE, {"mode": 0o644}, "error", "chmod 600 /root/.aws/credentials"),
        (ANYWHERE, {"owner": 1000}, "error", "chown root:root"),
    ],
)
def test_the_rotating_file(
    settings: Settings, changes: dict[str, Any], level: str, word: str
) -> None:
    finding = only(judged(settings, **changes), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_keys_of_the_settings_come_first_and_are_not_shown() -> None:
    given = {
        "aws_access_key_id": SecretText("AKIACANARYWXYZ"),
        "aws_secret_access_key": SecretText("s"),
    }
    on_ec2 = msgspec.structs.replace(GOOD, missing=True)
    settings = Settings(aws_region="eu-west-1", **given)  # type: ignore[arg-type]
    findings = keys.judge(FindingList("credentials"), settings, on_ec2)
    assert only(findings, Level.OK).seen.endswith("...WXYZ from its settings")
    assert "CANARY" not in str(findings)
    carried = keys.judge(FindingList("credentials"), settings, on_ec2, carried=True)
    assert "the environment of this shell" in only(carried, Level.WARNING).seen
    anywhere = Settings(external=True, **given)  # type: ignore[arg-type]
    assert levels(judged(anywhere)) == {"ok", "warning"}


def test_a_credentials_file_is_looked_at_without_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    assert keys.look_at(path, "default").missing
    assert keys.look_at(path / "below", "default").missing
    ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
    path.write_text(
        "[default]\naws_access_key_id = AK\naws_secret_access_key = canary\n"
        f"aws_session_token = canary\nexpiration = {ends}\n"
    )
    path.chmod(0o640)
    os.utime(path, (time.time() - 500,) * 2)
    found = keys.look_at(path, "default")
    assert (found.missing, found.trouble, found.mode) == (False, "", 0o640)
    assert 590 < (found.left_s or 0) <= 600
    assert 490 < found.age_s < 520
    assert "canary" not in repr(found)
    assert "'other'" in keys.look_at(path, "other").trouble
    path.write_text("[default]\naws_access_key_id = AK\n")
    assert "secret key is missing" in keys.look_at(path, "default").trouble


async def test_the_check_looks_at_keys_where_amazon_ecs_is_control(tmp_path: Path) -> None:
    settings = Settings(
        external=True, aws_region="eu-west-1", rotating_credentials_file=tmp_path / "none"
    )
    finding = only(await credentials.check(HostFacts(settings=settings)), Level.WARNING)
    assert "SSM agent has not registered" in finding.seen
    assert finding.check == "credentials"
