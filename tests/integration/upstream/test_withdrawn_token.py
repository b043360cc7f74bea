"""A token that is taken out of control's file while agents are connected by it, on either wire."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fleet import LONG_POLL, WIRES, Fleet, eventually

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

GONE, STAYS = "gone-" + "1" * 32, "stays-" + "2" * 32


@pytest.mark.parametrize("wire", WIRES)
def test_its_agents_are_cut_off_and_say_so_and_others_do_not_notice(
    leak_check: None, tmp_path: Path, wire: str
) -> None:
    del leak_check
    fleet = Fleet(tmp_path, wire=wire)
    file = tmp_path / "tokens"
    fleet.control.arguments += ["--token-file", str(file)]

    def hold(*tokens: str) -> None:
        file.write_text("".join(f"{token}\n" for token in tokens))
        file.chmod(0o600)

    hold(GONE, STAYS)
    gone, stays = (fleet.add_agent(**_with_token(tmp_path, wire, token)) for token in (GONE, STAYS))
    try:
        fleet.start()
        before: Any = eventually(lambda: _connected(stays.json("status")), what="connected")
        hold(STAYS)
        os.kill(fleet.control.pid, signal.SIGHUP)
        # A poll is held for half a minute, a websocket for half an hour.
        shown = eventually(lambda: _cut_off(gone.json("status")), what="cut off")
        assert "not connected" in gone.cli("status")
        assert "next try in" in gone.cli("status") or shown["controlNextTry"]
        expected = (
            "control refused the token in"
            if wire == LONG_POLL
            else "a token of control's --token-file"
        )
        assert expected in shown["controlError"]
        after: Any = stays.json("status")
        assert after["controlConnected"]
        assert after["controlSince"] == before["controlSince"]
        assert "control unavailable" not in stays.log.read_text()

        hold(GONE, STAYS)
        os.kill(fleet.control.pid, signal.SIGHUP)
        eventually(lambda: gone.json("status")["controlConnected"], within_s=40)
        for token in (GONE, STAYS):
            for process in (fleet.control, gone, stays):
                assert token not in process.log.read_text()
    finally:
        fleet.end()


def _with_token(directory: Path, wire: str, token: str) -> dict[str, str]:
    if wire != LONG_POLL:
        return {"AWS_SECRET_ACCESS_KEY": token}
    file = directory / f"{token[:5]}.token"
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    return {"ECS_CONTROL_TOKEN_FILE": str(file)}


def _connected(view: dict[str, Any]) -> dict[str, Any]:
    return view if view["controlConnected"] else {}


def _cut_off(view: dict[str, Any]) -> dict[str, Any]:
    return view if not view["controlConnected"] and "token" in view["controlError"] else {}
