"""Changes of policies and keys count at once, outlive a restart, and hold for calls of our own too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.keyed_control import (
    ACCOUNT,
    REGION,
    KeyedControl,
    Keys,
    allow,
)

if TYPE_CHECKING:
    from pathlib import Path


async def test_policies_and_keys_count_from_the_moment_of_the_answer(control: KeyedControl) -> None:
    keys = await control.user("ann")
    for _ in range(3):
        assert (await control.refused("ecs", "list_clusters", keys))[0] == "AccessDeniedException"
        await control.allow("ann", allow("ecs:ListClusters"))
        await control.call("ecs", "list_clusters", keys)
        await control.call("iam", "delete_user_policy", UserName="ann", PolicyName="test")
    await control.allow("ann", allow("*"))
    key = {"UserName": "ann", "AccessKeyId": keys.id}
    for status, may in (("Inactive", False), ("Active", True)):
        await control.call("iam", "update_access_key", Status=status, **key)
        if may:
            await control.call("ecs", "list_clusters", keys)
        else:
            code, _ = await control.refused("ecs", "list_clusters", keys)
            assert code == "UnrecognizedClientException"
    made = (await control.call("iam", "create_access_key", keys))["AccessKey"]
    new = Keys(made["AccessKeyId"], made["SecretAccessKey"])
    await control.call("iam", "delete_access_key", new, AccessKeyId=keys.id)
    assert (await control.refused("ecs", "list_clusters", keys))[0] == "UnrecognizedClientException"
    who = await control.call("sts", "get_caller_identity", new)
    assert who["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/ann"
    assert who["UserId"].startswith("AIDA")


async def test_users_outlive_a_restart_and_a_change_of_the_secret_keys(tmp_path: Path) -> None:
    async with KeyedControl.running(tmp_path) as control:
        keys = await control.user("ann", allow("ecs:ListClusters"))
        secret = keys.secret.encode()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    async with KeyedControl.running(tmp_path, socket=tmp_path / "s") as control:
        await control.call("ecs", "list_clusters", keys)
        await _rotate_secret_keys(control)
        await control.call("ecs", "list_clusters", keys)
    async with KeyedControl.running(tmp_path) as control:
        await control.call("ecs", "list_clusters", keys)


async def _rotate_secret_keys(control: KeyedControl) -> None:
    import aiohttp  # noqa: PLC0415 - for this one call

    connector = aiohttp.UnixConnector(str(control.directory / "s"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post("http://x/control/rotate-secret-keys", json={"forgetOld": True}) as answer,
    ):
        body = await answer.json()
        assert (answer.status, body["left"], body["keys"]) == (200, 0, 1)
        assert body["sealed"] >= 1


async def test_calls_of_our_own_need_permissions_too(control: KeyedControl) -> None:
    from botocore.auth import SigV4Auth  # noqa: PLC0415 - for this test alone
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    keys = await control.user("ann", allow("ecs:*"))

    async def status(path: str, body: bytes = b"{}") -> int:
        request = AWSRequest("POST", control.endpoint.url + path, data=body)
        SigV4Auth(Credentials(keys.id, keys.secret), "ecs", REGION).add_auth(request)
        async with control.endpoint.session.post(
            request.url, data=body, headers=dict(request.headers.items())
        ) as answer:
            return answer.status

    own = ("/control/usage", "/control/events", "/control/changes", "/control/rotate-secret-keys")
    for path in own:
        assert await status(path) == 400, path
    await control.allow("ann", allow("control:GetUsage"))
    assert await status("/control/usage") in (200, 404)
    assert await status("/control/rotate-secret-keys") == 400
    shop = f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/shop"
    await control.allow("ann", allow("control:*", Resource=shop))
    for path, may in (("/control/usage", 404), ("/control/changes", 200)):
        assert await status(path, b'{"cluster": "shop"}') == may, path
        assert await status(path, b'{"cluster": "mail"}') == 400, path
        assert await status(path, b'{"cluster": "shop*"}') == 400, path
    assert await status("/control/changes") == 400
    assert await status("/control/rotate-secret-keys") == 400
