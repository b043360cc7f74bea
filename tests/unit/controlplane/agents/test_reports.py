from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.agents import reports
from agent.controlplane.agents.longpoll.errors import InvalidRequest
from agent.controlplane.records import ContainerRecord, TaskRecord
from agent.controlplane.tasks import changes as task_changes
from agent.model.changes import TaskChange

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "taskArn", "status", "at", "containers", "attachments", "exitCode", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
_TASK = TaskRecord(
    id="t",
    arn="a",
    cluster="c",
    task_definition_arn="d",
    family="f",
    revision=1,
    containers=[ContainerRecord(name="main", arn="m")],
)


@given(st.binary(max_size=60) | _JSON.map(lambda v: msgspec.json.encode({"changes": v})))
def test_any_body_is_a_batch_or_an_invalid_request(body: bytes) -> None:
    try:
        batch = reports.read(body)
    except InvalidRequest:
        return
    for item in batch:
        if isinstance(item, TaskChange):
            with contextlib.suppress(ValueError):
                task_changes.apply(_TASK, item)
        else:
            assert item.status == "rejected"


@given(st.lists(_JSON, max_size=5))
def test_every_change_has_its_own_answer(items: list[Any]) -> None:
    assert len(reports.read(msgspec.json.encode({"changes": items}))) == len(items)
