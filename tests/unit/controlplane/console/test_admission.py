"""Who may make which calls from a page: keys, pages from elsewhere, and readers without a key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from agent.controlplane.console import admission
from agent.controlplane.console.admission import Console
from tests.support.console_fleet import KEY_ID, SECRET, a_shop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.console_fleet import Shop

ECS = "AmazonEC2ContainerServiceV20141113"


class Caller:
    """Makes calls as a page would, or as one from elsewhere."""

    def __init__(self, shop: Shop, session: Any) -> None:
        self.shop = shop
        self.session = session

    async def post(
        self,
        operation: str = "ListClusters",
        *,
        signed: bool = False,
        path: str = "/",
        body: str = "{}",
        **headers: str | None,
    ) -> tuple[int, str]:
        """Return status and text; a header that is None is left out."""
        all_headers: dict[str, str | None] = {
            "Content-Type": "application/x-amz-json-1.1",
            "Origin": self.shop.url,
        }
        if path == "/":
            all_headers["X-Amz-Target"] = operation if "." in operation else f"{ECS}.{operation}"
        all_headers |= {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {name: value for name, value in all_headers.items() if value is not None}
        url = self.shop.url + path
        if signed:
            request = AWSRequest("POST", url, headers=sent, data=body.encode())
            SigV4Auth(Credentials(KEY_ID, SECRET), "ecs", "us-east-1").add_auth(request)
            sent = dict(request.headers.items())
        async with self.session.post(url, data=body, headers=sent) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Caller]:
    async with (
        a_shop(tmp_path / "c", console=Console.KEYS) as shop,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(shop, session)


@pytest.fixture
async def readable(tmp_path: Path) -> AsyncIterator[Caller]:
    async with (
        a_shop(tmp_path / "c", console=Console.READ_ONLY) as shop,
        aiohttp.ClientSession() as session,
    ):
        yield Caller(shop, session)


async def test_its_own_page_reads_with_a_key_and_not_without(keyed: Caller) -> None:
    status, text = await keyed.post(signed=True)
    assert status == 200
    assert json.loads(text)["clusterArns"][0].endswith("cluster/default")
    status, text = await keyed.post()
    assert status == 400
    assert "MissingAuthenticationToken" in text
    status, text = await keyed.post(path="/control/usage")
    assert status == 400
    assert "Missing Authentication Token" in text


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
async def test_pages_from_elsewhere_do_nothing_even_with_a_key(
    keyed: Caller, headers: dict[str, Any]
) -> None:
    assert await keyed.post(signed=True, **headers) == (403, "not for web pages\n")


@pytest.mark.parametrize(
    "operation",
    [
        "CreateCluster",
        "StopTask",
        "RunTask",
        "Logs_20140328.PutLogEvents",
        "AmazonSSM.GetParameter",
    ],
)
async def test_its_own_page_changes_nothing_even_with_a_key(keyed: Caller, operation: str) -> None:
    assert await keyed.post(operation, signed=True) == (403, "not for web pages\n")


async def test_only_its_own_page_begins_a_terminal_and_only_with_a_key(keyed: Caller) -> None:
    body = '{"task": "0123456789abcdef0123456789abcdef", "command": "sh", "interactive": true}'
    status, text = await keyed.post("ExecuteCommand", signed=True, body=body)
    assert (status, "The referenced task was not found" in text) == (400, True)
    assert await keyed.post("ExecuteCommand", body=body) == (403, "not for web pages\n")
    foreign = await keyed.post(
        "ExecuteCommand", signed=True, body=body, Origin="http://evil.example"
    )
    assert foreign == (403, "not for web pages\n")


async def test_nobody_begins_a_terminal_without_a_key(readable: Caller) -> None:
    body = '{"task": "0123456789abcdef0123456789abcdef", "command": "sh", "interactive": true}'
    assert await readable.post("ExecuteCommand", body=body) == (403, "not for web pages\n")
    status, text = await readable.post("ExecuteCommand", body=body, Origin=None)
    assert (status, "MissingAuthenticationToken" in text) == (400, True)


async def test_only_its_own_page_opens_a_session(keyed: Caller) -> None:
    """Which token it has is asked afterwards."""
    place = f"{keyed.shop.url}/execute-command/ecs-execute-command-0"
    async with keyed.session.ws_connect(place, headers={"Origin": keyed.shop.url}) as socket:
        await socket.send_str('{"TokenValue": "x"}')
        assert (await socket.receive()).data == 1008
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await keyed.session.ws_connect(place, headers={"Origin": "http://evil.example"})
    assert refused.value.status == 403


async def test_tools_change_as_before(keyed: Caller) -> None:
    status, _ = await keyed.post(
        "CreateCluster", signed=True, Origin=None, body='{"clusterName": "another"}'
    )
    assert status == 200
    for path in ("/control/rotate-secret-keys", "/control/events"):
        assert await keyed.post(path=path, signed=True) == (403, "not for web pages\n")


async def test_whoever_reads_without_a_key_reads_and_nothing_else(readable: Caller) -> None:
    each: tuple[dict[str, Any], ...] = ({}, {"Origin": None})
    for headers in each:
        assert (await readable.post(**headers))[0] == 200
        status, text = await readable.post(path="/control/usage", **headers)
        assert (status, json.loads(text)["hosts"]) == (200, [])
    status, text = await readable.post("CreateCluster", Origin=None)
    assert (status, "MissingAuthenticationToken" in text) == (400, True)
    status, text = await readable.post("AmazonSSM.GetParameter", Origin=None, body='{"Name": "x"}')
    assert (status, "MissingAuthenticationToken" in text) == (400, True)
    # A bad signature is not taken for none.
    status, text = await readable.post(Authorization="AWS4-HMAC-SHA256 nonsense", Origin=None)
    assert (status, "IncompleteSignature" in text) == (400, True)


async def test_a_read_cannot_be_taken_for_another_call(readable: Caller) -> None:
    """Whatever else than the target could name an operation makes a call need a key."""
    each: tuple[dict[str, Any], ...] = (
        {"Smithy_Protocol": "rpc-v2-cbor"},
        {"Content_Type": "application/x-www-form-urlencoded"},
        {"Content_Type": "application/cbor"},
    )
    for headers in each:
        status, _ = await readable.post(Origin=None, **headers)
        assert status >= 400, headers
    status, _ = await readable.post(path="/?Action=StopTask", Origin=None)
    assert status >= 400
    status, _ = await readable.post(path="/service/x/operation/StopTask", Origin=None)
    assert status >= 400


async def test_without_keys_a_name_of_somebody_else_leads_nowhere(readable: Caller) -> None:
    """A page can have its own name lead to control, and is then of the same origin (DNS rebinding)."""
    rebound: dict[str, Any] = {"Host": "evil.example:6820", "Origin": "http://evil.example:6820"}
    assert await readable.post(**rebound) == (403, "not for web pages\n")
    status, text = await readable.post(Host="evil.example:6820", Origin=None)
    assert (status, "MissingAuthenticationToken" in text) == (400, True)


def test_the_calls_of_the_page_only_read() -> None:
    words = {target.partition(".")[2] for target in admission.READS}
    assert all(word.startswith(("Describe", "Get", "List")) for word in words)
    assert not any("Secret" in word or "Parameter" in word for word in words)
