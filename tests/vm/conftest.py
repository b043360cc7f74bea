"""One VM for the tests of a module, and its journal in the report of a test that fails in it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

import pytest

from tests.vm import base, debs
from tests.vm.machine import Vm, VmError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

_log = logging.getLogger("vm")


@pytest.fixture(scope="session")
def base_disk() -> Path:
    """The disk under every VM."""
    return base.ensure()


@pytest.fixture(scope="session")
def package() -> Path:
    """The .deb of this commit."""
    return debs.built()


@pytest.fixture(scope="session")
def compiled(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """What a host compiles when the package is installed, for ``one_host.compile_ahead``."""
    return debs.compiled(package, tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def host(base_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vm]:
    """A Debian host as new, shared by the tests of a module, which run in the order of the file."""
    with Vm(base_disk, tmp_path_factory.mktemp("vm"), name="host", quick=True) as machine:
        yield machine


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the services in the VM logged to the report of a test that failed in it."""
    report = yield
    machine = getattr(item, "funcargs", {}).get("host")
    if report.failed and call.when == "call" and isinstance(machine, Vm):
        with contextlib.suppress(VmError):
            journal = machine.run(
                "journalctl --no-pager --quiet --lines 40 --unit 'ecs-agent*';"
                "journalctl --no-pager --quiet --lines 10 --unit docker --grep 'level=(warn|err)';"
                "systemctl --no-pager status 'ecs-agent*' | head -n 40",
                check=False,
            )
            report.sections.append(("journal of the VM", journal.out))
        report.sections.append(("console of the VM", machine.console()))
    return report
