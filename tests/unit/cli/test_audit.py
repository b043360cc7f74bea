"""``ecs-agent audit`` on the files of a trail, and the options of control about it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import app, audit_options
from agent.cli.audit import row
from agent.cli.client import CliError
from agent.controlplane.audit.files import AuditSettings, TrailFile
from agent.controlplane.audit.record import encode
from agent.controlplane.front import address

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN: dict[str, Any] = {
    "audit_file": None,
    "audit_max_size": "64m",
    "audit_keep": 8,
    "no_audit": False,
}
SERVICE = "arn:aws:ecs:us-east-1:1:service/shop/a-service-with-a-very-long-name-in-it"


def a_record(event: str, second: int, **more: Any) -> dict[str, Any]:
    return {
        "userIdentity": {"type": "IAMUser", "userName": "ada"},
        "eventTime": f"2026-01-02T03:04:{second:02}Z",
        "eventSource": "ecs.amazonaws.com",
        "eventName": event,
        "requestParameters": {"cluster": "shop"},
    } | more


@pytest.fixture
def trail(tmp_path: Path) -> TrailFile:
    file = tmp_path / "audit" / "audit.jsonl"
    tmp_path.joinpath("audit").mkdir()
    told = address.Address(url="http://h", region="r", audit_file=str(file))
    address.write(tmp_path, told)
    made = TrailFile(AuditSettings(file, most_bytes=400, keep=100))
    made.append(
        [
            encode(a_record("CreateCluster", 1)),
            encode(a_record("UpdateService", 2, resources=[{"ARN": SERVICE}])),
            encode(a_record("DeleteCluster", 3, errorCode="ClusterContainsTasksException")),
            encode(
                a_record(
                    "CreateRole", 4, userIdentity={"type": "Root", "arn": "arn:aws:iam::1:root"}
                )
            ),
        ]
    )
    return made


def run(
    capsys: pytest.CaptureFixture[str], *arguments: str, data_dir: Path | None = None
) -> tuple[int, list[str], str]:
    where = [] if data_dir is None else ["--data-dir", str(data_dir)]
    code = app.main(["audit", *arguments, *where])
    told = capsys.readouterr()
    return code, told.out.splitlines(), told.err


def test_the_newest_calls_come_first(
    trail: TrailFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (head, *rows), err = run(capsys, data_dir=tmp_path)
    assert (code, err) == (0, "")
    assert head.split() == ["TIME", "EVENT", "USER", "WHAT"]
    assert [line.split()[2:] for line in rows] == [
        ["CreateRole", "root", "shop"],
        ["DeleteCluster", "ada", "ClusterContainsTasksException:", "shop"],
        ["UpdateService", "ada", SERVICE.split(":", 5)[5]],
        ["CreateCluster", "ada", "shop"],
    ]


@pytest.mark.parametrize(
    ("arguments", "events"),
    [
        (["-n", "2"], ["CreateRole", "DeleteCluster"]),
        (["--user", "root"], ["CreateRole"]),
        (["--event", "createcluster"], ["CreateCluster"]),
        (["--refused"], ["DeleteCluster"]),
        (["--service", "iam"], []),
        (["--resource", SERVICE], ["UpdateService"]),
        (["--since", "2026-01-02T03:04:03Z"], ["CreateRole", "DeleteCluster"]),
        (["--until", "2026-01-02T03:04:01Z"], ["CreateCluster"]),
        (["-n", "0"], ["CreateRole", "DeleteCluster", "UpdateService", "CreateCluster"]),
    ],
)
def test_filters(
    trail: TrailFile,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    events: list[str],
) -> None:
    code, lines, _ = run(capsys, "--json", *arguments, data_dir=tmp_path)
    assert (code, [json.loads(line)["eventName"] for line in lines]) == (0, events)


def test_what_cannot_be_shown_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = run(capsys, "--file", str(tmp_path / "none"))
    assert (code, lines) == (0, ["no such calls are recorded"])
    code, _, err = run(capsys, "--file", str(tmp_path))
    assert code == 1
    assert "--file" in err
    address.write(tmp_path, address.Address(url="http://h", region="r"))
    code, _, err = run(capsys, data_dir=tmp_path)
    assert code == 1
    assert "--no-audit" in err
    code, _, err = run(capsys, "--since", "soon", "--file", "x")
    assert code == 2
    assert "--since" in err


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Have children end with SIGINT; in the background of a shell, tests ignore it, and so would children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
async def test_it_waits_for_more_across_a_rotation(trail: TrailFile, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "audit", "--follow", "--json", "-n", "2", "--event", "X"),
        *("--data-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    told: list[int] = []
    try:
        async with asyncio.timeout(60):
            second = 10
            while len(told) < 5:
                # The first ones may come before it waits.
                new = [encode(a_record("X", second)), encode(a_record("Y", second))]
                await asyncio.to_thread(trail.append, new)
                second += 1
                read = asyncio.create_task(process.stdout.readline())
                done, _ = await asyncio.wait({read}, timeout=5)
                if done:
                    told.append(int(json.loads(read.result())["eventTime"][-3:-1]))
                else:
                    read.cancel()
    finally:
        process.send_signal(signal.SIGINT)
        code = await process.wait()
    assert told == list(range(told[0], told[0] + 5))
    assert code == 0


def test_rows_fit_eighty_columns() -> None:
    record = a_record(
        "ModifyLoadBalancerAttributes",
        1,
        userIdentity={"userName": "a-user-with-a-very-long-name"},
        resources=[{"ARN": SERVICE}],
        errorCode="Some\nException",
    )
    assert len(row(record, 80)) == 80
    assert "\n" not in row(record, 1000)
    assert row({}, 80).endswith("-")


def test_what_the_options_mean(tmp_path: Path) -> None:
    assert audit_options.settings(GIVEN, tmp_path) == AuditSettings(
        tmp_path / "audit" / "audit.jsonl", 64 * 2**20, 8
    )
    given = GIVEN | {"audit_file": Path("/x/y"), "audit_max_size": "1G", "audit_keep": 0}
    assert audit_options.settings(given, tmp_path) == AuditSettings(Path("/x/y"), 2**30, 0)
    assert audit_options.settings(GIVEN | {"no_audit": True}, tmp_path) is None
    assert audit_options.arguments(given) == [
        *("--audit-file", "/x/y", "--audit-max-size", "1G", "--audit-keep", "0")
    ]
    assert audit_options.arguments(GIVEN | {"no_audit": True})[-1] == "--no-audit"


@pytest.mark.parametrize(
    "more",
    [
        {"audit_max_size": "1"},
        {"audit_max_size": "255k"},
        {"audit_max_size": "x"},
        {"no_audit": True, "audit_file": Path("x")},
    ],
)
def test_what_they_cannot_mean_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(CliError, match=r"^--(audit-max-size|no-audit)"):
        audit_options.arguments(GIVEN | more)
