"""Strangers attack a real control process: known senders hardly notice, and it neither spins nor shouts.

Bounds are generous, because the machine has other work; ``pytest -rP`` shows what was measured.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import certificates
from tests.support.attacked_control import AttackedControl, attack, attacked_control

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SILENT = 1100
SECONDS = 2.0
"""For how long each attack goes on and is measured: attackers take all of the processor that they get."""
LOG_BYTES_PER_S = 1000


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[AttackedControl]:
    async with attacked_control(tmp_path) as running:
        yield running


async def assert_served(
    control: AttackedControl, what: str, *, cpu: float, p50_ms: float, p99_ms: float
) -> None:
    """Fail where known senders are kept waiting, CPU is burnt, or the log is filled.

    Args:
        control: is under attack.
        what: which attack, for what is printed.
        cpu: most of a core that it may use, the calls of the known ones among it.
        p50_ms: most that half of the calls may take.
        p99_ms: most that 99 of 100 may take.
    """
    began, cpu_before, log_before = time.monotonic(), control.cpu_s(), control.log_bytes()
    noticed = await control.measure(SECONDS)
    took_s = time.monotonic() - began
    used = (control.cpu_s() - cpu_before) / took_s
    logged = (control.log_bytes() - log_before) / took_s
    shown = ", ".join(
        f"{name} {seen.p50_ms:.1f}/{seen.p99_ms:.1f} ms of {len(seen.times_s)}"
        for name, seen in noticed.items()
    )
    print(  # noqa: T201 - the figures are the point
        f"{what}: {shown}; CPU {used:.0%}, log {logged:.0f} B/s, {control.memory_mib()} MiB, "
        f"{control.descriptors()} descriptors"
    )
    for name, seen in noticed.items():
        assert not seen.failures, f"{name}: {seen.failures[:3]}"
        assert seen.p50_ms < p50_ms, name
        assert seen.p99_ms < p99_ms, name
    assert used < cpu
    assert logged < LOG_BYTES_PER_S


@pytest.mark.parametrize("many", [False, True], ids=["one address", "many addresses"])
@pytest.mark.parametrize("of_agents", [True, False], ids=["agents", "operators"])
async def test_silent_connections(control: AttackedControl, many: bool, of_agents: bool) -> None:
    port = control.agents_port if of_agents else control.process.port
    async with attack("silent-once", port, SILENT, many=many) as counted:
        await asyncio.sleep(1)
        await assert_served(control, "silent", cpu=0.6, p50_ms=600, p99_ms=3000)
        async with asyncio.timeout(20):  # Ten seconds, and what the machine takes.
            while control.descriptors() > 60:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.1)
    assert counted["closed"] == SILENT, counted
    text = control.process.log.read_text()
    assert text.count("its place was needed") <= 2
    assert "Traceback" not in text


@pytest.mark.parametrize("kind", ["silent", "half-heads", "dripping", "half-bodies"])
async def test_connections_that_come_again_as_soon_as_they_are_cut(
    control: AttackedControl, kind: str
) -> None:
    async with attack(kind, control.agents_port, SILENT):
        await asyncio.sleep(1)
        # They take all of the processor that they are given: what counts is that nobody is kept out.
        await assert_served(control, kind, cpu=1.1, p50_ms=3000, p99_ms=15_000)


async def test_known_senders_are_served_when_nobody_attacks(control: AttackedControl) -> None:
    await assert_served(control, "quiet", cpu=0.6, p50_ms=600, p99_ms=3000)


@pytest.mark.parametrize(
    ("kind", "senders"),
    [
        ("bombs", 4),
        ("bombs", 40),
        ("bombs-to-any-path", 40),
        ("bombs-bearer", 40),
        ("bombs-signed", 40),
    ],
)
async def test_bombs_of_strangers(control: AttackedControl, kind: str, senders: int) -> None:
    for port in (control.process.port, control.agents_port):
        async with attack(kind, port, senders):
            await assert_served(control, f"{senders} {kind}", cpu=0.7, p50_ms=600, p99_ms=3000)
    assert control.memory_mib() < 200


@pytest.mark.parametrize("kind", ["garbage", "large-heads"])
async def test_what_is_no_http(control: AttackedControl, kind: str) -> None:
    async with attack(kind, control.agents_port, 40):
        await assert_served(control, kind, cpu=1.1, p50_ms=1000, p99_ms=5000)
    assert "Traceback" not in control.process.log.read_text()


@pytest.mark.parametrize("kind", ["silent-once", "half-handshakes"])
async def test_handshakes_that_never_end(tmp_path: Path, kind: str) -> None:
    made = await asyncio.to_thread(certificates.make, tmp_path / "tls")
    options = ["--tls-certificate", str(made.certificate), "--tls-key", str(made.key)]
    async with attacked_control(tmp_path, *options) as control:
        trusted = ssl.create_default_context(cafile=str(made.ca))
        async with attack(kind, control.agents_port, SILENT, many=True):
            await asyncio.sleep(1)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", control.agents_port, ssl=trusted, server_hostname="localhost"
            )
            writer.write(
                f"GET /v1/hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {control.token}\r\n\r\n".encode()
            )
            async with asyncio.timeout(10):
                assert b"200 OK" in await reader.readline()
            writer.close()
            print(f"{kind}: {control.memory_mib()} MiB, {control.descriptors()} descriptors")  # noqa: T201 - as above
            assert control.memory_mib() < 300
        async with asyncio.timeout(20):
            while control.descriptors() > 60:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.1)
        assert "Traceback" not in control.process.log.read_text()


async def test_a_host_with_few_descriptors(tmp_path: Path) -> None:
    """As where the hard limit is low: what there is, is divided, and nobody known is kept out."""
    async with attacked_control(tmp_path, wrapper=["prlimit", "--nofile=512:512"]) as control:
        async with attack("silent-once", control.agents_port, SILENT, many=True):
            await asyncio.sleep(1)
            await assert_served(control, "512 descriptors", cpu=0.7, p50_ms=600, p99_ms=3000)
        assert control.descriptors() < 400
        assert "Traceback" not in control.process.log.read_text()


async def test_the_soft_limit_of_descriptors_is_raised(tmp_path: Path) -> None:
    async with attacked_control(tmp_path, wrapper=["prlimit", "--nofile=256:4096"]) as control:
        told = await asyncio.to_thread(
            subprocess.run,
            [
                "prlimit",
                "--nofile",
                "--noheadings",
                "--output=SOFT",
                "-p",
                str(control.process.pid),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() == "4096"
