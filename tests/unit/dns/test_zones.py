"""What is answered for names that control has said."""

from __future__ import annotations

import random

from agent.dns.message import read
from agent.dns.zones import Zones
from agent.model.names import Alias, NamedInstance, NameUpdates, TaskName
from tests.support.dns_messages import (
    AAAA,
    ANY,
    SOA,
    SRV,
    TXT,
    A,
    Response,
    query,
    read_response,
)

ZONES = {"shop.internal": 15}


def web(*addresses: str, **more: object) -> TaskName:
    instances = tuple(
        NamedInstance(id=f"task{n}", ipv4=each, port=8080) for n, each in enumerate(addresses)
    )
    values = {"name": "web.shop.internal", "ttls": {"A": 10}, "instances": instances}
    return TaskName(**(values | more))  # type: ignore[arg-type]


def zones(*names: TaskName) -> Zones:
    made = Zones(random.Random(1))
    made.apply(NameUpdates(zones=ZONES, names=list(names), full=True))
    return made


def ask(known: Zones, name: str, kind: int = A) -> Response | None:
    answer = known.answer(read(query(name, kind, edns_bytes=1232)))
    return read_response(answer) if answer is not None else None


def told(known: Zones, name: str, kind: int = A) -> list[str]:
    """Return the data of the answers to a question about a name that there is."""
    answer = ask(known, name, kind)
    assert answer is not None
    assert answer.code == 0
    if not answer.answers:
        assert [(each.type, each.ttl_s) for each in answer.authority] == [(SOA, 15)]
    return sorted(each.data for each in answer.answers)


def test_addresses() -> None:
    known = zones(web("10.0.0.1", "10.0.0.2"))
    assert told(known, "WEB.shop.Internal") == ["10.0.0.1", "10.0.0.2"]
    answer = ask(known, "web.shop.internal")
    assert answer is not None
    assert {(each.name, each.ttl_s) for each in answer.answers} == {("web.shop.internal", 10)}
    # There is the name, but no such record.
    assert told(known, "web.shop.internal", AAAA) == []
    assert told(known, "web.shop.internal", TXT) == []
    assert told(known, "shop.internal") == []
    assert len(told(known, "shop.internal", SOA)) == 1


def test_names_that_there_are_not() -> None:
    known = zones(web("10.0.0.1"), web(name="idle.shop.internal"))
    for name in ("nothing.shop.internal", "idle.shop.internal", "a.web.shop.internal"):
        answer = ask(known, name)
        assert answer is not None
        assert (answer.code, answer.answers) == (3, [])
        assert [(each.name, each.type) for each in answer.authority] == [("shop.internal", SOA)]
    for name in ("internal", "example.com", "myshop.internal", ""):
        assert ask(known, name) is None
    assert not Zones()
    assert ask(Zones(), "web.shop.internal") is None


def test_at_most_eight_and_of_weighted_ones_one() -> None:
    addresses = [f"10.0.0.{n}" for n in range(20)]
    many, one = zones(web(*addresses)), zones(web(*addresses, is_weighted=True))
    assert len(told(many, "web.shop.internal")) == 8
    seen = {address for _ in range(300) for address in told(many, "web.shop.internal")}
    assert seen == set(addresses)
    assert {len(told(one, "web.shop.internal")) for _ in range(9)} == {1}


def test_services_with_the_addresses_of_their_targets() -> None:
    known = zones(web("10.0.0.1", "10.0.0.2", ttls={"SRV": 60}))
    assert told(known, "web.shop.internal", SRV) == [
        "task0.web.shop.internal:8080",
        "task1.web.shop.internal:8080",
    ]
    answer = ask(known, "web.shop.internal", SRV)
    assert answer is not None
    found = {each.name: each.data for each in answer.others if each.type == A}
    assert found == {"task0.web.shop.internal": "10.0.0.1", "task1.web.shop.internal": "10.0.0.2"}
    assert told(known, "task1.web.shop.internal") == ["10.0.0.2"]
    assert told(known, "task1.web.shop.internal", AAAA) == []
    assert told(known, "web.shop.internal") == []
    both = zones(web("10.0.0.1", ttls={"SRV": 60, "A": 5}))
    assert len(told(both, "web.shop.internal", ANY)) == 2


