from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.controlplane.names import Names
from agent.controlplane.secrets import parameters, stored
from agent.controlplane.secrets.task_values import exists, kept_names, value

if TYPE_CHECKING:
    from agent.controlplane.secrets.keeper import SecretKeeper

NAMES = Names()
SSM = "arn:aws:ssm:us-east-1:000000000000:parameter/"


@pytest.fixture
async def filled(keeper: SecretKeeper) -> SecretKeeper:
    for name in ("plain", "/app/db", "/app"):
        await parameters.put(keeper, name, f"v{name}", kind="String", overwrite=False, now=1.0)
    await stored.create(keeper, NAMES, "app/login", value="first", now=1.0)
    await stored.put_value(keeper, "app/login", '{"user": "u", "n": 1e3, "o": {"a": 1}}', now=2.0)
    await stored.create(keeper, NAMES, "raw", value="AAEC", is_binary=True, now=1.0)
    return keeper


@pytest.mark.parametrize(
    ("value_from", "found"),
    [
        ("plain", "vplain"),
        ("plain:1", "vplain"),
        ("plain:2", None),
        ("/app/db", "v/app/db"),
        (f"{SSM}plain", "vplain"),
        (f"{SSM}app/db", "v/app/db"),
        (f"{SSM}app", "v/app"),
        (f"{SSM}other", None),
        ("other", None),
        ("arn:aws:s3:::bucket/key", None),
    ],
)
async def test_parameters(filled: SecretKeeper, value_from: str, found: str | None) -> None:
    assert await value(filled, value_from) == found
    assert await exists(filled, value_from) is (found is not None)


@pytest.mark.parametrize(
    ("suffix", "found"),
    [
        ("", '{"user": "u", "n": 1e3, "o": {"a": 1}}'),
        (":user::", "u"),
        (":n::", "1e3"),
        (":o::", '{"a": 1}'),
        (":other::", None),
        ("::AWSCURRENT:", '{"user": "u", "n": 1e3, "o": {"a": 1}}'),
        ("::AWSPREVIOUS:", "first"),
        (":user:AWSPREVIOUS:", None),
        ("::AWSPENDING:", None),
    ],
)
async def test_secrets(filled: SecretKeeper, suffix: str, found: str | None) -> None:
    arn = (await stored.find(filled, "app/login")).arn
    assert await value(filled, f"{arn}{suffix}") == found
    # Without the six characters at its end, as Secrets Manager takes it too.
    assert await value(filled, f"{arn[:-7]}{suffix}") == found


async def test_a_version_by_its_id(filled: SecretKeeper) -> None:
    secret = await stored.find(filled, "app/login")
    old = next(v for v in secret.versions if "AWSPREVIOUS" in v.stages)
    assert await value(filled, f"{secret.arn}:::{old.id}") == "first"
    assert await value(filled, f"{secret.arn}::AWSCURRENT:{old.id}") is None


async def test_a_name_may_be_that_of_a_secret(filled: SecretKeeper) -> None:
    assert await value(filled, "app/login") is not None
    assert await kept_names(filled, ["plain", "app/login", "other"]) == {"plain", "app/login"}


async def test_what_no_container_can_be_given(filled: SecretKeeper) -> None:
    assert await value(filled, (await stored.find(filled, "raw")).arn) is None
    arn = (await stored.find(filled, "app/login")).arn
    await stored.delete(filled, "app/login", window_days=7, now=3.0)
    assert await value(filled, arn) is None
