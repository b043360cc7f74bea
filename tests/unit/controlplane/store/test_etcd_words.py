"""Revisions of the store and of etcd, and keys under a prefix."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.controlplane.store.contract import Compare, DeletePrefix
from agent.controlplane.store.etcd_feed import Kept
from agent.controlplane.store.etcd_words import RawEvent, RawKv, Revisions, Words, end_of

JUMPS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 500)), max_size=4)


def shifted(jumps: list[tuple[int, int]]) -> Revisions:
    revisions, raw = Revisions(), 1
    for more, above in jumps:
        raw += more
        revisions = revisions.above(above, raw)
        raw += 1
    return revisions


@given(JUMPS)
def test_revisions_grow_and_can_be_taken_back(jumps: list[tuple[int, int]]) -> None:
    revisions = Revisions.decode(shifted(jumps).encode())
    assert revisions == shifted(jumps)
    told = [revisions.told(raw) for raw in range(200)]
    assert told == sorted(set(told))
    assert told[0] == 0
    for raw in range(200):
        assert revisions.raw(told[raw]) == raw


@given(JUMPS, st.integers(0, 700), st.sampled_from(["=", "!=", "<", ">"]))
def test_a_compare_of_revisions_means_the_same_in_etcd(
    jumps: list[tuple[int, int]], wanted: int, op: str
) -> None:
    revisions = shifted(jumps)
    words = Words("/p", revisions)
    number = words.compare(Compare("/a", "mod_revision", op, wanted))["mod_revision"]  # type: ignore[arg-type]

    def holds(found: int, than: int) -> bool:
        return {"=": found == than, "!=": found != than, "<": found < than, ">": found > than}[op]

    for raw in range(200):
        assert holds(raw, number) == holds(revisions.told(raw), wanted)


@given(JUMPS, st.integers(0, 10_000), st.integers(1, 10_000))
def test_what_comes_after_is_above(jumps: list[tuple[int, int]], above: int, newest: int) -> None:
    before = shifted(jumps)
    newest = max(newest, before.shifts[-1].since)
    after = before.above(above, newest)
    assert after.told(newest + 1) > above
    assert all(after.told(raw) == before.told(raw) for raw in range(newest + 1))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(max_size=3))
def test_a_prefix_has_what_begins_with_it(prefix: str, more: str) -> None:
    words = Words("/p")
    first = words.key(prefix)
    if not more.isascii():
        return
    assert first <= words.key(prefix + more) < end_of(first)
    assert words.op(DeletePrefix(prefix))["request_delete_range"]["key"] == first


def test_kept_changes_are_limited_and_whole() -> None:
    kept = Kept(10)
    for revision in range(11, 10_011):
        kept.add(revision, [RawEvent(RawKv(b"/p/a", mod_revision=revision))])
    assert kept.after(10) is None
    assert kept.since > 10
    found = kept.after(kept.since)
    assert found is not None
    assert [one.kv.mod_revision for one in found] == list(range(kept.since + 1, 10_011))
    assert kept.after(10_010) == []
    kept.add(10_011, [RawEvent(RawKv(b"/p/a", value=bytes(17 << 20)))])
    assert kept.since == 10_011
    kept.forget(20_000)
    assert kept.after(10_011) is None
