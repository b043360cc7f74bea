"""Links that are made anew, and those that cannot be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.errors import NetworkFailure
from agent.network.sandboxes import link_repair
from agent.network.sandboxes.link_repair import LinkRepair
from tests.unit.network.builders import record

if TYPE_CHECKING:
    import pytest

    from agent.network.sandbox_record import SandboxRecord

ONE, TWO = record(2), record(3)


class Sandboxes:
    """Plays the kernel: makes links but for those that it refuses."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.refused: set[str] = set()
        self.in_use = {ONE.ipv4, TWO.ipv4}
        self.lost: dict[str, str] = {}
        self.mender = LinkRepair(
            self._reattach, is_in_use=self.in_use.__contains__, give_up=self._give_up
        )

    async def _reattach(self, record: SandboxRecord) -> None:
        await asyncio.sleep(0)
        if record.ipv4 in self.refused:
            raise NetworkFailure("the name is taken")
        self.made.append(record.ipv4)

    def _give_up(self, ipv4: str, reason: str) -> None:
        self.lost[ipv4] = reason


async def test_links_are_made_and_told_together() -> None:
    made = Sandboxes()
    assert await made.mender.mend([ONE, TWO]) == (["2 links were gone"], "")
    assert made.made == [ONE.ipv4, TWO.ipv4]
    assert await made.mender.mend([ONE]) == ([f"link {ONE.host_interface} was gone"], "")


async def test_what_is_being_removed_is_left_alone() -> None:
    made = Sandboxes()
    made.in_use.clear()
    assert await made.mender.mend([ONE]) == ([], "")
    assert made.made == []


async def test_one_that_cannot_be_made_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Sandboxes()
    made.refused = {ONE.ipv4}
    found, failing = await made.mender.mend([ONE, TWO])
    assert found == [f"link {TWO.host_interface} was gone"]
    assert failing == f"1 links cannot be recreated, {ONE.host_interface}: the name is taken"
    assert made.made == [TWO.ipv4]
    assert made.lost == {}

    monkeypatch.setattr(link_repair, "GIVE_UP_S", 0.0)
    assert await made.mender.mend([ONE]) == ([], "")
    assert set(made.lost) == {ONE.ipv4}
    assert "cannot be recreated: the name is taken" in made.lost[ONE.ipv4]


async def test_one_that_was_made_after_all_has_all_its_time_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Sandboxes()
    made.refused = {ONE.ipv4}
    assert (await made.mender.mend([ONE])).failing
    made.refused.clear()
    assert not (await made.mender.mend([ONE])).failing
    made.refused = {ONE.ipv4}
    monkeypatch.setattr(link_repair, "GIVE_UP_S", 1e-9)
    assert (await made.mender.mend([ONE])).failing
    assert made.lost == {}
