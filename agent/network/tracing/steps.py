"""Makes an answer for people of what happened to a traced packet. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from agent.model.network_views import TraceStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.network.tracing.messages import TraceEvent

RuleKey = tuple[str, str, int]
"""Family, table and handle of a rule."""
_HANDLE: Final = re.compile(r"\s+# handle (\d+)$")
_COMMENT: Final = re.compile(r'comment "(.*?)(?: [0-9a-f]{12})?"$')
_CHAIN: Final = re.compile(r"^\s*chain \S+ \{")
_DECIDES_NOTHING: Final = frozenset({"continue", "break", "repeat"})


def first_packet(events: Iterable[TraceEvent], own_table: str) -> list[TraceEvent]:
    """Return what happened to the first packet, without the rules that made it be traced.

    A repeated packet begins with a chain of ``own_table`` that the first one has passed already.
    """
    seen: set[tuple[str, str]] = set()
    found = []
    for event in events:
        if event.table != own_table:
            found.append(event)
        elif event.handle:  # without one, it is the end of the chain
            place = (event.family, event.chain)
            if place in seen:
                break
            seen.add(place)
    return found


def texts_of(family: str, table: str, listing: str) -> dict[RuleKey, str]:
    """Return the text of each rule in the output of ``nft -a list table``."""
    texts: dict[RuleKey, str] = {}
    in_chain = False
    for line in listing.splitlines():
        if _CHAIN.match(line):
            in_chain = True
        elif line.strip() == "}":
            in_chain = False
        elif in_chain and (handle := _HANDLE.search(line)):
            texts[family, table, int(handle[1])] = line[: handle.start()].strip()
    return texts


def steps_of(
    events: Iterable[TraceEvent], texts: Mapping[RuleKey, str], ours: str
) -> list[TraceStep]:
    """Return the steps in order, without rules that decide nothing.

    Args:
        events: what happened to one packet.
        texts: text of the rules.
        ours: the beginning of the names of our tables, whose rules are shown by their comments.
    """
    steps = []
    for event in events:
        if event.verdict in _DECIDES_NOTHING:
            continue
        rule = "policy" if event.kind == "policy" else f"handle {event.handle}"
        if event.kind != "policy":
            rule = texts.get((event.family, event.table, event.handle), rule)
            comment = _COMMENT.search(rule)
            if comment and (event.table == ours or event.table.startswith(f"{ours}_")):
                rule = comment[1]
        steps.append(
            TraceStep(
                family=event.family, table=event.table, chain=event.chain, rule=rule,
                verdict=event.verdict,
            )
        )  # fmt: skip
    return steps


def dropped_by(steps: Iterable[TraceStep]) -> TraceStep | None:
    """Return the step that dropped the packet; None if none did."""
    return next((step for step in steps if step.verdict == "drop"), None)
