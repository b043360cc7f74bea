"""One task from start to end, as an operator runs it: ``make demo``.

Builds two images, starts ``ecs-agent standalone``, registers a task definition, runs it in awsvpc
mode, shows every state with its time, fetches a page from the task's own address, prints its live
metrics, stops it, and proves that nothing is left. If anything fails, it prints the reason and the
end of the log, and exits with 1. Needs root and a Docker Engine (``scripts/with-engine`` finds or
starts one).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import boto3
import demo_host
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from demo_board import Board
from demo_host import DemoFailed, Standalone

if TYPE_CHECKING:
    from types import FrameType

    from demo_board import States

FAMILY = "demo"
LAUNCH_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
FIGURES_LIMIT_S = 20.0
LOOK_EVERY_S = 0.05
PAGES = 20
KIB = 1024
MIB = 1024 * KIB
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

DEFINITION: dict[str, Any] = {
    "family": FAMILY,
    "networkMode": "awsvpc",
    "containerDefinitions": [
        {
            "name": "web",
            "image": demo_host.WEB_IMAGE,
            "cpu": 64,
            "memory": 32,
            "essential": True,
            "portMappings": [{"containerPort": 80, "protocol": "tcp"}],
        },
        {
            "name": "sidecar",
            "image": demo_host.SIDECAR_IMAGE,
            "cpu": 64,
            "memory": 32,
            "essential": False,
            "dependsOn": [{"containerName": "web", "condition": "START"}],
        },
    ],
}


class Interrupted(BaseException):
    """A signal asked the demo to end."""


def _interrupt(received: int, _frame: FrameType | None) -> None:
    """End the demo once; the clean-up that follows is bounded and must not be interrupted."""
    for number in LEAVING:
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted(received)


def main() -> int:
    """Run the demo and return its exit code."""
    for number in LEAVING:
        signal.signal(number, _interrupt)
    if os.geteuid() != 0:
        print("demo: needs root, because it creates networks and namespaces; use sudo")
        return 1
    board = Board()
    standalone = Standalone()
    try:
        _play(board, standalone)
    except (DemoFailed, ClientError, BotoCoreError, OSError) as error:
        board.bad(str(error))
        board.title("The end of the log of ecs-agent standalone")
        for line in standalone.log_tail():
            board.line(line)
        return 1
    except Interrupted as interrupted:
        with contextlib.suppress(OSError):  # the terminal may be closed
            board.bad("interrupted; cleaning up, which takes a few seconds")
        return 128 + int(interrupted.args[0])
    finally:
        with contextlib.suppress(DemoFailed):
            standalone.stop()
        standalone.remove()
        demo_host.sweep()
    board.title(f"Done in {board.seconds():.1f} s")
    return 0


def _play(board: Board, standalone: Standalone) -> None:
    demo_host.sweep()
    board.title("Set up")
    with board.step("two images, built from busybox"):
        demo_host.build_images()
    with board.step(f"ecs-agent standalone, control endpoint at {standalone.endpoint}"):
        standalone.start()
    ecs = _client(standalone)
    definition = ecs.register_task_definition(**DEFINITION)["taskDefinition"]
    board.good(f"task definition {FAMILY}:{definition['revision']} registered through boto3")

    board.title("Run one task of two containers in awsvpc mode")
    with board.states() as states:
        arn = _run_task(ecs)
        task = _watch(ecs, standalone, arn, states, until="RUNNING", limit_s=LAUNCH_LIMIT_S)
    address = _address(task)

    board.title("Its own address")
    _fetch(board, address)
    board.title("Its live metrics")
    _show_figures(board, standalone, arn)

    board.title("Stop it")
    with board.states() as states:
        ecs.stop_task(cluster=demo_host.CLUSTER, task=arn, reason="The demo is over")
        task = _watch(ecs, standalone, arn, states, until="STOPPED", limit_s=STOP_LIMIT_S)
    board.line(f"stopped: {task.get('stoppedReason', '')} ({task.get('stopCode', '')})")

    board.title("Nothing is left")
    _leave(board, standalone)


def _client(standalone: demo_host.Standalone) -> Any:
    """Return a client like any operator's, with the key created at the first start."""
    given = standalone.operator()
    return boto3.client(
        "ecs",
        endpoint_url=given["AWS_ENDPOINT_URL_ECS"],
        region_name=given["AWS_DEFAULT_REGION"],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        config=Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=30),
    )


def _run_task(ecs: Any) -> str:
    answer = ecs.run_task(
        cluster=demo_host.CLUSTER,
        taskDefinition=FAMILY,
        launchType="EC2",
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-demo"]}},
    )
    if answer["failures"]:
        raise DemoFailed(f"run_task placed nothing: {answer['failures']}")
    return str(answer["tasks"][0]["taskArn"])


