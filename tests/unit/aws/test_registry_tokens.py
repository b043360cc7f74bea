from __future__ import annotations

import base64
from typing import Any

import pytest

from agent.aws.registry_tokens import USUAL_LIFE_S, registry_token
from agent.errors import AwsRefused

CANARY = "canary-password:with-colon"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Api:
    def __init__(self, *told: Any) -> None:
        self.told = list(told)
        self.request: dict[str, Any] = {}

    async def call(self, operation: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert operation == "GetAuthorizationToken"
        self.request = request
        return {"authorizationData": self.told}


async def ask(api: Any, registry_id: str = "123456789012") -> Any:
    return await registry_token(api, registry_id, now=1000.0, attempts=1, limit_s=1.0)


async def test_a_token_is_a_user_name_and_a_password() -> None:
    api = Api({"authorizationToken": encoded(f"AWS:{CANARY}"), "expiresAt": 1600.5})
    token = await ask(api)
    assert (token.username, token.password, token.good_s) == ("AWS", CANARY, 600.5)
    assert "canary" not in repr(token)
    assert api.request == {"registryIds": ["123456789012"]}
    await ask(api, "")
    assert api.request == {}
    api = Api({"authorizationToken": encoded(f"AWS:{CANARY}")})
    assert (await ask(api)).good_s == USUAL_LIFE_S


@pytest.mark.parametrize(
    "told",
    [
        [],
        [{"authorizationToken": encoded("AWS:x")}] * 2,
        ["AWS:x"],
        [{}],
        [{"authorizationToken": "canary no base64"}],
        [{"authorizationToken": encoded("canary")}],
        [{"authorizationToken": encoded(":canary")}],
        [{"authorizationToken": base64.b64encode(b"canary\xff:\xff").decode()}],
    ],
)
async def test_anything_else_is_refused_and_not_shown(told: list[Any]) -> None:
    with pytest.raises(AwsRefused, match="GetAuthorizationToken: the") as caught:
        await ask(Api(*told))
    assert "canary" not in str(caught.value)
