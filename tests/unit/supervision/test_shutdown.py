"""What systemd says about the host, by a command that stands for ``systemctl``."""

from __future__ import annotations

import pytest

from agent.supervision import shutdown


@pytest.mark.parametrize(
    ("command", "goes_down"),
    [
        ("echo stopping; exit 1", True),
        ("echo running", False),
        ("echo degraded; exit 1", False),
        ("exit 1", False),
        ("exec sleep 60", False),
    ],
)
async def test_only_a_host_that_stops_goes_down(
    monkeypatch: pytest.MonkeyPatch, command: str, goes_down: bool
) -> None:
    monkeypatch.setattr(shutdown, "COMMAND", ("sh", "-c", command))
    monkeypatch.setattr(shutdown, "LIMIT_S", 0.5 if "sleep" in command else 20.0)
    assert await shutdown.is_going_down() is goes_down


async def test_a_host_without_systemd_never_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "COMMAND", ("/nowhere/systemctl",))
    assert not await shutdown.is_going_down()