def _watch(
    ecs: Any, standalone: Standalone, arn: str, states: States, *, until: str, limit_s: float
) -> dict[str, Any]:
    """Show every state until the task reaches ``until``; return control's description of it."""
    deadline = time.monotonic() + limit_s
    while True:
        task: dict[str, Any] = ecs.describe_tasks(cluster=demo_host.CLUSTER, tasks=[arn])["tasks"][
            0
        ]
        states.put("task", task["lastStatus"])
        for container in task["containers"]:
            states.put(f"  {container['name']}", container["lastStatus"])
        if task["lastStatus"] == until:
            return task
        if task["lastStatus"] == "STOPPED":
            raise DemoFailed(f"the task stopped: {_reasons(task)}")
        if time.monotonic() > deadline:
            waits = standalone.look("why", arn)["waits"]
            told = "; ".join(wait["what"] for wait in waits) or "nothing"
            raise DemoFailed(f"the task is not {until} after {limit_s:g} s; it waits for: {told}")
        time.sleep(LOOK_EVERY_S)


def _reasons(task: dict[str, Any]) -> str:
    found = [task.get("stoppedReason", "")]
    found += [f"{c['name']}: {c.get('reason', '')}" for c in task["containers"] if c.get("reason")]
    return "; ".join(filter(None, found)) or "without a reason"


def _address(task: dict[str, Any]) -> str:
    for attachment in task.get("attachments", ()):
        for detail in attachment["details"]:
            if detail["name"] == "privateIPv4Address":
                return str(detail["value"])
    raise DemoFailed(f"the task has no address: {task.get('attachments')}")


def _fetch(board: Board, address: str) -> None:
    """Fetch the page, with retries: the web server may need a moment after its start."""
    deadline = time.monotonic() + 5
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            begun = time.monotonic()
            with opener.open(f"http://{address}/", timeout=5) as answer:
                page = answer.read().decode()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise DemoFailed(f"http://{address}/ does not answer: {error}") from None
            time.sleep(0.05)
    if page != demo_host.PAGE:
        raise DemoFailed(f"http://{address}/ answered something else: {page[:80]!r}")
    board.good(f"http://{address}/ in {(time.monotonic() - begun) * 1000:.1f} ms: {page}")
    for _ in range(PAGES):
        with opener.open(f"http://{address}/", timeout=5) as answer:
            answer.read()
    board.good(f"and {PAGES} more times, so that there is something to count")


def _show_figures(board: Board, standalone: Standalone, arn: str) -> None:
    with board.waiting("the agent samples them once a second"):
        sample = _whole_sample(standalone, arn)
    rows = [
        (c["name"], f"{c['cpuPercent']:.1f} %", f"{c['memoryBytes'] / MIB:.2f} MiB")
        for c in sample["containers"]
    ]
    board.table(["container", "CPU", "memory"], rows)
    network = sample["network"]
    board.line(
        f"network: {network['rxBytes'] / KIB:.1f} KiB in {network['rxPackets']} packets received, "
        f"{network['txBytes'] / KIB:.1f} KiB in {network['txPackets']} sent"
    )


def _whole_sample(standalone: Standalone, arn: str) -> dict[str, Any]:
    deadline = time.monotonic() + FIGURES_LIMIT_S
    while True:
        sample: dict[str, Any] = standalone.look("task", arn).get("sample") or {}
        if _is_complete(sample):
            return sample
        if time.monotonic() > deadline:
            raise DemoFailed(f"no complete sample within {FIGURES_LIMIT_S:g} s, only {sample}")
        time.sleep(0.2)


def _is_complete(sample: dict[str, Any]) -> bool:
    containers = sample.get("containers", [])
    return (
        len(containers) == len(DEFINITION["containerDefinitions"])
        and all(c.get("cpuPercent") is not None and c.get("memoryBytes") for c in containers)
        and bool((sample.get("network") or {}).get("rxBytes"))
    )


def _leave(board: Board, standalone: Standalone) -> None:
    deadline = time.monotonic() + 20
    with board.step("the task's containers are removed"):
        while standalone.look("tasks") and time.monotonic() < deadline:
            time.sleep(0.1)
    with board.step("ecs-agent standalone stops with exit code 0"):
        code = standalone.stop()
        if code:
            raise DemoFailed(f"ecs-agent standalone ended with exit code {code}")
    log = standalone.log_tail()
    standalone.remove()
    left = demo_host.left_behind(standalone.place)
    if left:
        raise DemoFailed("\n  ".join(["left behind:", *left, "the log ends with:", *log]))
    board.good("no container, namespace, link, address, firewall rule or file")


if __name__ == "__main__":
    sys.exit(main())