def test_a_name_with_dots_has_parents() -> None:
    known = zones(web("10.0.0.1", name="_http._tcp.shop.internal"))
    assert told(known, "_tcp.shop.internal") == []


def test_the_longest_namespace_counts() -> None:
    known = Zones()
    known.apply(NameUpdates(zones=ZONES | {"eu.shop.internal": 30}, full=True))
    answer = ask(known, "web.eu.shop.internal")
    assert answer is not None
    assert [each.name for each in answer.authority] == ["eu.shop.internal"]


def test_changes() -> None:
    known = zones(web("10.0.0.1", ttls={"SRV": 1, "A": 1}), web("10.0.0.9", name="b.shop.internal"))
    change = NameUpdates(zones=ZONES, names=[web("10.0.0.2")], gone=["b.shop.internal"])
    for _ in range(2):
        known.apply(change)
        assert told(known, "web.shop.internal") == ["10.0.0.2"]
        for gone in ("b.shop.internal", "task0.web.shop.internal"):
            answer = ask(known, gone)
            assert answer is not None
            assert answer.code == 3
    known.apply(NameUpdates(full=True))
    assert not known
    assert ask(known, "web.shop.internal") is None


def test_aliases_are_only_for_those_in_their_namespace() -> None:
    addresses = [f"10.0.0.{n}" for n in range(9)]
    instances = tuple(NamedInstance(id=each, ipv4=each) for each in addresses)
    known = Zones(random.Random(1))
    known.apply(
        NameUpdates(
            zones=ZONES,
            names=[web("10.1.0.1")],
            aliases=[
                Alias(namespace="ns-a", name="web.shop.internal", instances=instances),
                Alias(namespace="ns-b", name="web.shop.internal", instances=instances[:1]),
                Alias(namespace="ns-a", name="db", instances=()),
                Alias(
                    namespace="ns-a",
                    name="six",
                    instances=(NamedInstance(id="x", ipv4="10.0.0.1", ipv6="fd00::1"),),
                ),
            ],
            full=True,
        )
    )

    def asked(name: str, namespace: str, kind: int = A) -> tuple[int, list[str]] | None:
        answer = known.answer(read(query(name, kind, edns_bytes=1232)), lambda: namespace)
        if answer is None:
            return None
        found = read_response(answer)
        assert {each.ttl_s for each in found.answers} <= ({0} if namespace else {10})
        return found.code, [each.data for each in found.answers]

    in_a = asked("WEB.shop.internal", "ns-a")
    assert in_a is not None
    assert (in_a[0], len(in_a[1]), set(in_a[1]) < set(addresses)) == (0, 8, True)
    assert asked("web.shop.internal", "ns-b") == (0, ["10.0.0.0"])
    # Others get what they would get if there was no alias.
    assert asked("web.shop.internal", "") == (0, ["10.1.0.1"])
    assert asked("six", "") is None
    assert asked("six", "ns-b") is None
    assert asked("db", "ns-a") == (3, []), "nobody is behind it, and no other server is asked"
    assert asked("web.shop.internal", "ns-a", AAAA) == (0, [])
    assert asked("six", "ns-a", AAAA) == (0, ["fd00::1"])
    assert asked("six", "ns-a", ANY) == (0, ["10.0.0.1", "fd00::1"])
    for _ in range(2):
        known.apply(
            NameUpdates(
                gone_aliases=[("ns-a", "six"), ("ns-b", "web.shop.internal")],
                aliases=[Alias(namespace="ns-a", name="db", instances=instances[:1])],
            )
        )
        assert asked("six", "ns-a") is None
        assert asked("db", "ns-a") == (0, ["10.0.0.0"])
    assert known
    known.apply(NameUpdates(full=True))
    assert not known
