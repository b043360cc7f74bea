"""Reading the engine's JSON: real answers, and whatever else may come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.status import Health
from agent.runtime.docker import parse
from agent.runtime.protocol import ContainerState, EngineEvent, joined

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)

_INSPECT: dict[str, Any] = {
    "Id": "abc",
    "Name": "/ecs-web-1",
    "Created": "2024-05-01T10:00:00.123456789Z",
    "Image": "sha256:1",
    "State": {
        "Status": "exited",
        "Running": False,
        "OOMKilled": True,
        "Pid": 0,
        "ExitCode": 137,
        "Error": "",
        "StartedAt": "2024-05-01T10:00:01Z",
        "FinishedAt": "2024-05-01T12:00:02+02:00",
        "Health": {"Status": "unhealthy", "Log": None},
    },
    "Config": {"Labels": {"a": "b"}},
    "HostConfig": {
        "NetworkMode": "container:def",
        "PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "32768"}, {"HostIp": "", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "", "HostPort": ""}],
            "54/udp": None,
        },
    },
}


def test_inspect() -> None:
    state = parse.container_state(_INSPECT)
    assert state == ContainerState(
        id="abc",
        name="ecs-web-1",
        running=False,
        status="exited",
        exit_code=137,
        oom_killed=True,
        created_at=1714557600.123456,
        started_at=1714557601.0,
        finished_at=1714557602.0,
        health=Health.UNHEALTHY,
        image_id="sha256:1",
        labels={"a": "b"},
        network_mode="container:def",
        port_bindings={"80/tcp": [32768, 8080], "53/udp": []},
    )
    assert joined(state.network_mode) == "def"
    assert joined("bridge") == ""


def test_a_container_that_never_ran_has_no_exit_code() -> None:
    never = {"Status": "created", "ExitCode": 127, "StartedAt": "0001-01-01T00:00:00Z"}
    assert parse.container_state({"State": never}).exit_code is None


def test_a_running_container_has_no_exit_code() -> None:
    running = {**_INSPECT["State"], "Running": True, "ExitCode": 0}
    assert parse.container_state({**_INSPECT, "State": running}).exit_code is None


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "Id": _JSON,
            "Name": _JSON,
            "Created": _JSON,
            "State": _JSON
            | st.dictionaries(
                st.sampled_from([*_INSPECT["State"], "StartedAt", "FinishedAt"]), _JSON
            ),
            "Config": _JSON | st.dictionaries(st.just("Labels"), _JSON),
            "HostConfig": _JSON,
        },
    )
)
def test_no_inspect_answer_is_too_strange(raw: dict[str, Any]) -> None:
    parse.container_state(raw)


@given(st.dictionaries(st.sampled_from(["Id", "Names", "State", "Labels"]), _JSON))
def test_no_row_is_too_strange(raw: dict[str, Any]) -> None:
    parse.container_summary(raw)


@given(
    st.dictionaries(st.sampled_from(["Action", "status", "id", "Actor", "time", "timeNano"]), _JSON)
)
def test_no_event_is_too_strange(raw: dict[str, Any]) -> None:
    parse.event(raw)


@given(_JSON)
def test_no_time_is_too_strange(value: Any) -> None:
    assert parse.timestamp(value) >= 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0001-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T01:00:01.123456789+01:00", 1.123456),
        ("yesterday", 0.0),
        ("", 0.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse.timestamp(text) == seconds


def test_linked_containers_have_more_names() -> None:
    assert parse.container_summary({"Names": ["/web/db", "/db"]}).name == "db"


def test_events() -> None:
    raw = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"exitCode": "137", "image": "i", "a": "b"}},
        "time": 5,
        "timeNano": 5_000_000_001,
    }
    assert parse.event(raw) == EngineEvent(
        action="die",
        container_id="abc",
        at=5.000000001,
        exit_code=137,
        labels={"image": "i", "a": "b"},
    )
    healthy = parse.event({**raw, "Action": "health_status: healthy"})
    assert healthy is not None
    assert (healthy.action, healthy.health) == ("health_status", Health.HEALTHY)
    assert parse.event({**raw, "Action": "exec_create: sh -c true"}) is None


def test_an_old_engine_says_less() -> None:
    info = parse.engine_info({"Version": "1.12"}, {"Runtimes": {"runc": {}, "nvidia": {}}}, "1.24")
    assert (info.version, info.api_version) == ("1.12", "1.24")
    assert (info.cgroup_driver, info.cgroup_version) == ("cgroupfs", 1)
    assert info.runtimes == ("nvidia", "runc")
    assert parse.engine_info({}, {"CgroupVersion": "2"}, "").cgroup_version == 2


@pytest.mark.parametrize(
    ("mode", "networks", "cut_off_from"),
    [
        ("default", {"bridge": {"NetworkID": "1"}}, ""),
        ("bridge", {"bridge": {}}, ""),
        ("default", {}, "bridge"),
        ("bridge", {"mine": {"NetworkID": "2"}}, "bridge"),
        ("mine", {"mine": {}}, ""),
        ("0123", {"mine": {"NetworkID": "0123"}}, ""),
        ("mine", {}, "mine"),
        ("none", {}, ""),
        ("host", {}, ""),
        ("container:abc", {}, ""),
        ("", {}, ""),
        ("bridge", None, ""),
    ],
)
def test_a_container_that_was_disconnected(mode: str, networks: object, cut_off_from: str) -> None:
    around = {"HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks}}
    assert parse.container_state(_INSPECT | around).cut_off_from == cut_off_from
    assert parse.container_summary({"State": "running"} | around).cut_off_from == cut_off_from
    assert parse.container_summary({"State": "exited"} | around).cut_off_from == ""
    disabled = _INSPECT | around | {"Config": {"NetworkDisabled": True}}
    assert parse.container_state(disabled).cut_off_from == ""


def test_a_disconnection_names_its_container() -> None:
    told = parse.event(
        {
            "Type": "network",
            "Action": "disconnect",
            "Actor": {"ID": "net", "Attributes": {"container": "abc", "name": "bridge"}},
        }
    )
    assert told is not None
    assert (told.action, told.container_id) == ("disconnect", "abc")
