"""Calls of our own for operators."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/control/rotate-secret-keys"


async def test_keys_are_changed(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path) as endpoint:
        async with endpoint.session.post(f"{endpoint.url}{PATH}", data=b"") as answer:
            first = await answer.json()
            assert answer.status == 200
        assert first["file"] == str(tmp_path / "secrets.keys")
        assert (first["sealed"], first["left"], first["keys"]) == (0, 0, 1)
        body = json.dumps({"forgetOld": True})
        async with endpoint.session.post(f"{endpoint.url}{PATH}", data=body) as answer:
            second = await answer.json()
        assert second["keys"] == 1
        assert second["key"] != first["key"]


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"forgetOld": 1}', b'{"forget": true}'])
async def test_what_cannot_be_read_is_refused(tmp_path: Path, body: bytes) -> None:
    async with (
        control_endpoint(tmp_path) as endpoint,
        endpoint.session.post(f"{endpoint.url}{PATH}", data=body) as answer,
    ):
        assert answer.status == 400
        assert "cannot be read" in (await answer.json())["message"]
    assert not (tmp_path / "secrets.keys").exists()


async def test_only_operators_may(tmp_path: Path) -> None:
    agents = "127.0.0.1:0"
    async with control_endpoint(
        tmp_path,
        keys_file=tmp_path / "credentials",
        token_file=tmp_path / "tokens",
        socket=tmp_path / "sock",
        agent_listen=(agents,),
    ) as endpoint:
        async with endpoint.session.post(f"{endpoint.url}{PATH}", data=b"{}") as answer:
            assert answer.status == 400
            assert "Missing Authentication Token" in (await answer.json())["message"]
        assert not (tmp_path / "secrets.keys").exists()
        connector = aiohttp.UnixConnector(str(tmp_path / "sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as owner,
            owner.post(f"http://localhost{PATH}", data=b"{}") as answer,
        ):
            assert answer.status == 200
