"""News from the kernel, read as bytes."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.network.host.kernel_messages import NOTHING, Ours, Part, touched
from tests.unit.network.messages import (
    AF_BRIDGE,
    DEL_ADDRESS,
    DEL_LINK,
    DEL_ROUTE,
    NEW_ADDRESS,
    NEW_LINK,
    NEW_ROUTE,
    UP,
    address,
    link,
    route,
    rule,
    switch,
)

BRIDGE = 7
OURS = Ours(
    bridge="ecs-br0",
    bridge_index=BRIDGE,
    bridge_mac="0a:58:0a:09:00:01",
    port_master=BRIDGE,
    is_port={"ecs0a090002", "ecs0a090003"}.__contains__,
    rules=(b"ecs_agent\0", b"DOCKER-USER\0"),
)
BROKEN = Part.BRIDGE | Part.PORTS


@pytest.mark.parametrize(
    ("told", "parts"),
    [
        (link(DEL_LINK, BRIDGE, UP, "ecs-br0"), BROKEN),
        (link(NEW_LINK, BRIDGE, 0, "ecs-br0"), BROKEN),
        (link(NEW_LINK, BRIDGE, UP, "renamed"), BROKEN),
        (link(NEW_LINK, 99, UP, "ecs-br0"), BROKEN),
        (link(NEW_LINK, BRIDGE, UP, "ecs-br0"), NOTHING),
        (link(NEW_LINK, BRIDGE, UP, "ecs-br0", mac="0a580a090001"), NOTHING),
        (link(NEW_LINK, BRIDGE, UP, "ecs-br0", mac="0a580a090002"), Part.BRIDGE),
        (link(DEL_LINK, 8, UP, "docker0"), NOTHING),
        (link(NEW_LINK, 8, 0, "veth1234"), NOTHING),
        (link(NEW_LINK, 8, 0, "veth1234") + link(DEL_LINK, BRIDGE, 0, "ecs-br0"), BROKEN),
        (address(DEL_ADDRESS, BRIDGE), Part.BRIDGE),
        (address(NEW_ADDRESS, BRIDGE), NOTHING),
        (address(DEL_ADDRESS, 8), NOTHING),
        (route(DEL_ROUTE, BRIDGE), Part.BRIDGE),
        (route(NEW_ROUTE, BRIDGE), NOTHING),
        (route(DEL_ROUTE, 8), NOTHING),
        (route(DEL_ROUTE, 1, target="169.254.170.2"), Part.AGENT_ADDRESS),
        (route(DEL_ROUTE, 1, target="169.254.170.3"), NOTHING),
        (route(NEW_ROUTE, 1, target="169.254.170.2"), NOTHING),
        (route(DEL_ROUTE, 8, target="10.208.2.0", protocol=0xEC), Part.FLEET),
        (route(NEW_ROUTE, 8, target="10.208.2.0", protocol=0xEC), NOTHING),
        (switch(-1, 0), Part.FORWARDING),
        (switch(BRIDGE, 0), Part.FORWARDING),
        (switch(-1, 1), NOTHING),
        (switch(8, 0), NOTHING),
        (link(NEW_LINK, 8, UP, "wg0"), Part.OUTSIDE),
        (link(DEL_LINK, 8, UP, "wg-ecs"), Part.FLEET),
        (link(NEW_LINK, 8, 0, "wg-ecs"), Part.FLEET),
        (link(NEW_LINK, 8, UP, "wg-ecs"), Part.OUTSIDE),
        (link(NEW_LINK, 8, 0, "wg0"), NOTHING),
        (link(NEW_LINK, 8, UP, "eth1", master=9), NOTHING),
        (link(NEW_LINK, 8, UP, "veth1234"), NOTHING),
        (link(NEW_LINK, 8, UP, "ecs0a0900ff"), NOTHING),
        (b"", NOTHING),
    ],
)
def test_what_happens_to_the_host(told: bytes, parts: Part) -> None:
    assert touched([told], OURS) == parts


@pytest.mark.parametrize(
    ("told", "harm"),
    [
        (link(DEL_LINK, 20, UP, "ecs0a090002", BRIDGE), True),
        (link(NEW_LINK, 20, 0, "ecs0a090002", BRIDGE), True),
        (link(NEW_LINK, 20, UP, "ecs0a090002"), True),
        (link(NEW_LINK, 20, UP, "ecs0a090002", 8), True),
        (link(DEL_LINK, 20, UP, "ecs0a090002", BRIDGE, AF_BRIDGE), True),
        (link(NEW_LINK, 20, UP, "renamed", BRIDGE), True),
        (link(NEW_LINK, 20, UP, "ecs0a090004", BRIDGE), False),
        (link(NEW_LINK, 20, UP, "ecs0a090002", BRIDGE), False),
        (link(NEW_LINK, 20, UP, "ecs0a090002", BRIDGE, AF_BRIDGE), False),
        (link(DEL_LINK, 20, UP, "ecs0a090009", BRIDGE), False),
        (link(NEW_LINK, 20, 0, "ecs0a0900022"), False),
    ],
)
def test_what_happens_to_the_link_of_a_sandbox(told: bytes, *, harm: bool) -> None:
    assert touched([told], OURS) == (Part.PORTS if harm else NOTHING)


def test_a_link_that_is_in_place_at_the_end_was_not_harmed() -> None:
    making = [
        link(NEW_LINK, 20, 0, "ecs0a090002"),
        link(NEW_LINK, 20, 0, "ecs0a090002", BRIDGE),
        link(NEW_LINK, 20, UP, "ecs0a090002", BRIDGE),
    ]
    assert touched(making, OURS) == NOTHING
    assert touched(reversed(making), OURS) == Part.PORTS
    assert touched([*making, link(NEW_LINK, 21, 0, "ecs0a090003", BRIDGE)], OURS) == Part.PORTS


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 6, 8, 9, 11, 14, 20, 24])
def test_what_is_changed_in_our_rules(kind: int) -> None:
    assert touched([rule(kind, "ecs_agent")], OURS) == Part.RULES
    assert touched([rule(6, "filter") + rule(kind, "ecs_agent")], OURS) == Part.RULES
    assert touched([rule(kind, "filter", "DOCKER-USER")], OURS) == Part.RULES
    assert touched([rule(kind, "filter", "DOCKER")], OURS) == NOTHING
    assert touched([rule(kind, "ecs_agent2")], OURS) == NOTHING


@pytest.mark.parametrize("kind", [1, 4, 7, 12, 15])
def test_answers_new_elements_and_generations_are_no_harm(kind: int) -> None:
    assert touched([rule(kind, "ecs_agent")], OURS) == NOTHING


@given(st.lists(st.binary(max_size=200), max_size=3))
def test_any_bytes_are_read(data: list[bytes]) -> None:
    touched(data, OURS)


@given(st.data())
def test_a_message_cut_anywhere_is_read(data: st.DataObject) -> None:
    whole = data.draw(
        st.sampled_from(
            [
                link(DEL_LINK, BRIDGE, UP, "ecs-br0"),
                route(DEL_ROUTE, BRIDGE),
                switch(-1, 0),
                rule(8, "ecs_agent"),
            ]
        )
    )
    spoilt = bytearray(whole)
    at = data.draw(st.integers(0, len(whole) - 1))
    spoilt[at] = data.draw(st.integers(0, 255))
    touched([bytes(spoilt[: data.draw(st.integers(0, len(whole)))])], OURS)


def test_our_own_changes_of_elements_are_no_news() -> None:
    """One comes and goes with every task."""
    ours = OURS._replace(own_changes=frozenset({4711}))
    gone = rule(14, "ecs_agent")
    own = gone[:12] + (4711).to_bytes(4, sys.byteorder) + gone[16:]
    assert touched([own], ours) == NOTHING
    assert touched([gone], ours) == Part.RULES
    assert touched([own], OURS) == Part.RULES
