"""Makes orders and changes services as operators do, and keeps at it until control has acknowledged them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.chaos import containers
from tests.chaos.work_plan import MODES, SERVICES, STEADY
from tests.support.fleet import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.chaos.work_plan import Act
    from tests.chaos.world import World

NETWORK = {"awsvpcConfiguration": {"subnets": ["subnet-1"]}}
_OPERATORS = 6
"""How many orders are made at the same time."""
_AGAIN_AFTER_S = 0.3
_SETTINGS = Config(connect_timeout=5, read_timeout=15, retries={"total_max_attempts": 1})
_BURDENED = frozenset({"ServerException", "ThrottlingException", "500", "502", "503", "429"})
"""Answers after which the same call is made again."""
MOST_STEADY = 24


@dataclass
class Order:
    """A task that was ordered, and what its operator knows about it."""

    act: Act
    asked_s: float
    """When it was first asked for, in seconds since the beginning; the other times too."""
    arn: str = ""
    acknowledged_s: float | None = None
    stop_asked_s: float | None = None
    stop_acknowledged_s: float | None = None

    @property
    def name(self) -> str:
        """What its containers write into the name of their file."""
        return f"o{self.act.number}"


class GivenUp(Exception):
    """The run was interrupted before control has acknowledged an order."""


@dataclass
class Workload:
    """Operators at work."""

    world: World
    orders: list[Order] = field(default_factory=list)
    changes: int = 0
    """Acknowledged changes of services."""
    trouble: list[str] = field(default_factory=list)
    """Refusals that nothing explains."""
    given_up: threading.Event = field(default_factory=threading.Event)
    """Nobody waits for acknowledgements any more."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _revisions: dict[str, int] = field(default_factory=dict)
    _local: threading.local = field(default_factory=threading.local)

    def prepare(self) -> None:
        """Register all task definitions, and create the services."""
        for kind, commands in containers.KINDS.items():
            for mode in MODES:
                made = containers.definition(self.world, f"{kind}-{mode}", mode, commands)
                self.client.register_task_definition(**made)
        for name, mode in SERVICES.items():
            self._register_version(name)
            more = {"networkConfiguration": NETWORK} if mode == "awsvpc" else {}
            self.client.create_service(
                serviceName=name, taskDefinition=name, desiredCount=2, **more
            )

    def work(self, acts: list[Act]) -> None:
        """Do what is planned, each at its time; returns when all is acknowledged."""
        with ThreadPoolExecutor(_OPERATORS, "operator") as pool:
            made = []
            for act in acts:
                if self.given_up.wait(max(0.0, act.at_s - self.world.history.now_s())):
                    break
                made.append(pool.submit(self._do, act))
            for each in made:
                each.result()

    def settle_services(self, counts: dict[str, int]) -> None:
        """Say once more what each service is to be, now that no store goes back any more."""
        for name, count in counts.items():
            wanted = {"service": name, "taskDefinition": name, "desiredCount": count}
            self._insist(partial(self.client.update_service, **wanted))

    @property
    def client(self) -> Any:
        """The ECS client of this thread."""
        if not hasattr(self._local, "client"):
            with self._lock:  # the first one reads the model of the API
                import boto3  # noqa: PLC0415 - slow to import

                self._local.client = boto3.session.Session().client(
                    "ecs",
                    endpoint_url=self.world.fleet.control.url,
                    region_name=KEYS["AWS_DEFAULT_REGION"],
                    aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
                    aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
                    config=_SETTINGS,
                )
        return self._local.client

    def _do(self, act: Act) -> None:
        try:
            if act.what == "run":
                self._run(act)
            elif act.what == "run and stop":
                order = self._run(act)
                if order is not None:
                    time.sleep(act.run_s)
                    self.stop(order)
            elif act.what == "stop":
                self._stop_some(act)
            elif act.what == "scale":
                self._change(act, desiredCount=act.count)
            else:
                self._deploy(act)
        except Exception as error:  # noqa: BLE001 - what an operator meets is told in the end
            self.trouble.append(f"{act.what} {act.number}: {type(error).__name__}: {error}")

    def _run(self, act: Act) -> Order | None:
        if act.kind == STEADY and act.what == "run" and len(self._steady()) >= MOST_STEADY:
            return None
        order = Order(act, self.world.history.now_s())
        with self._lock:
            self.orders.append(order)
        request = containers.request(act, order.name)
        if act.mode == "awsvpc":
            request["networkConfiguration"] = NETWORK

        def place() -> dict[str, Any] | None:
            answer = self.client.run_task(**request)
            return answer["tasks"][0] if answer["tasks"] else None

        order.arn = self._insist(place)["taskArn"]
        order.acknowledged_s = self.world.history.now_s()
        self.world.boundaries.passes("order acknowledged")
        self.world.history.note(
            "order", order=order.name, task=order.arn, kind=act.kind, mode=act.mode
        )
        return order

    def _stop_some(self, act: Act) -> None:
        found = self._steady()
        if found:
            self.stop(found[int(act.chance * len(found))])

    def stop(self, order: Order) -> None:
        """Stop a task."""
        order.stop_asked_s = self.world.history.now_s()
        self._insist(
            lambda: self.client.stop_task(task=order.arn, reason=f"asked for {order.name}")
        )
        order.stop_acknowledged_s = self.world.history.now_s()
        self.world.boundaries.passes("stop acknowledged")
        self.world.history.note("stop", order=order.name, task=order.arn)

    def _steady(self) -> list[Order]:
        with self._lock:
            return [
                each
                for each in self.orders
                if each.act.kind == STEADY
                and each.act.what == "run"
                and each.acknowledged_s is not None
                and each.stop_asked_s is None
            ]

    def _change(self, act: Act, **fields: Any) -> None:
        self._insist(lambda: self.client.update_service(service=act.service, **fields))
        with self._lock:
            self.changes += 1
        self.world.history.note("change", service=act.service, **fields)

    def _deploy(self, act: Act) -> None:
        self._insist(lambda: self._register_version(act.service))
        self._change(act, taskDefinition=act.service)

    def _register_version(self, name: str) -> Any:
        with self._lock:
            self._revisions[name] = version = self._revisions.get(name, 0) + 1
        made = containers.definition(
            self.world, name, SERVICES[name], containers.SERVICE, version=version
        )
        return self.client.register_task_definition(**made)

    def _insist(self, call: Callable[[], Any]) -> Any:
        """Make a call until it is acknowledged: with the same token, so that it is done once."""
        while not self.given_up.is_set():
            try:
                if (answer := call()) is not None:
                    return answer
            except ClientError as error:
                if error.response["Error"]["Code"] not in _BURDENED:
                    raise
            except BotoCoreError:
                pass
            time.sleep(_AGAIN_AFTER_S)
        raise GivenUp
