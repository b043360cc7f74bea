"""Identities of hosts: who may renew, and that what is revoked stays so."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.controlplane.pki.authority import Signed
from agent.controlplane.pki.certificates import REVOKED_FILE, Certificates
from agent.controlplane.pki.identities import HostIdentities, IdentityCopied, IdentityRevoked
from agent.controlplane.pki.names import Shown
from agent.controlplane.store import sqlite_backup
from agent.controlplane.store.sqlite import SqliteStore
from agent.upstream.certificates import key_pair

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = key_pair.make().request


class _Numbering:
    """Signs by counting, which is enough to see who may renew."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._serials = itertools.count(1)
        self._clock = clock

    def sign_host(self, _key: object, _id: str, *, now: float, life_s: float) -> Signed:
        return Signed(b"", f"{next(self._serials):x}", now, now + life_s)


class Step(NamedTuple):
    """A renewal."""

    by: int
    """0 for the host, 1 for the copy."""
    is_lost: bool
    """Whether the answer does not arrive."""


STEPS = st.lists(st.builds(Step, st.integers(0, 1), st.booleans()), max_size=12)


async def renewals(directory: Path, steps: list[Step]) -> tuple[list[Step], bool]:
    """Have a host and a copy renew; return the steps that were answered, and whether one was refused."""
    now = [1000.0]
    store = await SqliteStore.open(directory / "control.db")
    try:
        signing = _Numbering(lambda: now[0])
        identities = HostIdentities(
            store,
            lambda: signing,  # type: ignore[arg-type, return-value]
            revoked=set(),
            clock=lambda: now[0],
        )
        first = await identities.issue(REQUEST)
        shown = [Shown(first.id, first.signed.serial, now[0])] * 2
        answered: list[Step] = []
        for step in steps:
            now[0] += 10.0
            try:
                made = await identities.issue(REQUEST, shown=shown[step.by])
            except IdentityCopied:
                return answered, True
            answered.append(step)
            if not step.is_lost:
                shown[step.by] = Shown(first.id, made.signed.serial, now[0])
        return answered, False
    finally:
        await store.close()


@given(lost=st.lists(st.booleans(), max_size=8))
@settings(max_examples=6, deadline=None)
def test_a_host_alone_is_never_refused_whatever_answers_are_lost(lost: list[bool]) -> None:
    with TemporaryDirectory() as directory:
        steps = [Step(0, one) for one in lost]
        assert asyncio.run(renewals(Path(directory), steps)) == (steps, False)


@given(before=STEPS, turns=st.lists(st.integers(0, 1), max_size=4))
@settings(max_examples=12, deadline=None)
def test_host_and_copy_do_not_both_renew_for_long(before: list[Step], turns: list[int]) -> None:
    """Whatever came before, once both got a certificate of their own, the next round of both is refused."""
    settled = [Step(0, False), Step(1, False), *(Step(by, False) for by in turns)]
    with TemporaryDirectory() as directory:
        steps = [*before, *settled, Step(0, False), Step(1, False)]
        _, is_refused = asyncio.run(renewals(Path(directory), steps))
        assert is_refused


async def opened(directory: Path, store: SqliteStore) -> Certificates:
    return await Certificates.open(directory / "pki", store, label="a", given=None)


async def test_what_was_revoked_stays_so_in_a_restored_store(tmp_path: Path) -> None:
    path, backup, older = tmp_path / "control.db", tmp_path / "backup.db", tmp_path / "older.db"
    store = await SqliteStore.open(path)
    certificates = await opened(tmp_path, store)
    await asyncio.to_thread(sqlite_backup.back_up, path, older)
    known = await certificates.identities.issue(REQUEST)
    await asyncio.to_thread(sqlite_backup.back_up, path, backup)
    await certificates.identities.revoke(known.id, reason="stolen")
    await store.close()
    assert (tmp_path / "pki" / REVOKED_FILE).stat().st_mode & 0o777 == 0o600
    for source, is_listed in ((backup, True), (older, False)):
        await asyncio.to_thread(sqlite_backup.restore, path, source)
        store = await SqliteStore.open(path)
        identities = (await opened(tmp_path, store)).identities
        with pytest.raises(IdentityRevoked):
            identities.check(known.id)
        assert [bool(one.revoked_at) for one in await identities.list()] == [True] * is_listed
        await store.close()
