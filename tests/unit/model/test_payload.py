from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import PayloadError
from agent.model import payload, task
from agent.model.status import NetworkMode

GOOD: dict[str, Any] = {"arn": "arn:t", "containers": [{"name": "a", "image": "i"}]}
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def decode(**changes: Any) -> payload.TaskPayload:
    return payload.decode(json.dumps(GOOD | changes).encode())


def test_unknown_fields_are_ignored_everywhere() -> None:
    task_payload = decode(new=1, containers=[{"name": "a", "image": "i", "newer": {"x": []}}])
    assert task_payload.containers[0].name == "a"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"containers": []}, "containers is empty"),
        ({"arn": ""}, "arn is empty"),
        ({"containers": [{"name": "", "image": "i"}]}, "containers[0].name is empty"),
        ({"containers": [{"name": "a", "image": "i"}] * 2}, "containers[1].name 'a' is used twice"),
        ({"containers": [{"name": "a", "image": 7}]}, "$.containers[0].image"),
        ({"networkMode": "quantum"}, "networkMode 'quantum'"),
        ({"desiredStatus": "MAYBE"}, "$.desiredStatus"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PayloadError) as caught:
        decode(**changes)
    assert text in str(caught.value)
    assert caught.value.name == "UnrecogniedTaskError"


@pytest.mark.parametrize("number", [10**400, -(10**20), 2**63])
@pytest.mark.parametrize("name", ["cpu", "memory", "stopTimeout", "startTimeout"])
def test_numbers_that_nobody_can_reckon_with_are_refused(name: str, number: int) -> None:
    with pytest.raises(PayloadError, match=name):
        decode(containers=[{"name": "a", "image": "i", name: number}])
    with pytest.raises(PayloadError, match=r"cpu|memory"):
        decode(cpu=1e308, memory=number)


@pytest.mark.parametrize("given_mode", [None, "", "bridge"])
def test_no_network_mode_means_bridge(given_mode: str | None) -> None:
    assert decode(networkMode=given_mode).mode is NetworkMode.BRIDGE


@given(st.sampled_from(sorted(payload.TaskPayload.__struct_encode_fields__)), ANY_JSON)
def test_any_value_in_any_field_is_taken_or_refused(field: str, value: Any) -> None:
    with contextlib.suppress(PayloadError):
        assert decode(**{field: value}).arn


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_taken_or_refused(raw: bytes) -> None:
    assert isinstance(payload.decode_arn(raw), str)
    with pytest.raises(PayloadError):
        payload.decode(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"arn": "\xff", "containers": [{"name": "a", "image": "i"}]}',
        b'{"arn": "arn:t", "containers": [{"name": "a", "image": "\xff"}]}',
        b'{"arn": "arn:t", "containers": [{"name": "a", "image": "\xed\xa0\x80"}]}',
    ],
)
def test_text_that_is_no_text_is_refused(raw: bytes) -> None:
    assert payload.decode_arn(raw) in {"", "arn:t"}
    with pytest.raises(PayloadError, match="utf-8"):
        payload.decode(raw)


def test_secrets_are_not_part_of_a_record_and_not_shown() -> None:
    keys = {"credentialsId": "id", "secretAccessKey": "canary", "sessionToken": "canary"}
    ordered = decode(roleCredentials=keys, executionRoleCredentials=keys)
    assert "canary" not in repr(ordered)
    record = task.new_record(ordered, origin="c", now=1.0)
    saved = task.encode(record)
    assert b"canary" not in saved
    again = task.decode(saved).payload
    for which in (again.role_credentials, again.execution_role_credentials):
        assert which is not None
        assert which.credentials_id == "id"


def test_credentials_without_an_id_leave_no_trace_in_a_record() -> None:
    record = task.new_record(
        decode(roleCredentials={"roleArn": "r", "accessKeyId": "canary"}), origin="c", now=1.0
    )
    assert record.payload.role_credentials is None
    assert b"canary" not in task.encode(record)


def test_a_record_is_read_back_as_it_was_written() -> None:
    record = task.new_record(decode(networkMode="awsvpc", cpu=0.5, memory=64), origin="c", now=1.0)
    assert task.decode(task.encode(record)) == record


def test_a_record_of_an_older_agent_is_read_with_defaults() -> None:
    record = task.decode(msgspec.json.encode({"payload": GOOD, "futureField": 1}))
    assert record.accepted_at == 0.0
    assert record.containers == {}


# -- the engine's own configuration --------------------------------------------------------------


def engine_config(part: Any) -> Any:
    container = {"name": "a", "image": "i", "dockerConfig": {"config": part, "hostConfig": part}}
    docker = decode(containers=[container]).containers[0].docker_config
    assert docker.config == docker.host_config
    return docker.config


@pytest.mark.parametrize("part", [None, "", "null"])
def test_engine_configuration_of_nothing_is_none(part: Any) -> None:
    assert engine_config(part) is None


@pytest.mark.parametrize("part", ['{"User": "x"}', {"User": "x"}])
def test_engine_configuration_is_an_object_whichever_way_it_came(part: Any) -> None:
    assert engine_config(part) == {"User": "x"}


@pytest.mark.parametrize("text", ["{", "[]", "1", '"x"', '{"a":' * 100_000, '{"a":NaN}'])
def test_engine_configuration_that_is_no_object_stays_for_its_container_to_fail(text: str) -> None:
    assert engine_config(text) == text


@pytest.mark.parametrize("part", [1, [], True])
def test_engine_configuration_of_another_type_is_refused(part: Any) -> None:
    with pytest.raises(PayloadError, match="dockerConfig"):
        engine_config(part)


@given(ANY_JSON)
def test_what_was_read_of_any_engine_configuration_can_be_kept(value: Any) -> None:
    container = {"name": "a", "image": "i", "dockerConfig": {"config": json.dumps(value)}}
    task_payload = decode(containers=[container])
    assert payload.decode(payload.encode(task_payload)) == task_payload
