"""Which login counts for an image, and what is told of one that cannot be had."""

# ruff: noqa: S105 - canaries, and no passwords
from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from agent.config.values import SecretText
from agent.errors import AwsRefused, CredentialsAwaited, PayloadError
from agent.images import logins, reference
from agent.images.auth import Credentials
from agent.images.logins import ExecutionRole, RegistryLogins
from agent.model.payload import Container
from agent.model.payload import Credentials as RoleKeys
from agent.runtime.protocol import RegistryAuth

SECRET = "arn:aws:secretsmanager:eu-west-1:1:secret:login-AbCdEf"
ECR = "123456789012.dkr.ecr.eu-west-2.amazonaws.com"
STATIC = Credentials(
    "docker",
    SecretText(f'{{"{ECR}": {{"username": "own", "password": "canary-own"}}}}'),
)


class Token(NamedTuple):
    username: str = "AWS"
    password: str = "canary-token"
    good_s: float = 3600.0


class Services:
    def __init__(self) -> None:
        self.text: str | None = '{"username": "user", "password": "canary-secret"}'
        self.failure: Exception | None = None
        self.asked: list[tuple[Any, ...]] = []

    async def secret(self, role: Any, region: str, secret_id: str, **_: Any) -> str | None:
        await self._called(role, "secret", region, secret_id)
        return self.text

    async def registry_token(
        self, role: Any, region: str, registry_id: str, *, endpoint: str = ""
    ) -> Token:
        await self._called(role, "token", region, registry_id, endpoint)
        return Token()

    async def _called(self, role: Any, *call: str) -> None:
        whose = (await role(None)).credentials_id if role else "host"
        self.asked.append((*call, whose))
        if self.failure is not None:
            raise self.failure


async def _ask(_other: RoleKeys | None) -> RoleKeys:
    return RoleKeys(credentials_id="e")


async def _none(_other: RoleKeys | None) -> RoleKeys:
    raise PayloadError("unable to find execution role credentials")


ROLE = ExecutionRole("arn:role", _ask)


def asm(secret: str = SECRET, **data: str) -> dict[str, Any]:
    return {"type": "asm", "asmAuthData": {"credentialsParameter": secret, **data}}


def ecr(**data: Any) -> dict[str, Any]:
    given = {"region": "eu-west-2", "registryId": "123456789012", **data}
    return {"type": "ecr", "ecrAuthData": given}


class Scene:
    def __init__(self) -> None:
        self.services = Services()
        self.logins = RegistryLogins(STATIC, self.services)

    def find(
        self, asked: dict[str, Any] | None, role: ExecutionRole | None = ROLE, image: str = "app"
    ) -> logins.Login:
        given = Container(name="a", image=image, registry_authentication=asked)
        logins.check(given)
        return self.logins.find(given, reference.parse(image), role)

    async def auth(self, *args: Any, **kwargs: Any) -> RegistryAuth | None:
        return await self.find(*args, **kwargs).auth()

    async def reason(self, *args: Any, **kwargs: Any) -> tuple[str, str]:
        with pytest.raises(PayloadError) as caught:
            await self.auth(*args, **kwargs)
        assert "canary" not in str(caught.value)
        return caught.value.name, str(caught.value)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_without_a_word_the_hosts_own_count(scene: Scene) -> None:
    assert await scene.auth(None) is None
    own = await scene.auth(None, image=f"{ECR}/app")
    assert own == RegistryAuth(username="own", password="canary-own")
    assert scene.services.asked == []
    assert scene.find(None).key == ""


async def test_a_secret_has_user_name_and_password(scene: Scene) -> None:
    login = scene.find(asm(region="r-1"))
    assert await login.auth() == RegistryAuth(username="user", password="canary-secret")
    await login.auth()
    # The region of an ARN counts, and a pull asks once.
    assert scene.services.asked == [("secret", "eu-west-1", SECRET, "e")]
    await scene.auth(asm("login", region="r-1"))
    assert scene.services.asked[-1] == ("secret", "r-1", "login", "e")


async def test_a_secret_may_be_kept_by_control(scene: Scene) -> None:
    asked = []

    async def control(task_arn: str, names: list[str]) -> dict[str, str]:
        asked.append((task_arn, names))
        return {} if names == ["gone"] else {names[0]: str(scene.services.text)}

    scene.logins = RegistryLogins(STATIC, scene.services, control)
    role = ExecutionRole("", _none, "arn:task/1")
    kept = scene.find(asm(endpoint="control"), role)
    assert await kept.auth() == RegistryAuth(username="user", password="canary-secret")
    assert (asked, scene.services.asked) == ([("arn:task/1", [SECRET])], [])
    assert kept.key != scene.find(asm(), role).key
    assert "empty secrets value" in (await scene.reason(asm("gone", endpoint="control"), role))[1]


