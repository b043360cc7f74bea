"""The caller's identity as AWS's SDK sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.aws_client import AwsClient
from tests.support.control_endpoint import control_endpoint

if TYPE_CHECKING:
    from pathlib import Path


async def test_who_calls(tmp_path: Path) -> None:
    async with control_endpoint(tmp_path, account="123456789012") as endpoint:
        sts = await AwsClient.of(endpoint, "sts", unlisted=frozenset({"UnsupportedOperation"}))
        try:
            assert await sts.call("get_caller_identity") == {
                "UserId": "123456789012",
                "Account": "123456789012",
                "Arn": "arn:aws:iam::123456789012:root",
            }
            code, text = await sts.refused("get_session_token")
            assert code == "UnsupportedOperation"
            assert "AssumeRole" in text
        finally:
            sts.close()
