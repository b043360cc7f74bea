from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import network_values, values


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("+0", 0.0),
        ("300ms", 0.3),
        ("10s", 10.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("2m3s4ms", 123.004),
        ("7us", 7e-6),
        ("7\u00b5s", 7e-6),
        ("7\u03bcs", 7e-6),
        ("9ns", 9e-9),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert math.isclose(values.parse_duration_s(text), seconds)


@pytest.mark.parametrize(
    "text", ["", "s", "1", "10", "1.5", "5 s", "1d", "-3s", "1h30", "h1", ".s"]
)
def test_what_go_does_not_take_as_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        values.parse_duration_s(text)


def test_a_duration_without_unit_gets_its_own_mend() -> None:
    with pytest.raises(ValueError, match="write 30s, 30m or 30h"):
        values.parse_duration_s("30")


@given(
    st.lists(
        st.tuples(st.integers(0, 10**6), st.sampled_from(["ns", "us", "ms", "s", "m", "h"])),
        min_size=1,
        max_size=5,
    )
)
def test_compound_durations_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    total = sum(values.parse_duration_s(f"{count}{unit}") for count, unit in parts)
    assert math.isclose(values.parse_duration_s(text), total, abs_tol=1e-9)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for name in dir(values):
        kind = getattr(values, name)
        if isinstance(kind, values.Kind):
            try:
                kind.parse(text)
            except ValueError as error:
                assert str(error)  # noqa: PT017 - most texts are refused, and each with a reason


@pytest.mark.parametrize("text", ["1", "t", "T", "TRUE", "true", "True"])
def test_true(text: str) -> None:
    assert values.parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "f", "F", "FALSE", "false", "False"])
def test_false(text: str) -> None:
    assert values.parse_bool(text) is False


@pytest.mark.parametrize("text", ["yes", "on", "tRUE", "", "2", "no"])
def test_other_words_are_no_booleans(text: str) -> None:
    with pytest.raises(ValueError, match="write true or false"):
        values.parse_bool(text)


def test_json_maps_hold_strings_only() -> None:
    assert values.parse_string_map('{"rack": "a1"}') == {"rack": "a1"}
    with pytest.raises(ValueError, match='at "n"'):
        values.parse_string_map('{"n": 1}')
    with pytest.raises(ValueError, match="not a JSON object"):
        values.parse_string_map("[]")
    with pytest.raises(ValueError, match="not valid JSON"):
        values.parse_string_map("{rack: a1}")


@pytest.mark.parametrize("text", ["[0]", "[65536]", '["22"]', "[true]", "{}", "[1.5]", "22"])
def test_ports_are_a_list_of_port_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="list of ports"):
        network_values.parse_ports(text)


def test_unknown_log_drivers_are_named() -> None:
    assert values.parse_logging_drivers('["json-file","awsfirelens"]') == (
        "json-file",
        "awsfirelens",
    )
    with pytest.raises(ValueError, match='unknown log driver "jsonfile"'):
        values.parse_logging_drivers('["jsonfile"]')


@pytest.mark.parametrize("text", ["10.0.0.1/16", "10.0.0.0/30", "10.0.0.0/7", "::/64", "x"])
def test_task_pools_are_ipv4_networks_of_a_useful_size(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        network_values.parse_ipv4_network(text)


@pytest.mark.parametrize("text", ["1-", "5-4", "0-10", "1-65536", "80"])
def test_bad_port_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="range"):
        network_values.parse_port_range(text)


def test_port_range() -> None:
    assert network_values.parse_port_range("49153-65535") == (49153, 65535)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rack", "is not valid JSON (Expecting value at character 1); write for example {"),
        ('{"a b": "c"}', "has the name 'a b'; attribute names have 1 to 128 letters"),
        ('{"rack": "a?"}', "has the value 'a?' for rack; attribute values have"),
        ('{"rack": " a"}', "has the value ' a' for rack"),
    ],
)
def test_attributes_are_those_that_ecs_takes(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        values.parse_attributes(text)


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"aws:x": ""}, "has the key 'aws:x'; tag keys have"),
        ({"": "x"}, "has the key ''"),
        ({"k": "v" * 257}, "has a value of 257 characters for k"),
        ({str(n): "" for n in range(51)}, "has 51 tags"),
    ],
)
def test_tags_are_those_that_aws_takes(tags: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        values.parse_tags(json.dumps(tags))
    assert values.parse_tags('{"Name": "Müller & Co"}') == {"Name": "Müller & Co"}


def test_a_number_that_is_too_large_is_not_called_none() -> None:
    with pytest.raises(ValueError, match="is too large"):
        values.parse_int("9" * 20)


def test_paths_are_absolute() -> None:
    assert values.parse_path("/var/lib//ecs/") == Path("/var/lib/ecs")
    with pytest.raises(ValueError, match="absolute"):
        values.parse_path("data")


def test_secrets_show_nowhere_but_where_asked_for() -> None:
    secret = values.parse_json_secret('{"registry": "canary"}')
    assert "canary" not in f"{secret} {secret!r} {secret!s} {[secret]}"
    assert secret.reveal() == '{"registry": "canary"}'
    assert secret
    assert not values.SecretText()
    assert secret == values.SecretText('{"registry": "canary"}')
    assert hash(secret) != hash(values.SecretText())


def test_headers_are_a_secret_map() -> None:
    found = values.parse_headers('{"api-key": "of-the-tests"}')
    assert json.loads(found.reveal()) == {"api-key": "of-the-tests"}
    assert "of-the-tests" not in repr(found)


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"a": 1}', '{"a b": "c"}', '{"a": "b\\nc"}', '{"a": "\u00e4"}']
)
def test_what_http_does_not_allow_as_headers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON object|valid JSON|header that HTTP does not allow"):
        values.parse_headers(text)


@pytest.mark.parametrize(("text", "address"), [("192.0.2.7", "192.0.2.7"), ("0::1", "::1")])
def test_one_address(text: str, address: str) -> None:
    assert network_values.parse_address(text) == address
    with pytest.raises(ValueError, match="is not an IP address"):
        network_values.parse_address(f"[{text}]:80")
