"""Control's TLS context: what new connections get."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.pki.certificates import Certificates
from agent.controlplane.store.sqlite import SqliteStore
from agent.model.wire import CONTROL_NAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

RENEWALS = 20


@pytest.fixture
async def certificates(tmp_path: Path) -> AsyncIterator[Certificates]:
    store = await SqliteStore.open(tmp_path / "control.db")
    yield await Certificates.open(tmp_path / "pki", store, label="a", given=None)
    await store.close()


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Have a client and a server shake hands in memory; return the serial number that was shown."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=CONTROL_NAME),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(2):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = ends[0].getpeercert()
    assert shown is not None
    return str(shown["serialNumber"])


async def test_no_tickets_are_made(certificates: Certificates) -> None:
    """They are a third of what a connection costs, and nobody comes back with one."""
    assert certificates.context.num_tickets == 0


async def test_no_connection_fails_while_the_certificate_is_renewed(
    certificates: Certificates,
) -> None:
    client = ssl.create_default_context(cadata=certificates.authority.pem.decode())

    async def renew() -> None:
        for _ in range(RENEWALS):
            await certificates.renew_server()

    renewing = asyncio.create_task(renew())
    shown = set()
    while not renewing.done():
        shown.add(shake_hands(certificates.context, client))
        await asyncio.sleep(0)
    await renewing
    assert len(shown) > RENEWALS / 2, "new connections get the new certificate"
