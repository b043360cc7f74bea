from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.front.errors import InvalidParameterException, PlatformUnknownException
from agent.controlplane.tasks.capacity import Capacity, Share, of_request, read_strategy, spread

KNOWN = ("FARGATE", "FARGATE_SPOT", "rack")


def asked(request: dict[str, Any], *, default: Any = (), body: Any = None) -> Capacity:
    return of_request(request, body or {}, known=KNOWN, default=default)


def item(provider: str = "FARGATE", **more: int) -> dict[str, Any]:
    return {"capacityProvider": provider, **more}


def test_nothing_said_means_ec2_or_the_default_of_the_cluster() -> None:
    assert asked({}) == Capacity("EC2")
    found = asked({}, default=[item("FARGATE_SPOT", weight=1)])
    assert (found.launch_type, found.strategy) == ("FARGATE", (Share("FARGATE_SPOT", 1),))
    assert asked({"launchType": "EC2"}, default=[item(weight=1)]) == Capacity("EC2")


def test_a_provider_of_an_auto_scaling_group_has_hosts_of_its_own() -> None:
    found = asked({"capacityProviderStrategy": [item("rack", weight=1)]})
    assert found == Capacity("EC2", (Share("rack", 1),))
    assert found.hosts_for(2) == ["rack", "rack"]
    assert asked({}).hosts_for(2) is None


@pytest.mark.parametrize("version", ["", "LATEST", "1.4.0"])
def test_fargate_has_a_platform(version: str) -> None:
    found = asked({"launchType": "FARGATE", "platformVersion": version})
    assert (found.platform_version, found.platform_family) == ("1.4.0", "Linux")
    assert found.providers(2) == ["", ""]


def test_a_platform_that_does_not_exist() -> None:
    with pytest.raises(PlatformUnknownException, match="The specified platform does not exist"):
        asked({"launchType": "FARGATE", "platformVersion": "9.9"})


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"platformVersion": "1.4.0"}, "must be null when specifying an EC2 launch type"),
        ({"launchType": "FARGATE", "capacityProviderStrategy": [item()]}, "Remove one"),
        ({"capacityProviderStrategy": [item("mine")]}, "not associated with the cluster"),
        (
            {"capacityProviderStrategy": [item(weight=1), item("rack", weight=1)]},
            "cannot contain a mix of capacity providers",
        ),
        (
            {"capacityProviderStrategy": [item("rack", weight=1)], "platformVersion": "LATEST"},
            "must be null when specifying an EC2 launch type",
        ),
        ({"capacityProviderStrategy": [item()] * 21}, "at most 20"),
        ({"capacityProviderStrategy": [item(weight=1)] * 2}, "FARGATE more than once"),
        ({"capacityProviderStrategy": [item(weight=-1)]}, "weight must be between"),
        ({"capacityProviderStrategy": [item(base=-1)]}, "base must be between"),
        (
            {"capacityProviderStrategy": [item(base=1), item("FARGATE_SPOT", base=1)]},
            "only one capacity provider with a base",
        ),
        ({"capacityProviderStrategy": [item(), item("FARGATE_SPOT")]}, "a weight above 0"),
    ],
)
def test_what_does_not_go_together(request_: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidParameterException, match=text):
        asked(request_)


def test_a_provider_must_be_the_clusters() -> None:
    with pytest.raises(InvalidParameterException, match="not associated with the cluster"):
        read_strategy([item()], known=())


def test_copies_go_to_the_base_first_and_then_by_weight() -> None:
    strategy = (Share("FARGATE", 1, 2), Share("FARGATE_SPOT", 3))
    assert spread(strategy, 2) == ["FARGATE"] * 2
    assert Counter(spread(strategy, 10)) == {"FARGATE": 4, "FARGATE_SPOT": 6}


@given(st.integers(0, 10), st.integers(0, 5), st.integers(1, 9), st.integers(0, 9))
def test_every_copy_has_a_provider_and_shares_follow_the_weights(
    count: int, base: int, first: int, second: int
) -> None:
    got = Counter(spread((Share("FARGATE", first, base), Share("FARGATE_SPOT", second)), count))
    assert got.total() == count
    beyond = max(count - base, 0)
    wanted = beyond * second / (first + second)
    assert abs(got["FARGATE_SPOT"] - wanted) <= 1
