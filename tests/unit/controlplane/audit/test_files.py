"""The file of the trail, its rotation, and reading it both ways."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.audit import files, reading
from agent.controlplane.audit.files import AuditSettings, TrailFile
from agent.controlplane.audit.reading import Place, Wanted

if TYPE_CHECKING:
    from pathlib import Path

ALL = Wanted()


def line(number: int, size: int = 0, **more: Any) -> bytes:
    return msgspec.json.encode({"eventName": f"E{number}", "fill": "x" * size} | more) + b"\n"


def everything(path: Path, *, most: int = 3, most_bytes: int = 10**9) -> list[str]:
    names: list[str] = []
    start = None
    while True:
        page = reading.page(path, ALL, start=start, most=most, most_bytes=most_bytes)
        names += [found.record["eventName"] for found in page.records]
        if page.next is None:
            return names
        start = page.next


def forwards(path: Path, place: Place) -> list[str]:
    names: list[str] = []
    while True:
        records, place = reading.after(path, place)
        if not records:
            return names
        names += [record["eventName"] for record in records]


@settings(max_examples=60)
@given(
    batches=st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=6), max_size=12),
    most=st.integers(1, 7),
    most_bytes=st.integers(1, 5000),
)
def test_all_that_is_kept_is_read_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[int]],
    most: int,
    most_bytes: int,
) -> None:
    path = tmp_path_factory.mktemp("trail") / "a.jsonl"
    file = TrailFile(AuditSettings(path, most_bytes=1000, keep=100))
    names: list[str] = []
    for batch in batches:
        lines = [line(len(names) + at, size) for at, size in enumerate(batch)]
        names += [f"E{len(names) + at}" for at in range(len(batch))]
        file.append(lines)
    file.close()
    assert everything(path, most=most, most_bytes=most_bytes) == names[::-1]
    assert forwards(path, Place(1, 0)) == names
    assert all(each.stat().st_size <= 1000 for each in path.parent.iterdir())


def test_the_oldest_files_go(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = TrailFile(AuditSettings(path, most_bytes=300, keep=2))
    for number in range(10):
        file.append([line(number, 200)])
    assert files.numbers(path) == [8, 9]
    assert everything(path) == ["E9", "E8", "E7"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_place_keeps_its_meaning_while_files_are_rotated(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = TrailFile(AuditSettings(path, most_bytes=300, keep=5))
    for number in range(4):
        file.append([line(number, 100)])
    first = reading.page(path, ALL, most=2, most_bytes=10**9)
    end = reading.end(path)
    for number in range(4, 9):
        file.append([line(number, 100)])
    second = reading.page(path, ALL, start=first.next, most=9, most_bytes=10**9)
    assert [found.record["eventName"] for found in first.records] == ["E3", "E2"]
    assert [found.record["eventName"] for found in second.records] == ["E1", "E0"]
    assert forwards(path, end) == ["E4", "E5", "E6", "E7", "E8"]


def test_a_line_that_is_cut_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line(0) + b'{"eventName": "E1", "cu')
    file = TrailFile(AuditSettings(path))
    file.append([line(2)])
    assert everything(path) == ["E2", "E0"]
    assert forwards(path, Place(1, 0)) == ["E0", "E2"]


def test_a_file_that_somebody_moved_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = TrailFile(AuditSettings(path))
    file.append([line(0)])
    path.rename(tmp_path / "elsewhere")
    file.append([line(1)])
    assert everything(path) == ["E1"]


def test_a_full_disk_leaves_no_part_of_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    file = TrailFile(AuditSettings(path))
    file.append([line(0)])
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(handle, data[:-10])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.append([line(1)])
    monkeypatch.undo()
    file.append([line(2)])
    assert path.read_bytes() == line(0) + line(2)


def test_a_trail_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a.jsonl"
    assert everything(path) == []
    assert reading.after(path, reading.end(path)) == ([], Place(1, 0))


@pytest.mark.parametrize(
    ("wanted", "is_there"),
    [
        (Wanted(user="ada"), True),
        (Wanted(user="arn:aws:iam::1:user/ada"), True),
        (Wanted(user="bob"), False),
        (Wanted(event="updateservice"), True),
        (Wanted(event="Update"), False),
        (Wanted(source="ecs"), True),
        (Wanted(source="ecs.amazonaws.com"), True),
        (Wanted(source="iam"), False),
        (Wanted(resource="web"), True),
        (Wanted(resource="arn:aws:ecs:r:1:service/c/web"), True),
        (Wanted(resource="c"), True),
        (Wanted(resource="other"), False),
        (Wanted(resource_type="AWS::ECS::Service"), True),
        (Wanted(resource_type="AWS::ECS::Task"), False),
        (Wanted(access_key="K1"), True),
        (Wanted(access_key="K2"), False),
        (Wanted(read_only=False), True),
        (Wanted(read_only=True), False),
        (Wanted(refused=True), False),
        (Wanted(since=1_767_323_045.0, until=1_767_323_045.0), True),
        (Wanted(since=1_767_323_046.0), False),
        (Wanted(until=1_767_323_044.0), False),
    ],
)
def test_what_is_wanted(wanted: Wanted, is_there: bool) -> None:
    record = {
        "userIdentity": {
            "userName": "ada",
            "arn": "arn:aws:iam::1:user/ada",
            "accessKeyId": "K1",
        },
        "eventTime": "2026-01-02T03:04:05Z",
        "eventSource": "ecs.amazonaws.com",
        "eventName": "UpdateService",
        "requestParameters": {"cluster": "c", "desiredCount": 2},
        "readOnly": False,
        "resources": [{"ARN": "arn:aws:ecs:r:1:service/c/web", "type": "AWS::ECS::Service"}],
    }
    assert wanted.matches(record) is is_there
    assert not Wanted(user="x").matches({})


def test_older_records_are_not_read_on_and_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = TrailFile(AuditSettings(path))
    file.append(
        [line(0, eventTime="2026-01-01T00:00:00Z"), line(1, eventTime="2026-01-03T00:00:00Z")]
    )
    since = Wanted(since=1_767_312_000.0)
    page = reading.page(path, since, most=5, most_bytes=10**9)
    assert [found.record["eventName"] for found in page.records] == ["E1"]
    assert page.next is None
