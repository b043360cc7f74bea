"""The agent and the control endpoint as a service manager sees them."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import Control, Fleet, eventually, free_port
from tests.support.service_manager import ServiceManager, service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WATCHDOG_S = 1.5


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with service_manager(tmp_path) as made:
        yield made


@pytest.fixture
def quiet_fleet(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose processes a test starts by itself."""
    del leak_check
    made = Fleet(tmp_path, extra={"ECS_WARM_SANDBOXES": "0"})
    yield made
    made.end()


def test_up_fed_and_down(quiet_fleet: Fleet, manager: ServiceManager) -> None:
    agent = quiet_fleet.add_agent(**manager.variables(watchdog_s=WATCHDOG_S))
    agent.start()
    manager.wait_for("READY=1")
    eventually(lambda: "control:" in manager.status, what="control is away")

    quiet_fleet.control.start()
    quiet_fleet.control.ready()
    quiet_fleet.wait_connected()
    eventually(lambda: manager.status == "0 tasks running; control connected", what=manager.status)

    # Fed about three times per limit, and not at all while the process stands still.
    manager.forget()
    time.sleep(2 * WATCHDOG_S)
    assert 3 <= manager.messages().count("WATCHDOG=1") <= 8
    os.kill(agent.pid, signal.SIGSTOP)
    time.sleep(0.2)
    manager.forget()
    time.sleep(WATCHDOG_S)
    assert manager.messages() == []
    os.kill(agent.pid, signal.SIGCONT)
    eventually(lambda: "WATCHDOG=1" in manager.messages(), what="fed again")

    manager.forget()
    assert agent.stop() == 0
    assert manager.states() == ["STOPPING=1"]


def test_an_engine_that_is_away_does_not_hold_up_the_start(
    quiet_fleet: Fleet, manager: ServiceManager, tmp_path: Path
) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    agent = quiet_fleet.add_agent(DOCKER_HOST=nowhere, **manager.variables(watchdog_s=WATCHDOG_S))
    agent.start()
    manager.wait_for("READY=1")
    assert manager.status.startswith("waiting for the container engine")
    assert nowhere in manager.status
    manager.forget()
    time.sleep(WATCHDOG_S)
    assert "WATCHDOG=1" in manager.messages(), "waiting is not hanging"

    # What the watchdog's SIGABRT leaves in the journal.
    os.kill(agent.pid, signal.SIGABRT)
    assert agent.popen is not None
    assert agent.popen.wait(10) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in agent.tail()
    assert "Current thread" in agent.tail(200)


def test_bad_settings_are_told_as_the_status(quiet_fleet: Fleet, manager: ServiceManager) -> None:
    agent = quiet_fleet.add_agent(ECS_WARM_SANDBOXES="many", **manager.variables())
    agent.start()
    assert agent.popen is not None
    assert agent.popen.wait(20) == 5
    assert "ECS_WARM_SANDBOXES" in manager.status
    assert manager.states() == []
    assert len(agent.tail().splitlines()) == 1


def test_the_control_endpoint_says_when_it_listens(manager: ServiceManager, tmp_path: Path) -> None:
    port = free_port()
    control = Control(
        name="control",
        arguments=[
            "control",
            "--open",
            "--listen",
            f"127.0.0.1:{port}",
            "--data-dir",
            str(tmp_path / "d"),
        ],
        directory=tmp_path,
        environment=manager.variables(),
        port=port,
    )
    control.start()
    try:
        manager.wait_for("READY=1")
        assert str(port) in manager.status
        control.ready()
    finally:
        assert control.stop() == 0
    assert manager.states() == ["READY=1", "STOPPING=1"]
