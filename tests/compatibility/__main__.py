"""The command: ``python -m tests.compatibility FOLDER [--only TEXT]``."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
from botocore.exceptions import ClientError, ParamValidationError

from tests.compatibility import definitions, effects, page, stand_ins
from tests.compatibility.world import World
from tests.support.aws_stand_in import StandIn
from tests.support.fleet import Fleet

if TYPE_CHECKING:
    from tests.compatibility.definitions import Published

WAIT_S = 60.0
_TASK = "com.amazonaws.ecs.task-arn"
_CONTAINER = "com.amazonaws.ecs.container-name"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one definition."""

    source: str
    path: str
    outcome: str
    """``runs``, or where it ended: ``malformed``, ``not registered``, ``not placed``, ``stopped``, ``incomplete``."""
    detail: str = ""


class Trial:
    """Runs definitions one after another on one host."""

    def __init__(self, made: Fleet, aws: StandIn) -> None:
        self._client = made.client()
        self._docker = docker.APIClient()
        self._world = World(aws, made.client("logs"))

    def run(self, published: Published) -> tuple[str, str]:
        """Return outcome and detail of one definition."""
        request = published.request
        ends = stand_ins.waited_for(request)
        for container in request["containerDefinitions"]:
            container["image"] = stand_ins.build(
                self._docker, container, ends=container["name"] in ends
            )
        try:
            answer = self._client.register_task_definition(**request)["taskDefinition"]
        except ParamValidationError as error:
            return "malformed", " ".join(str(error).split())  # AWS's own tools refuse it too
        except ClientError as error:
            return "not registered", error.response["Error"]["Message"]
        self._world.provide(request)
        return self._launch(published, answer["taskDefinitionArn"])

    def _launch(self, published: Published, definition: str) -> tuple[str, str]:
        try:
            answer = self._client.run_task(taskDefinition=definition, **published.run_request())
        except ClientError as error:
            return "not placed", error.response["Error"]["Message"]
        if answer["failures"]:
            failure = answer["failures"][0]
            return "not placed", f"{failure['reason']}: {failure.get('detail', '')}".rstrip(": ")
        arn = answer["tasks"][0]["taskArn"]
        try:
            return self._look(published, arn)
        finally:
            self._client.stop_task(task=arn)
            self._await(arn, {"STOPPED"})

    def _look(self, published: Published, arn: str) -> tuple[str, str]:
        task = self._await(arn, {"RUNNING", "STOPPED"})
        if task["lastStatus"] != "RUNNING":
            causes = [c["reason"] for c in task["containers"] if c.get("reason")]
            return "stopped", "; ".join([task.get("stoppedReason", task["lastStatus"]), *causes])
        seen = self._inspect(arn)
        lacking = [
            f"{container['name']}: {what}"
            for container in published.request["containerDefinitions"]
            for what in effects.missing(published.request, container, seen[container["name"]])
        ]
        return ("incomplete", ", ".join(lacking)) if lacking else ("runs", "")

    def _await(self, arn: str, wanted: set[str]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while True:
            task: dict[str, Any] = self._client.describe_tasks(tasks=[arn])["tasks"][0]
            if task["lastStatus"] in wanted or time.monotonic() > deadline:
                return task
            time.sleep(0.1)

    def _inspect(self, arn: str) -> dict[str, Any]:
        ids = self._docker.containers(all=True, filters={"label": f"{_TASK}={arn}"})
        found = [self._docker.inspect_container(one["Id"]) for one in ids]
        return {one["Config"]["Labels"].get(_CONTAINER, ""): one for one in found}


def main() -> int:
    """Run every definition below a folder and write the page; return how many do not run."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="", help="a part of the path")
    parser.add_argument("--write", action="store_true", help="write docs/compatibility.md")
    chosen = parser.parse_args()
    sources = json.loads((chosen.folder / "sources.json").read_text())
    with tempfile.TemporaryDirectory(prefix="compatibility-") as directory, StandIn() as aws:
        keys = aws.admin.environment()
        extra = {
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_DEFAULT_REGION": definitions.REGION,
            "ECS_OFFER_FARGATE": "true",
            "ECS_AVAILABLE_LOGGING_DRIVERS": json.dumps(
                ["json-file", "none", "awslogs", "awsfirelens", "fluentd", "syslog"]
            ),
        }
        made = Fleet(Path(directory), extra=extra)
        made.control.environment |= {**keys, "AWS_ENDPOINT_URL": aws.url}
        made.add_agent()
        made.start()
        try:
            results = list(_trials(Trial(made, aws), chosen, sources))
        finally:
            made.end()
    if chosen.write:
        page.write(results, sources)
    failed = [result for result in results if result.outcome != "runs"]
    _say(f"{len(results) - len(failed)} of {len(results)} run")
    return len(failed)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _trials(trial: Trial, chosen: argparse.Namespace, sources: list[dict[str, str]]) -> Any:
    for source in sources:
        where = f"{source['repository']} {source['path']}"
        if chosen.only not in where:
            continue
        text = (chosen.folder / source["file"]).read_text()
        try:
            outcome, detail = trial.run(definitions.read(text))
        except Exception as error:  # noqa: BLE001 - a fault of one definition is a result
            outcome, detail = "fault", f"{type(error).__name__}: {error}"
        _say(f"{outcome:15} {where} {detail}")
        yield Result(source["repository"], source["path"], outcome, detail)


if __name__ == "__main__":
    sys.exit(main())
