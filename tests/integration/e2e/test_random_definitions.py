"""Random task definitions on a real engine: each is refused by name, or does all that it says.

``ECS_TEST_RANDOM_DEFINITIONS`` sets how many, ``ECS_TEST_RANDOM_SEED`` with which seed the first one
is made. What became of each is then shown; a failure names the seeds of the definitions that failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.e2e.conftest import NETWORK, describe
from tests.support import effects, fleet
from tests.support.random_definitions import Author

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fleet import Fleet
    from tests.support.random_definitions import Definition

pytestmark = pytest.mark.integration

SHOWN = "ECS_TEST_RANDOM_DEFINITIONS" in os.environ
COUNT = int(os.environ.get("ECS_TEST_RANDOM_DEFINITIONS", "25"))
FIRST_SEED = int(os.environ.get("ECS_TEST_RANDOM_SEED", "1"))
AT_ONCE = 5
WITHIN_S = 90.0


@dataclass(slots=True)
class Trial:
    """One definition on its way."""

    seed: int
    definition: Definition
    overrides: list[Definition]
    arn: str = ""
    """Of its task; empty if there is none."""
    outcome: str = ""
    fault: str = ""

    def fail(self, text: str) -> None:
        """Note what is wrong; the first fault counts."""
        self.fault = self.fault or text

    @property
    def report(self) -> str:
        """What a failure shows."""
        asked = json.dumps(self.definition), json.dumps(self.overrides)
        return "\n".join((f"seed {self.seed}: {self.fault}", *asked))

    def containers(self) -> list[Definition]:
        """The containers as the run changes them."""
        changes = {change["name"]: change for change in self.overrides}
        return [
            _changed(c, changes.get(c["name"], {})) for c in self.definition["containerDefinitions"]
        ]


def _changed(container: Definition, change: Definition) -> Definition:
    variables = {pair["name"]: pair for pair in container.get("environment", ())}
    variables |= {pair["name"]: pair for pair in change.get("environment", ())}
    return container | change | {"environment": list(variables.values())}


def _trial(seed: int, image: str, folder: Path) -> Trial:
    author = Author(seed, image=image, folder=folder)
    definition = author.write()
    return Trial(seed, definition, author.overrides(definition))


@pytest.fixture
def host(leak_check: None, tmp_path: Path) -> Iterator[Fleet]:
    del leak_check
    with fleet.fleet(
        tmp_path,
        ECS_IMAGE_PULL_BEHAVIOR="prefer-cached",
        ECS_OFFER_FARGATE="true",
        ECS_AVAILABLE_LOGGING_DRIVERS='["json-file","gelf"]',
    ) as made:
        yield made
        made.stop_tasks()
        _remove_shared_volumes()


@pytest.mark.timeout(max(240, 10 * COUNT))
def test_random_definitions_are_refused_by_name_or_done(
    host: Fleet, busybox_image: str, tmp_path: Path
) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    folder.chmod(0o777)
    trials = [_trial(seed, busybox_image, folder) for seed in range(FIRST_SEED, FIRST_SEED + COUNT)]
    client = host.client()
    for start in range(0, COUNT, AT_ONCE):
        together = trials[start : start + AT_ONCE]
        for trial in together:
            _begin(client, trial)
        _follow(host, client, [t for t in together if t.arn])
    outcomes = Counter(t.outcome.partition(":")[0] for t in trials)
    if SHOWN:
        sys.stderr.writelines(f"{t.seed}: {t.outcome}\n" for t in trials)
    assert not (failed := [t.report for t in trials if t.fault]), "\n\n".join(failed)
    assert outcomes["runs"] > COUNT // 4, outcomes


def _begin(client: Any, trial: Trial) -> None:
    """Register and run it; what refuses it must name a field, a container or what is missing."""
    definition = trial.definition
    try:
        client.register_task_definition(**definition)
        more: dict[str, Any] = {}
        if trial.overrides:
            more["overrides"] = {"containerOverrides": trial.overrides}
        if definition.get("networkMode") == "awsvpc":
            more["networkConfiguration"] = NETWORK
        if definition.get("requiresCompatibilities"):
            more["launchType"] = "FARGATE"
        answer = client.run_task(taskDefinition=definition["family"], **more)
    except ClientError as error:
        trial.outcome = f"refused: {error.response['Error']['Message']}"
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if not 400 <= status < 500 or not _names_a_part([definition, trial.overrides], str(error)):
            trial.fail(f"refused with {status}: {error}")
        return
    if answer["failures"]:
        failure = answer["failures"][0]
        trial.outcome = f"not placed: {failure['reason']} {failure.get('detail', '')}"
        resource = failure["reason"].startswith("RESOURCE:")
        if not resource and not (failure["reason"] == "ATTRIBUTE" and failure.get("detail")):
            trial.fail(f"not placed: {failure}")
        return
    trial.arn = answer["tasks"][0]["taskArn"]


def _names_a_part(request: Any, text: str) -> bool:
    """Whether a text names a field that a request has, or one of its containers or volumes."""
    plain = text.casefold().replace(" ", "")
    return any(part.casefold().replace("[]", "") in plain for part in _parts(request))


def _parts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "name" in value:
            yield f"'{value['name']}'"
        for name, item in value.items():
            yield name if name != "name" else "container.name"
            yield from _parts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _parts(item)


def _follow(host: Fleet, client: Any, trials: list[Trial]) -> None:
    """See each task through: it runs with all that it asked for, or ends and says why."""
    _wait(host, client, trials, {"RUNNING", "STOPPED"})
    tasks = describe(client, *(t.arn for t in trials))
    for trial, task in zip(trials, tasks, strict=True):
        if task["lastStatus"] == "RUNNING":
            _check_running(trial, task)
        elif task["lastStatus"] == "STOPPED":
            _check_stopped(trial, task)
    for trial in trials:
        client.stop_task(task=trial.arn)
    _wait(host, client, trials, {"STOPPED"})


def _wait(host: Fleet, client: Any, trials: list[Trial], statuses: set[str]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        tasks = describe(client, *(t.arn for t in trials))
        waiting = [
            t for t, task in zip(trials, tasks, strict=True) if task["lastStatus"] not in statuses
        ]
        if not waiting:
            return
        if time.monotonic() > deadline:
            for trial in waiting:
                why = host.agents[0].cli("why", trial.arn, check=False)
                trial.fail(f"not {statuses} within {WITHIN_S} s: {why}")
            return
        time.sleep(0.2)


def _check_running(trial: Trial, task: dict[str, Any]) -> None:
    trial.outcome = "runs"
    by_name = {c["name"]: c for c in task["containers"]}
    for container in trial.containers():
        told = by_name[container["name"]]
        seen = _inspect(told.get("runtimeId", ""))
        if seen is None:
            if told["lastStatus"] == "RUNNING" and _still_runs(trial):
                trial.fail(f"container {container['name']} is RUNNING, and the engine has none")
            continue
        lacking = effects.missing(trial.definition, container, seen)
        if seen["State"]["Running"]:
            text = _look_inside(seen["Id"])
            lacking += effects.missing_inside(trial.definition, container, text) if text else []
        if container.get("disableNetworking") and told.get("networkInterfaces"):
            lacking.append(f"no network, told as {told['networkInterfaces']}")
        if lacking:
            trial.fail(f"container {container['name']} runs without: {'; '.join(lacking)}")


def _still_runs(trial: Trial) -> bool:
    """Whether no container of the task ends the task on its own."""
    return not any("exit 4" in " ".join(c["command"]) for c in trial.containers())


def _check_stopped(trial: Trial, task: dict[str, Any]) -> None:
    reasons = [c["reason"] for c in task["containers"] if c.get("reason")]
    codes = [c["exitCode"] for c in task["containers"] if c.get("exitCode") is not None]
    trial.outcome = f"stopped: {task.get('stoppedReason')} {reasons} {codes}"
    if not reasons and not codes and not task.get("stoppedReason"):
        trial.fail("stopped without a reason")
    if task.get("stopCode") == "TaskFailedToStart" and not reasons:
        trial.fail(f"failed to start, without a cause: {task.get('stoppedReason')}")


def _inspect(runtime_id: str) -> dict[str, Any] | None:
    if not runtime_id:
        return None
    done = subprocess.run(
        ["docker", "inspect", runtime_id], capture_output=True, text=True, check=False
    )
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def _look_inside(runtime_id: str) -> str:
    """Return what the container itself sees; empty if it ended before it was asked."""
    script = "; echo ---; ".join(effects.LOOK)
    done = subprocess.run(
        ["docker", "exec", runtime_id, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout if done.returncode == 0 else ""


def _remove_shared_volumes() -> None:
    listed = subprocess.run(
        ["docker", "volume", "ls", "-q", "--filter", "name=random-shared-"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split():
        subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=True)
