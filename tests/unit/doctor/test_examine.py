from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from agent.config import Settings
from agent.doctor import reading, sockets
from agent.doctor.examine import CHECKS, Check, examine
from agent.doctor.findings import Finding, Level
from agent.doctor.host import HostFacts
from tests.support.generated import DOCS


def said(name: str, level: Level) -> Check:
    async def run(_: HostFacts) -> list[Finding]:
        await asyncio.sleep(0)
        return [Finding(check=name, level=level, seen="seen")]

    return Check(name, run)


async def test_findings_come_in_the_order_of_the_table_and_are_counted() -> None:
    checks = [said("a", Level.ERROR), said("b", Level.OK), said("c", Level.WARNING)]
    report = await examine(HostFacts(settings=Settings()), checks=checks)
    assert [finding.check for finding in report.findings] == ["a", "b", "c"]
    assert (report.errors, report.warnings) == (1, 1)


async def test_a_check_that_hangs_or_breaks_takes_no_other_down() -> None:
    async def hang(_: HostFacts) -> list[Finding]:
        await asyncio.sleep(60)
        return []

    async def burst(_: HostFacts) -> list[Finding]:
        raise RuntimeError("what nobody thought of")

    checks = [Check("hangs", hang, limit_s=0.05), Check("bursts", burst), said("c", Level.OK)]
    report = await examine(HostFacts(settings=Settings()), checks=checks)
    assert [f.level for f in report.findings] == [Level.WARNING, Level.WARNING, Level.OK]
    assert "within 0.05 s" in report.findings[0].seen
    assert "what nobody thought of" in report.findings[1].seen


async def test_quick_leaves_out_what_is_slow_and_says_so() -> None:
    slow = said("slow", Level.ERROR)._replace(slow=True)
    report = await examine(HostFacts(settings=Settings()), quick=True, checks=[slow])
    assert (report.findings, report.left_out) == ([], ["slow"])


def test_names_of_checks_are_their_own() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)


def test_the_documentation_names_every_check() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    missing = [check.name for check in CHECKS if f"`{check.name}`" not in page]
    assert not missing, f"the table of checks in docs/troubleshooting.md lacks {missing}"


async def test_checks_of_an_empty_root_tell_and_do_not_break(tmp_path: Path) -> None:
    settings = Settings(
        docker_host=f"unix://{tmp_path}/docker.sock",
        socket_path=tmp_path / "agent.sock",
        data_dir=tmp_path / "data",
    )
    host = HostFacts(settings=settings, root=tmp_path)
    report = await examine(host, quick=True)
    await host.close()
    assert {finding.check for finding in report.findings} >= {"docker", "disk", "service", "ports"}
    assert not [finding for finding in report.findings if "could not be checked" in finding.seen]


async def test_a_shared_reading_is_made_once_and_outlives_who_gave_up() -> None:
    once, made = reading.Once(), []

    async def read() -> str:
        made.append(1)
        await asyncio.sleep(0.05)
        return "read"

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await once.of("x", read)
    assert await once.of("x", read) == "read"
    assert made == [1]
    await once.close()


async def test_programs_end_with_their_deadline() -> None:
    answer = await reading.program("sleep", "60", limit_s=0.1)
    assert (answer.code, answer.missing) == (124, False)
    assert "0.1 s" in answer.trouble
    gone = await reading.program("no-such-program-here")
    assert gone.missing
    failed = await reading.program(sys.executable, "-c", "import sys; sys.exit('a\\nb')")
    assert (failed.code, failed.trouble) == (1, "b")


async def test_files_below_proc_sys_can_be_read() -> None:
    host = HostFacts(settings=Settings())
    assert (await host.text("proc/sys/kernel/ostype")) == "Linux\n"
    assert (await host.text("no/such/file")) == ""


def test_who_listens_on_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listed = sockets.listeners(Path("/proc"), frozenset({port}))
    assert listed is not None
    assert [(found.port, found.pid) for found in listed] == [(port, os.getpid())]
    assert sockets.listeners(Path("/proc"), frozenset({port})) == []


def test_processes_are_seen_with_their_words() -> None:
    own = next(p for p in sockets.processes(Path("/proc")) if p.pid == os.getpid())
    assert list(own.words) == sys.orig_argv
    assert not own.in_container


async def test_what_a_check_could_not_read_is_told_though_it_says_that_all_is_well(
    tmp_path: Path,
) -> None:
    """Whatever a check does, it cannot take what it may not see for empty and be silent."""
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.joinpath("file").write_text("x")

    async def careless(host: HostFacts) -> list[Finding]:
        for name in ("locked", "absent", "locked"):
            assert await host.text(name) == ""
        return [Finding(check="careless", level=Level.OK, seen="all is well")]

    checks = [Check("careless", careless), said("other", Level.OK)]
    report = await examine(HostFacts(settings=Settings(), root=tmp_path), checks=checks)
    assert [(f.check, f.level.value) for f in report.findings] == [
        ("careless", "ok"),
        ("careless", "warning"),
        ("other", "ok"),
    ]
    assert f"{locked} (Is a directory)" in report.findings[1].seen
    assert "absent" not in report.findings[1].seen
