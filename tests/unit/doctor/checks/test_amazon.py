from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from agent.config import SecretText, Settings
from agent.doctor.checks import amazon, control
from agent.doctor.checks.amazon import Contact
from agent.doctor.findings import Finding, FindingList, Level
from agent.doctor.host import HostFacts
from tests.support.findings import levels, only

if TYPE_CHECKING:
    from pathlib import Path

EC2 = Settings(aws_region="eu-west-1")
ANYWHERE = Settings(aws_region="eu-west-1", external=True)
ANSWERED = Contact(
    region="eu-west-1",
    endpoint="https://ecs.eu-west-1.amazonaws.com",
    addresses=("192.0.2.1",),
    ahead_s=0.0,
    key="WXYZ",
)


def judged(settings: Settings, **changes: Any) -> list[Finding]:
    contact = msgspec.structs.replace(ANSWERED, **changes)
    return amazon.judge(FindingList("control"), settings, contact)


@pytest.mark.parametrize(
    ("settings", "changes", "level", "word"),
    [
        (EC2, {}, "ok", ""),
        (EC2, {"took_s": 3.0}, "warning", "network between"),
        (EC2, {"ahead_s": 60.0}, "warning", "set-ntp"),
        (EC2, {"ahead_s": -3600.0}, "warning", "set-ntp"),
        (EC2, {"ahead_s": 200_000.0}, "error", "set-ntp"),
        (EC2, {"region_trouble": "no region; set it"}, "error", "set it"),
        (EC2, {"name_trouble": "Name or service not known"}, "error", "getent hosts ecs.eu-west-1"),
        (EC2, {"name_trouble": "x", "proxy": "p:3128"}, "error", "HTTPS_PROXY"),
        (EC2, {"trouble": "no process listens"}, "error", "port 443"),
        (EC2, {"addresses": ("10.207.0.9",)}, "error", "ECS_TASK_POOL_CIDR"),
        (EC2, {"key": "", "keys_trouble": "no credentials"}, "error", "role with the policy"),
        (ANYWHERE, {"key": "", "keys_trouble": "no credentials"}, "error", "amazon-ssm-agent"),
        (EC2, {"refusal": "no", "code": "AccessDeniedException"}, "error", "permissions"),
        (EC2, {"refusal": "UnrecognizedClientException: no"}, "error", "keys and the region"),
        (ANYWHERE, {"refusal": "UnrecognizedClientException: no"}, "error", "registered this host"),
        (EC2, {"endpoint": "http://ecs.test"}, "warning", "https://"),
        (ANYWHERE, {"region_is_guess": True}, "warning", "set AWS_DEFAULT_REGION"),
    ],
)
def test_amazon_ecs(settings: Settings, changes: dict[str, Any], level: str, word: str) -> None:
    finding = only(judged(settings, **changes), Level(level))
    assert word in f"{finding.mend} {finding.command}"
    assert finding.check == "control"


def test_a_host_that_has_not_joined() -> None:
    contact = Contact(region_trouble="the region is unknown: no answer")
    finding = only(amazon.judge(FindingList("control"), Settings(), contact), Level.WARNING)
    assert "neither ECS_CONTROL_ENDPOINT nor a region" in finding.seen
    assert "join" in finding.command


def test_which_settings_speak_of_amazon_ecs() -> None:
    assert not amazon.is_meant(Settings())
    assert amazon.is_meant(EC2)
    assert amazon.is_meant(Settings(backend_host="http://x"))
    assert not amazon.is_meant(Settings(aws_region="x", control_endpoint="http://c"))


class Backend:
    """Answers as Amazon ECS does to the two calls of the check, and remembers them."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.ahead_s = 0.0
        self.refusal = ""

    async def answer(self, request: web.Request) -> web.Response:
        headers = {"Date": formatdate(time.time() + self.ahead_s, usegmt=True)}
        if request.method == "GET":
            return web.Response(status=404, headers=headers)
        self.targets.append(request.headers["X-Amz-Target"])
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKEY/")
        if self.refusal:
            body = json.dumps({"__type": self.refusal, "message": "no"})
            return web.Response(status=400, text=body, headers=headers)
        return web.json_response({"endpoint": "x"}, headers=headers)


def given(server: BaseTestServer, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "aws_region": "eu-west-1",
        "backend_host": f"http://127.0.0.1:{server.port}",
        "external": True,
        "metadata_disabled": True,
        "aws_access_key_id": SecretText("AKEY"),
        "aws_secret_access_key": SecretText("canary"),
    }
    return Settings(**{**values, **changes})


async def test_the_check_asks_as_the_agent_would(tmp_path: Path) -> None:
    backend = Backend()
    app = web.Application()
    app.router.add_route("*", "/", backend.answer)
    async with TestServer(app) as server:
        settings = given(server)
        findings = await control.check(HostFacts(settings=settings))
        assert "accepts the key ...AKEY" in only(findings, Level.OK).seen
        assert backend.targets == ["AmazonEC2ContainerServiceV20141113.DiscoverPollEndpoint"]

        backend.ahead_s = 600.0
        assert (
            "behind Amazon's"
            in only(await control.check(HostFacts(settings=settings)), Level.WARNING).seen
        )
        backend.ahead_s = 0.0

        backend.refusal = "com.amazon.coral#AccessDeniedException"
        refused = only(await control.check(HostFacts(settings=settings)), Level.ERROR)
        assert "AccessDeniedException" in refused.seen
        assert "canary" not in str(refused)

        none = given(
            server,
            aws_access_key_id=SecretText(),
            aws_secret_access_key=SecretText(),
            rotating_credentials_file=tmp_path / "none",
        )
        host = HostFacts(settings=none, environ={"HOME": str(tmp_path)})
        missing = only(await control.check(host), Level.ERROR)
        assert "no credentials to sign with" in missing.seen


async def test_a_backend_that_is_not_there() -> None:
    async with TestServer(web.Application()) as server:
        settings = given(server)
    finding = only(await control.check(HostFacts(settings=settings)), Level.ERROR)
    assert "no process listens" in finding.seen


async def test_a_region_that_nobody_knows() -> None:
    settings = Settings(metadata_disabled=True)
    finding = only(await control.check(HostFacts(settings=settings)), Level.WARNING)
    assert "has not joined" in finding.seen
    meant = Settings(metadata_disabled=True, backend_host="http://127.0.0.1:9")
    assert levels(await control.check(HostFacts(settings=meant))) == {"error"}
