from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from agent.aws.clock import AwsClock
from agent.aws.credentials import CredentialChain
from agent.aws.keys import Keys
from agent.aws.query import STS_VERSION, QueryApi
from agent.aws.signing import Signer
from agent.aws.sources import ConfiguredKeys
from agent.aws.sts import Caller, Sts, session_name
from agent.errors import AwsRefused, AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.aws.http import AwsHttp

    Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[str]]

ROLE = "arn:aws:iam::123456789012:role/app"
GIVEN = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
<Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>secret-canary</SecretAccessKey>
<SessionToken>token-canary</SessionToken><Expiration>2030-01-02T03:04:05Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>"""


class Service:
    """Gives one answer for ever."""

    def __init__(self, body: str, status: int = 200) -> None:
        self.body = body
        self.status = status
        self.asked: list[dict[str, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append(dict(urllib.parse.parse_qsl(await request.text())))
        return web.Response(status=self.status, text=self.body)


async def sts_at(http: AwsHttp, serve: Serve, service: Service) -> Sts:
    clock = AwsClock()
    chain = CredentialChain([ConfiguredKeys(Keys("AKID", "secret-of-control"))], clock)
    url = URL(await serve(service.handle))
    return Sts(QueryApi(http, chain, Signer("eu-west-1", "sts", clock), url, STS_VERSION))


async def test_a_role_is_assumed(http: AwsHttp, serve: Serve) -> None:
    service = Service(GIVEN)
    found = await (await sts_at(http, serve, service)).assume_role(ROLE, "task/1", 900.9)
    assert service.asked == [
        {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": ROLE,
            "RoleSessionName": "task-1",
            "DurationSeconds": "900",
        }
    ]
    assert found.keys == Keys("ASIA1", "secret-canary", "token-canary", 1893553445.0)
    assert found.expiration == "2030-01-02T03:04:05Z"
    assert "canary" not in repr(found)


async def test_a_refusal_is_in_the_words_of_sts(http: AwsHttp, serve: Serve) -> None:
    body = (
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: x is not authorized"
        "</Message></Error></ErrorResponse>"
    )
    with pytest.raises(AwsRefused) as caught:
        await (await sts_at(http, serve, Service(body, 403))).assume_role(ROLE, "t", 900)
    assert caught.value.code == "AccessDenied"
    assert str(caught.value) == "AssumeRole: AccessDenied: User: x is not authorized"


@pytest.mark.parametrize(
    "body",
    [
        "<AssumeRoleResponse/>",
        GIVEN.replace("2030-01-02T03:04:05Z", "soon"),
        GIVEN.replace("secret-canary", ""),
        GIVEN.replace("token-canary", "token canary"),
        "not XML canary",
    ],
    ids=["empty", "no time", "no secret", "a blank", "no XML"],
)
async def test_an_answer_that_is_none(body: str, http: AwsHttp, serve: Serve) -> None:
    with pytest.raises(AwsUnavailable) as caught:
        await (await sts_at(http, serve, Service(body))).assume_role(ROLE, "t", 900)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("arn", "caller"),
    [
        ("arn:aws:iam::123456789012:user/x", Caller("aws", "123456789012")),
        ("arn:aws-cn:sts::123456789012:assumed-role/a/b", Caller("aws-cn", "123456789012")),
        ("arn:aws:s3:::bucket", None),
        ("", None),
    ],
)
async def test_whose_keys_these_are(
    arn: str, caller: Caller | None, http: AwsHttp, serve: Serve
) -> None:
    body = f"<R><GetCallerIdentityResult><Arn>{arn}</Arn></GetCallerIdentityResult></R>"
    sts = await sts_at(http, serve, Service(body))
    if caller is None:
        with pytest.raises(AwsUnavailable, match="no account"):
            await sts.caller()
    else:
        assert await sts.caller() == caller


@given(st.text())
def test_any_text_becomes_the_name_of_a_session(text: Any) -> None:
    name = session_name(text)
    assert 2 <= len(name) <= 64
    assert all(c.isascii() and (c.isalnum() or c in "_+=,.@-") for c in name)
