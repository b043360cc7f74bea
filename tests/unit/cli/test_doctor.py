from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest
import structlog

from agent.cli import main, render
from agent.doctor import examine as examination
from agent.doctor.bundle import archive, pieces
from agent.doctor.bundle.redact import Redactor
from agent.doctor.findings import Finding, Level, Report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.doctor.host import HostFacts

WELL = Finding(check="docker", level=Level.OK, seen="Docker 29")
DOUBT = Finding(
    check="disk",
    level=Level.WARNING,
    seen="/var/lib/docker has 1.0 GiB free: the disk will soon be full",
    mend="make room",
    command="docker image prune -a",
)
BROKEN = Finding(check="kernel", level=Level.ERROR, seen="veth does not work", mend="load it")


class Findings:
    """What the checks are made to find."""

    def __init__(self) -> None:
        self.findings = [WELL]
        self.hosts: list[HostFacts] = []

    async def examine(self, host: HostFacts, *, quick: bool = False) -> Report:
        self.hosts.append(host)
        levels = [finding.level for finding in self.findings]
        return Report(
            hostname="box",
            version="0",
            at=1.0,
            errors=levels.count(Level.ERROR),
            warnings=levels.count(Level.WARNING),
            findings=self.findings,
            left_out=["control"] if quick else [],
        )


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """The command silences the log of its whole process, which other tests need."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Findings:
    findings = Findings()
    monkeypatch.setattr(examination, "examine", findings.examine)
    return findings


def test_lines_of_a_pipe_are_plain(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    found.findings = [WELL, DOUBT]
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok       docker  Docker 29",
        "warning  disk    /var/lib/docker has 1.0 GiB free: the disk will soon be full",
        "                 fix: make room",
        "                 $ docker image prune -a",
        "no errors, 1 warning",
    ]


def test_an_error_is_told_by_the_exit_code(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    found.findings = [BROKEN, DOUBT, DOUBT]
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("1 error, 2 warnings\n")


def test_a_terminal_gets_colours_and_commands_in_one_line(
    found: Findings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "50")
    found.findings = [DOUBT]
    main(["doctor"])
    out = capsys.readouterr().out
    assert "\x1b[33m\x1b[1mwarning" in out
    assert "$ docker image prune -a" in out
    assert DOUBT.seen not in out  # folded


def test_json_is_for_machines(found: Findings, capsys: pytest.CaptureFixture[str]) -> None:
    found.findings = [DOUBT]
    assert main(["doctor", "--json", "--quick"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["hostname"], report["errors"], report["warnings"]) == ("box", 0, 1)
    assert report["findings"][0]["level"] == "warning"
    assert report["leftOut"] == ["control"]


def test_settings_that_cannot_be_read_do_not_end_the_check(found: Findings, tmp_path: Path) -> None:
    config = tmp_path / "ecs.config"
    config.write_text("ECS_CLUSTR=x\nECS_LOGLEVEL=loud\n")
    main(["doctor", "--config", str(config)])
    assert len(found.hosts[0].problems) == 2
    main(["doctor", "--config", str(tmp_path / "none")])
    assert "there is no such file" in found.hosts[1].problems[0]


def test_an_archive_goes_into_a_file_only(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--bundle", "-"]) == 2
    assert "name a file" in capsys.readouterr().err
    assert not found.hosts


@pytest.fixture
def few_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    async def text(_: HostFacts) -> str:
        return "password=CANARY"

    async def broken(_: HostFacts) -> str:
        raise OSError("no such luck")

    async def knows_nothing(_: HostFacts) -> Redactor:
        return Redactor([])

    table = [pieces.Piece("a/text.txt", text), pieces.Piece("b.txt", broken)]
    monkeypatch.setattr(archive, "all_pieces", lambda _host, _report: table)
    monkeypatch.setattr(archive, "redactor", knows_nothing)


@pytest.mark.usefixtures("found", "few_pieces")
def test_an_archive_is_its_owners_alone_and_never_over_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "support.tar.gz"
    assert main(["doctor", "--bundle", str(target)]) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert f"wrote {target}" in capsys.readouterr().out
    with tarfile.open(target) as made:
        names = made.getnames()
        text = made.extractfile("support/a/text.txt")
        assert text is not None
        assert text.read() == b"password=[removed]"
        manifest = made.extractfile("support/MANIFEST.json")
        assert manifest is not None
        listed = json.loads(manifest.read())["pieces"]
    assert names == ["support/a/text.txt", "support/b.txt", "support/MANIFEST.json"]
    assert listed[1]["trouble"] == "OSError: no such luck"

    assert main(["doctor", "--bundle", str(target)]) == 1
    assert "File exists; choose another name" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json", "--bundle"]) == 0
    assert len(list(tmp_path.glob("ecs-agent-bundle-*.tar.gz"))) == 1
    assert json.loads(capsys.readouterr().out)["hostname"] == "box"


@pytest.mark.usefixtures("found")
def test_an_archive_that_fails_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: HostFacts) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive, "redactor", fail)
    assert main(["doctor", "--bundle", str(tmp_path / "x.tar.gz")]) == 1
    assert list(tmp_path.iterdir()) == []
    assert main(["doctor", "--bundle", str(tmp_path / "no" / "x.tar.gz")]) == 1
