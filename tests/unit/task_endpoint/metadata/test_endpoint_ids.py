"""Ids of containers are the same in every process, differ for each, and are found again."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from agent.task_endpoint.metadata import environment
from agent.task_endpoint.metadata.endpoint_ids import EndpointIds, EndpointIndex, Place
from agent.task_endpoint.metadata.facts import Tasks
from tests.support.tasks import container, new_record

PLACE = st.tuples(st.text(max_size=40), st.text(max_size=40))


@given(st.binary(min_size=16, max_size=64), PLACE, PLACE)
def test_an_id_is_a_uuid_and_follows_from_secret_and_container(
    secret: bytes, one: tuple[str, str], other: tuple[str, str]
) -> None:
    made = EndpointIds(secret).of(*one)
    assert str(uuid.UUID(made)) == made
    assert uuid.UUID(made).variant == uuid.RFC_4122
    assert made == EndpointIds(secret).of(*one)
    assert made != EndpointIds(secret + b"x").of(*one)
    assert one == other or made != EndpointIds(secret).of(*other)


def test_a_secret_is_not_shown() -> None:
    assert "canary" not in repr(EndpointIds(b"canary"))


def test_an_index_follows_the_tasks_that_come_and_go() -> None:
    ids = EndpointIds(b"secret")
    records = {arn: new_record(container("a"), container("b"), arn=arn) for arn in ("one", "two")}
    here = ["one"]
    index = EndpointIndex(ids, Tasks(lambda: here, records.get))
    assert index.find(ids.of("one", "b")) == Place("one", "b")
    assert index.find(ids.of("two", "a")) is None
    here.append("two")
    assert index.find(ids.of("two", "a")) == Place("two", "a")
    here.remove("one")
    assert index.find("nobody's") is None
    assert index.find(ids.of("one", "b")) is None
    assert index.find(ids.of("two", "b")) == Place("two", "b")


def test_variables_lead_to_the_versions_by_one_id() -> None:
    ids = EndpointIds(b"secret")
    own = ids.of("task", "web")
    assert environment.variables(ids, "task", "web") == {
        "ECS_CONTAINER_METADATA_URI": f"http://169.254.170.2/v3/{own}",
        "ECS_CONTAINER_METADATA_URI_V4": f"http://169.254.170.2/v4/{own}",
        "ECS_AGENT_URI": f"http://169.254.170.2/api/{own}",
    }
