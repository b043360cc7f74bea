"""How every API refuses a key that may not do what it asks."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest
from botocore import UNSIGNED, auth
from botocore.exceptions import ClientError

from agent.controlplane.iam import sessions
from tests.support.keyed_control import (
    TRUSTS_ACCOUNT,
    KeyedControl,
    Keys,
    allow,
)
from tests.unit.controlplane.front.one_call import ONE_CALL, SERVED, codes


async def test_each_api_refuses_in_its_own_words(
    control: KeyedControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned, foreign, badly signed, revoked, expired, old, and what no policy allows."""
    ann, revoked = await control.user("ann"), await control.user("bob", allow("*"))
    await control.call("iam", "delete_access_key", UserName="bob", AccessKeyId=revoked.id)
    arn = await control.role("all", TRUSTS_ACCOUNT, allow("*"))
    valid = await control.session(arn)
    begin = sessions.Sessions.begin

    def early(self: Any, *args: Any, **more: Any) -> Any:
        return begin(self, *args, **more | {"now": time.time() - 7200})

    with monkeypatch.context() as patch:
        patch.setattr(sessions.Sessions, "begin", early)
        expired = await control.session(arn)
    foreign = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    for service in SERVED:
        operation, members = ONE_CALL[service]
        named = codes(service)
        await control.call(service, operation, **members)
        await control.call(service, operation, valid, **members)
        for keys, code in (
            (foreign, named.unknown),
            (foreign._replace(token="x"), named.unknown),
            (revoked, named.unknown),
            (control.root._replace(secret="x" * 40), named.wrong),
            (ann._replace(secret="x" * 40), named.wrong),
            (expired, named.expired),
        ):
            found, _ = await control.refused(service, operation, keys, **members)
            assert found == code, (service, keys)
        if service != "sts":  # GetCallerIdentity needs no permission
            found, _ = await control.refused(service, operation, ann, **members)
            assert found == named.denied, service
        await _unsigned(control, service, named.missing)
        await _old(control, service, monkeypatch, named.wrong)


async def _unsigned(control: KeyedControl, service: str, wanted: str) -> None:
    operation, members = ONE_CALL[service]
    client = await asyncio.to_thread(control.client, service, None, signature_version=UNSIGNED)
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(lambda: getattr(client, operation)(**members))
    code = caught.value.response["Error"]["Code"]
    # Without a signature, a form does not say that it is one of EC2.
    assert code == ("MissingAuthenticationToken" if service == "ec2" else wanted)


async def _old(
    control: KeyedControl, service: str, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    operation, members = ONE_CALL[service]
    now = auth.get_current_datetime
    with monkeypatch.context() as patch:
        patch.setattr(
            auth, "get_current_datetime", lambda *a, **k: now(*a, **k) - timedelta(hours=1)
        )
        code, text = await control.refused(service, operation, **members)
    assert code == ("RequestExpired" if service == "ec2" else wanted)
    assert "Signature expired" in text
