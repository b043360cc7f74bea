"""``ecs-agent control pki`` against a control endpoint of its own, through its socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from agent.cli import app
from agent.model import tokens
from agent.upstream.certificates import key_pair
from tests.support import certificates
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.control_endpoint import Endpoint

TOKEN, OF_HOST = "t" * 32, "h" * 32


class Desk:
    def __init__(
        self, data_dir: Path, endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.data_dir, self.endpoint = data_dir, endpoint
        self._capsys = capsys

    async def run(self, *words: str) -> tuple[int, str, str]:
        arguments = ["control", "pki", *words, "--data-dir", str(self.data_dir)]
        self._capsys.readouterr()
        code = await asyncio.to_thread(app.main, arguments)
        told = self._capsys.readouterr()
        out = [line for line in told.out.splitlines(keepends=True) if not line.startswith("20")]
        return code, "".join(out), told.err

    async def host(self) -> str:
        """Have a host get an identity; return its id."""
        body = {"request": key_pair.make().request, "hostname": "web-1"}
        headers = {"Authorization": f"Bearer {TOKEN}"}
        url = self.endpoint.url.replace("http:", "https:")
        async with self.endpoint.session.post(
            f"{url}/v1/identities", json=body, headers=headers, ssl=False
        ) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["id"])


@pytest.fixture
async def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    file = tmp_path / "d" / "agent.tokens"
    file.parent.mkdir(mode=0o700)
    file.write_text(f"{OF_HOST} web-2\n{TOKEN}\n")
    file.chmod(0o600)
    async with control_endpoint(
        tmp_path / "d",
        socket=tmp_path / "s",
        keys_file=tmp_path / "k",
        token_file=file,
        tls_own=True,
    ) as endpoint:
        yield Desk(tmp_path / "d", endpoint, capsys)


async def test_from_the_authority_to_a_revoked_host(desk: Desk) -> None:
    code, out, _ = await desk.run("show")
    assert code == 0
    assert "0 with a certificate" in out
    view = json.loads((await desk.run("show", "--json"))[1])
    assert view["fingerprint"] in out
    host_id = await desk.host()
    assert "1 with a certificate" in (await desk.run("show"))[1]
    code, out, _ = await desk.run("list")
    assert (code, host_id in out, "web-1" in out, "valid" in out) == (0, True, True, True)
    code, out, _ = await desk.run("revoke", host_id, "--reason", "was stolen")
    assert (code, out) == (0, f"revoked {host_id}\n")
    (told,) = json.loads((await desk.run("list", "--json"))[1])
    assert told["revokedBecause"] == "was stolen"
    assert "revoked: was stolen" in (await desk.run("list"))[1]
    code, _, err = await desk.run("revoke", "nobody")
    assert (code, "no host has the identity" in err) == (1, True)


async def test_certificates_are_renewed(desk: Desk) -> None:
    first = json.loads((await desk.run("show", "--json"))[1])
    second = json.loads((await desk.run("renew", "--json"))[1])
    assert first["fingerprint"] == second["fingerprint"]
    assert first["serverSerial"] != second["serverSerial"]
    third = json.loads((await desk.run("renew", "--authority", "--json"))[1])
    assert second["fingerprint"] != third["fingerprint"]


async def test_an_authority_of_ones_own(desk: Desk, tmp_path: Path) -> None:
    made = certificates.make(tmp_path / "ours")
    key = tmp_path / "ours" / "ca.key"
    code, out, _ = await desk.run("use", "--certificate", str(made.ca), "--key", str(key), "--json")
    assert (code, json.loads(out)["name"]) == (0, "CN=test authority")
    await desk.host()
    code, _, err = await desk.run(
        "use", "--certificate", str(made.certificate), "--key", str(made.key)
    )
    assert (code, "not the certificate of an authority" in err) == (1, True)
    assert json.loads((await desk.run("show", "--json"))[1])["name"] == "CN=test authority"


async def test_a_token_to_join_with(desk: Desk) -> None:
    view = json.loads((await desk.run("show", "--json"))[1])
    code, out, _ = await desk.run("join-token")
    assert (code, tokens.split(out.strip())) == (0, (TOKEN, view["fingerprint"]))
    code, out, _ = await desk.run("join-token", "--host", "web-2")
    assert tokens.split(out.strip())[0] == OF_HOST
    code, _, err = await desk.run("join-token", "--host", "web-3")
    assert (code, "no token of the host web-3" in err) == (1, True)


async def test_without_tls_there_is_nothing_to_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with control_endpoint(tmp_path / "d", socket=tmp_path / "s") as endpoint:
        code, _, err = await Desk(tmp_path / "d", endpoint, capsys).run("show")
    assert (code, "start it with --tls" in err) == (1, True)
