"""Listeners, groups and targets as HAProxy's configuration, its commands, and its figures."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.ingress import configuration, figures, servers
from agent.ingress.configuration import Place
from agent.ingress.figures import ServerFigures
from agent.ingress.quoting import word
from agent.model.ingress import (
    Check,
    Condition,
    Group,
    Listener,
    Rule,
    Share,
    Target,
    TargetReport,
)

PLACE = Place(socket=Path("/run/x/haproxy.sock"), log=Path("/run/x/health.sock"))
GROUP = Group(id="g1", protocol="HTTP", check=Check(interval_s=7, unhealthy_threshold=3))
ONE = Target(name="10.0.0.1/80", address="10.0.0.1", port=80)
PLACE_OF_ONE = ("group-g1", "10.0.0.1_80")


def written(*rules: Rule, protocol: str = "HTTP") -> list[str]:
    listener = Listener(id="l1", port=8080, protocol=protocol, rules=rules)
    text = configuration.text([listener], [GROUP], {"g1": (ONE,)}, place=PLACE, serial=3)
    return [line.strip() for line in text.splitlines()]


def seen(**more: object) -> ServerFigures:
    known = {"status": "UP", "check": "L7OK", "code": "200", "weight": 100, "requests": 0}
    return ServerFigures(*PLACE_OF_ONE, **(known | more))  # type: ignore[arg-type]


def test_weights_are_shares_of_a_drawn_number() -> None:
    shares = (Share(group="a", weight=9), Share(group="b", weight=0), Share(group="c", weight=1))
    lines = written(Rule(shares=shares))
    assert "http-request set-var(txn.draw) rand(10) if { var(txn.rule) -m int 0 }" in lines
    (a, c) = [line for line in lines if line.startswith("use_backend")]
    assert a.endswith("{ var(txn.draw) -m int lt 9 }")
    assert "group-a" in a
    assert c.endswith("{ var(txn.draw) -m int lt 10 }")
    assert "group-c" in c


def test_a_rule_whose_groups_all_have_no_weight_answers_503() -> None:
    rule = Rule(shares=(Share(group="a", weight=0),))
    assert any(line.startswith("use_backend nobody if") for line in written(rule))
    assert any(
        line.startswith("use_backend nobody-tcp if") for line in written(rule, protocol="TCP")
    )


@given(st.text(min_size=1))
def test_whatever_a_condition_says_stays_one_word_of_one_line(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    rule = Rule(conditions=(Condition(kind="path-pattern", values=(f"/{text}",)),))
    (line,) = [line for line in written(rule) if line.startswith("acl r0c0")]
    assert len(line.split()) == 6
    assert set(word(text)) <= set(
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:-\\"
    )


def test_of_two_listeners_for_a_port_the_first_is_served() -> None:
    first, second, third = (
        Listener(id=name, port=port, protocol="HTTP")
        for name, port in (("a", 80), ("b", 80), ("c", 81))
    )
    assert configuration.without_conflicts([first, second, third]) == ([first, third], [second])


def test_a_server_that_was_not_seen_healthy_begins_without_requests() -> None:
    for healthy, drains, weight in (
        ((), False, 0),
        ({PLACE_OF_ONE}, False, 100),
        ({PLACE_OF_ONE}, True, 0),
    ):
        target = Target(name=ONE.name, address=ONE.address, port=ONE.port, drains=drains)
        text = configuration.text(
            [], [GROUP], {"g1": (target,)}, place=PLACE, serial=1, healthy=healthy
        )
        assert f"10.0.0.1:80 check inter 7s rise 5 fall 3 weight {weight}" in text


def commands(known: ServerFigures | None, *targets: Target) -> list[str]:
    there = {} if known is None else {PLACE_OF_ONE: known}
    return servers.commands([GROUP], {"g1": targets}, there)


def test_a_new_server_is_checked_before_it_gets_requests() -> None:
    (add, health, enable) = commands(None, ONE)
    assert add.startswith("add server group-g1/10.0.0.1_80 10.0.0.1:80 check")
    assert add.endswith("weight 0")
    assert health.startswith("enable health")
    assert enable.startswith("enable server")
    assert commands(seen(check="INI", weight=0), ONE) == []
    assert commands(seen(weight=0), ONE) == ["set server group-g1/10.0.0.1_80 weight 100"]


def test_connections_to_targets_are_probed_while_they_are_silent() -> None:
    probes = {"option srvtcpka", "srvtcpka-idle 5s", "srvtcpka-intvl 2s", "srvtcpka-cnt 3"}
    assert probes <= set(written(Rule()))


def test_a_server_is_drained_by_its_weight_and_deleted_once_it_is_gone() -> None:
    leaving = Target(name=ONE.name, address=ONE.address, port=ONE.port, drains=True)
    assert commands(seen(), leaving) == ["set server group-g1/10.0.0.1_80 weight 0"]
    assert commands(seen(weight=0), leaving) == []
    assert commands(seen(weight=0))[-1] == "del server group-g1/10.0.0.1_80"
    assert commands(seen(status="MAINT"), ONE)[-1].endswith("state ready")


def reported(known: ServerFigures | None, target: Target, *, is_alone: bool) -> TargetReport:
    there = {} if known is None else {PLACE_OF_ONE: known}
    found = figures.group_reports([GROUP], {"g1": (target,)}, there, {}, is_alone=is_alone)
    return found["g1"][target.name]


def test_a_target_is_idle_only_if_no_process_can_have_a_request_for_it() -> None:
    leaving = Target(name=ONE.name, address=ONE.address, port=ONE.port, drains=True)
    quiet = seen(weight=0)
    assert reported(quiet, leaving, is_alone=True).is_idle
    assert not reported(quiet, leaving, is_alone=False).is_idle
    assert not reported(seen(weight=0, requests=1), leaving, is_alone=True).is_idle
    assert not reported(seen(weight=100), leaving, is_alone=True).is_idle
    assert not reported(quiet, ONE, is_alone=True).is_idle
    assert reported(None, leaving, is_alone=True).is_idle


def test_health_is_told_once_it_is_decided() -> None:
    assert reported(seen(status="UP 1/2", check="INI"), ONE, is_alone=True).state == "initial"
    assert reported(seen(), ONE, is_alone=True).state == "healthy"
    bad = reported(seen(status="DOWN", check="L7STS", code="500"), ONE, is_alone=True)
    assert (bad.state, bad.reason) == ("unhealthy", "Target.ResponseCodeMismatch")
    slow = reported(seen(status="DOWN", check="L4TOUT"), ONE, is_alone=True)
    assert slow.reason == "Target.Timeout"


def test_a_server_that_was_not_checked_since_a_reload_keeps_its_requests() -> None:
    assert seen(status="UP 1/2", check="INI").may_serve
    assert not seen(status="UP 1/2", check="INI", weight=0).may_serve
    assert not seen(status="DOWN", check="L7STS").may_serve
