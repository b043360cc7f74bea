"""A container reads and sets the scale-in protection of its task, through agent and control."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from agent.controlplane import access, records
from agent.controlplane.records import TaskRecord
from agent.controlplane.store.sqlite import SqliteStore
from tests.integration.e2e.conftest import NETWORK, register, run
from tests.support.fleet import LONG_POLL, eventually, fleet

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
FAST = {"Delay": 0.2, "MaxAttempts": 300}


def ask(container: str, method: str = "GET", body: str = "", *, uri: str = "") -> tuple[int, Any]:
    """Ask from inside of a container, for its own task or by another's URI."""
    uri = uri or inside(container, 'printf %s "$ECS_AGENT_URI"')
    path = uri.removeprefix("http://169.254.170.2")
    request = (
        f"{method} {path}/task-protection/v1/state HTTP/1.0\r\nHost: 169.254.170.2\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    sent = base64.b64encode(request.encode()).decode()
    talk = f"echo {sent} | base64 -d; exec cat >&2"
    raw = inside(container, f'nc -w 20 169.254.170.2 80 -e sh -c "{talk}" 2>&1')
    head, _, answer = raw.partition("\n\n")
    return int(head.split()[1]), json.loads(answer)


def inside(container: str, command: str) -> str:
    done = subprocess.run(
        ["docker", "exec", container, "sh", "-c", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout


async def give_to_a_service(data_dir: Path, arn: str) -> None:
    """Make a task one of a service, in the store of a control that does not run."""
    store = await SqliteStore.open(data_dir / "control.db")
    try:
        key = records.task_key(*arn.split("/")[-2:])
        changed = await access.change(
            store, TaskRecord, key, lambda task: replace(task, group="service:web")
        )
        assert changed is not None
    finally:
        await store.close()


def test_a_task_protects_itself_and_no_other(tmp_path: Path, busybox_image: str) -> None:
    with fleet(tmp_path, agents=1, wire=LONG_POLL) as site:
        client = site.client()
        arns = {}
        networks: dict[str, dict[str, Any]] = {
            "bridge": {},
            "awsvpc": {"networkConfiguration": NETWORK},
        }
        for mode, more in networks.items():
            definition = register(client, busybox_image, "exec sleep 1000", mode=mode)
            (arns[mode],) = run(client, definition, **more)
        client.get_waiter("tasks_running").wait(tasks=list(arns.values()), WaiterConfig=FAST)
        shown = client.describe_tasks(tasks=list(arns.values()))["tasks"]
        of = {task["taskArn"]: task["containers"][0]["runtimeId"] for task in shown}
        bridge, awsvpc = of[arns["bridge"]], of[arns["awsvpc"]]

        alone = {
            "Arn": arns["awsvpc"],
            "Detail": "The task is not part of a service.",
            "Reason": "TASK_NOT_VALID",
        }
        assert ask(awsvpc, "PUT", '{"ProtectionEnabled":true}') == (200, {"failure": alone})

        site.control.stop()
        status, told = ask(bridge)
        assert status in (500, 504)
        assert told["error"]["Arn"] == arns["bridge"]
        asyncio.run(give_to_a_service(tmp_path / "control", arns["bridge"]))
        site.control.start()
        site.control.ready()
        site.wait_connected()

        none = {"ExpirationDate": None, "ProtectionEnabled": False, "TaskArn": arns["bridge"]}
        eventually(lambda: ask(bridge) == (200, {"protection": none}), what="control is asked")
        body = '{"ProtectionEnabled":true,"ExpiresInMinutes":5}'
        status, told = ask(bridge, "PUT", body)
        assert (status, told["protection"]["ProtectionEnabled"]) == (200, True)
        assert ask(bridge) == (200, told)
        (seen,) = client.get_task_protection(cluster="default", tasks=[arns["bridge"]])[
            "protectedTasks"
        ]
        assert seen["protectionEnabled"]
        assert (
            told["protection"]["ExpirationDate"][:19]
            == f"{seen['expirationDate']:%Y-%m-%dT%H:%M:%S}"
        )

        body = '{"ProtectionEnabled":true,"ExpiresInMinutes":2881}'
        status, told = ask(bridge, "PUT", body)
        assert (status, told["error"]["Code"]) == (400, "InvalidParameterException")
        assert told["error"]["Message"].startswith("expiresInMinutes must be between 1 and 2880")

        # The neighbour that knows its URI cannot end its protection.
        other = inside(bridge, 'printf %s "$ECS_AGENT_URI"')
        status, told = ask(awsvpc, "PUT", '{"ProtectionEnabled":false}', uri=other)
        assert (status, told["error"]["Code"]) == (404, "ResourceNotFoundException")
        assert ask(bridge)[1]["protection"]["ProtectionEnabled"]
