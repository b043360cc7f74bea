"""How kinds of sandboxes share the memory."""

from __future__ import annotations

from agent.network.container_sandboxes.demands import MOST_KINDS, Demands
from agent.network.container_sandboxes.kinds import Kind
from agent.network.demand import MEMORY_SHARE

PLAIN, WEB = Kind("bridge"), Kind("bridge", ("80/tcp",))
PLENTY = 1 << 40


def test_each_kind_in_use_has_its_own_number() -> None:
    demands = Demands()
    demands.launched(PLAIN, 100.0)
    for _ in range(7):
        demands.launched(WEB, 101.0)

    assert demands.wanted(102.0, least=2, free_bytes=PLENTY) == {WEB: 7, PLAIN: 2}
    assert demands.last == 101.0


def test_scarce_memory_goes_to_what_was_launched_last_and_ports_count() -> None:
    demands = Demands()
    for kind in (PLAIN, WEB):
        demands.launched(kind, 100.0)
    room = 2 * WEB.bytes + PLAIN.bytes

    assert WEB.bytes > PLAIN.bytes
    wanted = demands.wanted(100.0, least=2, free_bytes=room * MEMORY_SHARE)
    assert wanted == {WEB: 2, PLAIN: 1}
    assert demands.wanted(100.0, least=2, free_bytes=-5) == {WEB: 0, PLAIN: 0}


def test_of_too_many_kinds_the_oldest_are_forgotten() -> None:
    demands = Demands()
    kinds = [Kind("bridge", (f"{port}/tcp",)) for port in range(1, MOST_KINDS + 3)]
    for kind in kinds:
        demands.launched(kind, 1.0)
    demands.launched(kinds[2], 2.0)

    known = list(demands.wanted(2.0, least=1, free_bytes=PLENTY))
    assert len(known) == MOST_KINDS
    assert known[0] == kinds[2]
    assert kinds[1] not in known


def test_a_kind_that_cannot_be_made_is_not_wanted_until_its_next_launch() -> None:
    demands = Demands()
    demands.found(WEB, 1.0, 3)
    assert demands.wanted(1.0, least=1, free_bytes=PLENTY) == {WEB: 3}
    demands.cap(WEB, 2)
    assert demands.wanted(1.0, least=1, free_bytes=PLENTY) == {WEB: 2}
    demands.launched(WEB, 2.0)
    assert demands.wanted(2.0, least=1, free_bytes=PLENTY) == {WEB: 3}
