from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.config import Settings
from agent.doctor import reading
from agent.doctor.bundle import archive, pieces
from agent.doctor.bundle.redact import Redactor
from agent.doctor.host import HostFacts
from agent.model.changes import TaskChange
from agent.state import Batch, StateStore

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_container_is_shown_without_what_may_hold_secrets() -> None:
    row = {
        "Id": "c1",
        "Names": ["/web"],
        "Image": "web:1",
        "Command": "serve --password CANARY",
        "Labels": {"com.amazonaws.ecs.cluster": "prod", "traefik.auth": "CANARY"},
        "HostConfig": {"NetworkMode": "host"},
        "Mounts": [{"Type": "bind", "Source": "/secret/CANARY", "Destination": "/data"}],
    }
    shown = pieces.container(row)
    assert "CANARY" not in str(shown)
    assert shown["Labels"] == {"com.amazonaws.ecs.cluster": "prod", "traefik.auth": "[removed]"}
    assert shown["NetworkMode"] == "host"


async def test_a_state_file_is_counted_beside_the_agent_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "agent.db"
    store = await StateStore.open(path)
    batch = Batch()
    batch.put("task", "arn:1", b'{"secret": "CANARY"}')
    batch.enqueue(TaskChange(id="1", task_arn="arn:1", status="RUNNING", at=1.0))
    await store.commit(batch)
    open_ = await reading.blocking(lambda: pieces.state_facts(path))
    await store.close()
    closed = await reading.blocking(lambda: pieces.state_facts(path))
    for facts in (open_, closed):
        assert facts["integrity"] == ["ok"]
        assert facts["kinds"] == {"task": 1}
        assert facts["outbox"] == 1
        assert "CANARY" not in str(facts)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["agent.db"]


def test_a_state_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert pieces.state_facts(tmp_path / "agent.db")["exists"] is False
    assert list(tmp_path.iterdir()) == []


async def test_a_piece_that_is_too_large_keeps_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_PIECE_BYTES", 20)

    async def lines(_: HostFacts) -> str:
        return "password=hunter2\n" + "x" * 10 + "\nlast line\n"

    about, text = await archive._piece(
        pieces.Piece("log", lines), HostFacts(settings=Settings(data_dir=tmp_path)), Redactor([])
    )
    assert text == "last line\n"
    assert about.cut_bytes == 28


async def test_a_piece_that_hangs_is_given_up() -> None:
    async def hang(_: HostFacts) -> str:
        await asyncio.sleep(60)
        return ""

    about, text = await archive._piece(
        pieces.Piece("log", hang, limit_s=0.05), HostFacts(settings=Settings()), Redactor([])
    )
    assert about.trouble == "not collected within 0.05 s"
    assert text == "[nothing: not collected within 0.05 s]\n"
