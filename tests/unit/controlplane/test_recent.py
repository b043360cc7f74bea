from __future__ import annotations

from agent.controlplane.recent import Recent


def test_the_oldest_entry_gives_way_to_a_new_one() -> None:
    kept: Recent[str, int] = Recent(2)
    kept["a"], kept["b"] = 1, 2
    kept["a"] = 3  # newer than b now
    kept["c"] = 4
    assert dict(kept) == {"a": 3, "c": 4}
    for number in range(100):
        kept[str(number)] = number
    assert list(kept) == ["98", "99"]