async def test_a_token_is_the_execution_roles_or_the_hosts(scene: Scene) -> None:
    assert await scene.auth(ecr(useExecutionRole=True)) == RegistryAuth(
        username="AWS", password="canary-token"
    )
    await scene.auth(ecr(useExecutionRole=True))
    await scene.auth(ecr(endpointOverride="vpce"), role=None)
    assert scene.services.asked == [
        ("token", "eu-west-2", "123456789012", "", "e"),
        ("token", "eu-west-2", "123456789012", "vpce", "host"),
    ]


async def test_tokens_are_shared_by_role_and_registry(scene: Scene) -> None:
    asked = [
        (ecr(useExecutionRole=True), ROLE),
        (ecr(useExecutionRole=True), ExecutionRole("arn:other", _ask)),
        (ecr(useExecutionRole=True, region="r-1"), ROLE),
        (ecr(useExecutionRole=True, registryId="2"), ROLE),
        (ecr(), ROLE),
    ]
    for _ in range(2):
        for data, role in asked:
            await scene.auth(data, role)
    assert len(scene.services.asked) == len(asked)
    keys = {scene.find(data, role).key for data, role in asked}
    assert len(keys) == len(asked)


async def test_a_refused_token_is_not_used_again(scene: Scene) -> None:
    login = scene.find(ecr())
    login.refused()
    await login.auth()
    login.refused()
    await login.auth()
    assert len(scene.services.asked) == 2


async def test_a_host_with_a_login_of_its_own_needs_no_keys(scene: Scene) -> None:
    own = await scene.auth(ecr(), image=f"{ECR}/app")
    assert own == RegistryAuth(username="own", password="canary-own")
    assert scene.services.asked == []
    token = await scene.auth(ecr(useExecutionRole=True), image=f"{ECR}/app")
    assert token == RegistryAuth(username="AWS", password="canary-token")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "empty secrets value"),
        ("", "empty secrets value"),
        ("canary", "unable to unmarshal secret value"),
        ('["canary"]', "unable to unmarshal secret value"),
        ('{"username": "u"}', "asm fetching password: AuthorizationData is malformed"),
        ('{"password": "canary"}', "asm fetching username: AuthorizationData is malformed"),
        ('{"username": "u", "password": ""}', "asm fetching password"),
        ('{"username": ["canary"], "password": "canary"}', "asm fetching username"),
    ],
)
async def test_a_secret_that_is_no_login(scene: Scene, text: str | None, told: str) -> None:
    scene.services.text = text
    name, reason = await scene.reason(asm())
    assert name == "CannotPullContainerAuthError"
    assert reason.startswith(f"asm fetching secret from the service for {SECRET}: ")
    assert told in reason


async def test_what_is_refused_has_the_words_of_ecs(scene: Scene) -> None:
    none, no_role = ExecutionRole("", _none), "unable to find execution role credentials"
    assert await scene.reason(asm(), none) == (
        "CannotPullContainerAuthError",
        f"asm fetching secret from the service for {SECRET}: {no_role}",
    )
    assert await scene.reason(ecr(useExecutionRole=True), none) == (
        "CannotPullECRContainerError",
        f"engine ecr credentials: not found: {no_role}",
    )
    for nobody in (asm(), ecr(useExecutionRole=True)):
        assert "execution role" in (await scene.reason(nobody, None))[1]
    scene.services.failure = AwsRefused("GetX: AccessDeniedException: no", code="A")
    assert (await scene.reason(asm()))[1].endswith("GetX: AccessDeniedException: no")
    assert await scene.reason(ecr()) == (
        "CannotPullECRContainerError",
        "GetX: AccessDeniedException: no",
    )
    scene.services.failure = CredentialsAwaited("later")
    for asked in (asm(), ecr(useExecutionRole=True)):
        with pytest.raises(CredentialsAwaited):
            await scene.auth(asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"type": "vault"}, "type 'vault' is not known"),
        ({"asmAuthData": {}}, "type None is not known"),
        ({"type": "asm"}, "names no secret"),
        ({"type": "asm", "asmAuthData": {"credentialsParameter": ""}}, "names no secret"),
        ({"type": "ecr", "ecrAuthData": ["x"]}, "type 'ecr' is not known"),
    ],
)
def test_what_cannot_be_fetched_is_refused_at_once(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        logins.check(Container(name="a", image="app", registry_authentication=asked))


async def test_without_services_an_order_is_refused() -> None:
    given = Container(name="a", image="app", registry_authentication=asm())
    with pytest.raises(PayloadError, match="cannot be fetched by this agent"):
        RegistryLogins(Credentials()).find(given, reference.parse("app"), ROLE)
