"""The calls that Terraform made in a run that it was content with, made again without it.

``terraform_calls.json`` is written by ``tests/integration/e2e/test_terraform.py``, which runs Terraform itself:
apply, plan, apply of changes, destroy.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.control_endpoint import control_endpoint
from tests.support.terraform_calls import RECORDING, Player, error_code, missing, parsed

if TYPE_CHECKING:
    from pathlib import Path

LEAST_STEPS = 200


async def test_terraform_is_answered_as_when_it_was_content(tmp_path: Path) -> None:
    steps: list[dict[str, Any]] = json.loads(RECORDING.read_text())
    assert len(steps) > LEAST_STEPS
    player = Player()
    async with control_endpoint(tmp_path) as endpoint:
        await endpoint.call("CreateCluster")  # the first host creates it, and there is none here
        for number, step in enumerate(steps):
            verb, path, headers, body = player.request(step)
            async with endpoint.session.request(
                verb, f"{endpoint.url}{path}", headers=headers, data=body
            ) as answer:
                text = await answer.text()
                code = answer.headers.get("X-Amzn-ErrorType", "")
            where = f"step {number}: {step}\nis answered {answer.status} {text}"
            assert answer.status == step["status"], where
            found = parsed(text)
            player.answered(found)
            if "error" in step:
                assert (code or error_code(found)) == step["error"], where
            else:
                assert missing(step["shape"], found) == [], where
