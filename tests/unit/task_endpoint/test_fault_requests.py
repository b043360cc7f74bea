"""Bodies of fault requests."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.faults.fault import Blackhole, Kind
from agent.task_endpoint import fault_requests
from agent.task_endpoint.fault_requests import BadFault, blackhole, latency, packet_loss

if TYPE_CHECKING:
    from collections.abc import Callable

PORT = {"Port": 1234, "Protocol": "tcp", "TrafficType": "egress"}
DELAY = {"DelayMilliseconds": 100, "JitterMilliseconds": 0, "Sources": ["10.0.0.0/8"]}
LOSS = {"LossPercent": 10, "Sources": ["10.0.0.0/8", "fd00::1"]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=5,
)


def test_names_are_matched_in_any_case_and_unknown_ones_are_ignored() -> None:
    body = json.dumps({"PORT": 1234, "protocol": "tcp", "trafficType": "egress", "Colour": 1})
    assert blackhole(body.encode()) == Blackhole(port=1234, protocol="tcp", direction="egress")
    assert blackhole(body.encode()).name == "egress-tcp-1234"


def test_the_agent_stays_in_reach_of_a_task_that_closes_port_80() -> None:
    closed = blackhole(json.dumps(PORT | {"Port": 80}).encode())
    assert closed.spared == (ip_network("169.254.170.2"),)
    assert (
        blackhole(json.dumps(PORT | {"Port": 80, "TrafficType": "ingress"}).encode()).spared == ()
    )


def test_an_impairment_has_all_of_its_body() -> None:
    fault = packet_loss(json.dumps(LOSS | {"SourcesToFilter": ["10.1.2.3/16"]}).encode())
    assert (fault.kind, fault.loss_percent, fault.flows_percent) == (Kind.LOSS, 10, 100)
    assert fault.destinations == (ip_network("10.0.0.0/8"), ip_network("fd00::1"))
    assert fault.spared == (ip_network("10.1.0.0/16"),)


@pytest.mark.parametrize(
    ("read", "body", "says"),
    [
        (blackhole, b"", "required request body is missing"),
        (blackhole, b"{}", "required parameter Port is missing"),
        (blackhole, {**PORT, "Port": "80"}, "Port is not an integer from 0 to 65535"),
        (blackhole, {**PORT, "Port": 65536}, "Port is not an integer from 0 to 65535"),
        (blackhole, {**PORT, "Port": True}, "Port is not an integer from 0 to 65535"),
        (blackhole, {**PORT, "Protocol": "icmp"}, "invalid value icmp for parameter Protocol"),
        (blackhole, {**PORT, "TrafficType": "in"}, "invalid value in for parameter TrafficType"),
        (
            blackhole,
            {**PORT, "SourcesToFilter": ["10.0.0.300"]},
            "invalid value 10.0.0.300 for parameter SourcesToFilter",
        ),
        (latency, {}, "required parameter DelayMilliseconds is missing"),
        (
            latency,
            {**DELAY, "DelayMilliseconds": 0},
            "required either DelayMilliseconds or JitterMilliseconds to be non-zero",
        ),
        (
            latency,
            {**DELAY, "DelayMilliseconds": 2**40},
            f"invalid value {2**40} for parameter DelayMilliseconds",
        ),
        (latency, {**DELAY, "Sources": []}, "required parameter Sources is missing"),
        (latency, {**DELAY, "FlowsPercent": 0}, "invalid value 0 for parameter flowsPercent"),
        (packet_loss, {**LOSS, "LossPercent": 0}, "invalid value 0 for parameter LossPercent"),
        (packet_loss, {**LOSS, "LossPercent": 101}, "invalid value 101 for parameter LossPercent"),
        (packet_loss, b"[]", "the request body is not a JSON object"),
        (packet_loss, b"{", "the request body is not JSON"),
    ],
)
def test_what_is_wrong_is_named(
    read: Callable[[bytes], object], body: dict[str, Any] | bytes, says: str
) -> None:
    with pytest.raises(BadFault) as refused:
        read(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert str(refused.value) == says


@given(
    st.sampled_from([blackhole, *fault_requests.IMPAIRMENTS.values()]),
    st.one_of(
        st.binary(max_size=50), st.dictionaries(st.sampled_from([*PORT, *DELAY, *LOSS]), JSON)
    ),
)
def test_any_body_is_a_fault_or_refused(
    read: Callable[[bytes], object], body: dict[str, Any] | bytes
) -> None:
    try:
        read(body if isinstance(body, bytes) else json.dumps(body).encode())
    except BadFault as refused:
        assert len(str(refused)) < 1000  # noqa: PT017 - most bodies are refused
