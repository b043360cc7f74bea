"""A service behind a real proxy is scaled, rolled out and rolled back under load, and no request fails."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.e2e.conftest import NETWORK, describe
from tests.support.fleet import Fleet, Process, eventually, fleet, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT_S = 180.0
SERVE = "mkdir -p /tmp/w; echo {version} > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"
PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(PROGRAM is None, reason="HAProxy is not installed"),
]


@dataclass
class Load:
    """Asks for a page again and again, on connections of its own, and keeps what it was answered."""

    port: int
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.02):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                text = answer.read().decode().strip()
                if answer.status == 200:
                    self.answers[text] += 1
                else:
                    self.failures.append(f"{time.strftime('%T')} {answer.status} {text[:80]}")
            except OSError as error:
                self.failures.append(f"{time.strftime('%T')} {error!r}")
            finally:
                connection.close()

    def become(self, *versions: str) -> None:
        """Wait until these versions answer, and only these."""

        def are_the_only() -> bool:
            self.answers.clear()
            eventually(lambda: self.answers.total() > 30, what="requests are answered")
            return set(self.answers) == set(versions)

        eventually(are_the_only, within_s=LIMIT_S, what=f"{versions} answer", shown=self.shown)

    def shown(self) -> object:
        """Return what there is to say when it fails."""
        return dict(self.answers), self.failures[:5]


@dataclass
class Shop:
    """The service, its load balancer and the fleet."""

    fleet: Fleet
    image: str
    port: int
    groups: list[str] = field(default_factory=list)
    rule: str = ""

    @property
    def ecs(self) -> Any:
        return self.fleet.client()

    def balance(self) -> None:
        """Create a load balancer with a rule that forwards to the first of two target groups."""
        elb = self.fleet.client("elbv2")
        made = elb.create_load_balancer(Name="web", Subnets=["subnet-1"])
        balancer = made["LoadBalancers"][0]["LoadBalancerArn"]
        for name in ("one", "other"):
            made = elb.create_target_group(
                Name=name,
                Protocol="HTTP",
                Port=80,
                TargetType="ip",
                HealthCheckIntervalSeconds=5,
                HealthCheckTimeoutSeconds=4,
                HealthyThresholdCount=2,
            )
            arn = made["TargetGroups"][0]["TargetGroupArn"]
            self.groups.append(arn)
            elb.modify_target_group_attributes(
                TargetGroupArn=arn,
                Attributes=[{"Key": "deregistration_delay.timeout_seconds", "Value": "5"}],
            )
        listener = elb.create_listener(
            LoadBalancerArn=balancer,
            Protocol="HTTP",
            Port=self.port,
            DefaultActions=[
                {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
            ],
        )["Listeners"][0]["ListenerArn"]
        weights = [
            {"TargetGroupArn": arn, "Weight": weight}
            for arn, weight in zip(self.groups, (100, 0), strict=True)
        ]
        made = elb.create_rule(
            ListenerArn=listener,
            Priority=1,
            Conditions=[{"Field": "path-pattern", "Values": ["/*"]}],
            Actions=[{"Type": "forward", "ForwardConfig": {"TargetGroups": weights}}],
        )
        self.rule = made["Rules"][0]["RuleArn"]

    def register(self, version: str, command: str = SERVE) -> str:
        """Register a revision whose page tells its version."""
        container = {
            "name": "web",
            "image": self.image,
            "memory": 32,
            "command": ["sh", "-c", command.format(version=version)],
            "portMappings": [{"containerPort": 80}],
            "stopTimeout": 2,
            "healthCheck": {"command": ["CMD-SHELL", "test -e /tmp/w/index.html"], "interval": 5},
        }
        made = self.ecs.register_task_definition(
            family="shop", networkMode="awsvpc", containerDefinitions=[container]
        )
        arn: str = made["taskDefinition"]["taskDefinitionArn"]
        return arn

    def balancers(self, **more: Any) -> list[dict[str, Any]]:
        target = {"targetGroupArn": self.groups[0], "containerName": "web", "containerPort": 80}
        return [{**target, **more}]

    def create(self, definition: str) -> None:
        self.ecs.create_service(
            serviceName="shop",
            taskDefinition=definition,
            desiredCount=0,
            loadBalancers=self.balancers(),
            networkConfiguration=NETWORK,
            deploymentConfiguration={
                "maximumPercent": 200,
                "minimumHealthyPercent": 100,
                "deploymentCircuitBreaker": {"enable": True, "rollback": True},
            },
        )

    def update(self, **fields: Any) -> None:
        self.ecs.update_service(service="shop", **fields)

    def service(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ecs.describe_services(services=["shop"])["services"][0]
        return found

    def becomes_stable(self) -> None:
        def is_stable() -> bool:
            told = self.service()
            return len(told["deployments"]) == 1 and (
                told["runningCount"] == told["desiredCount"]
                and told["deployments"][0]["rolloutState"] == "COMPLETED"
            )

        eventually(is_stable, within_s=LIMIT_S, what="the service is stable", shown=self.shown)

    def shown(self) -> object:
        told = self.service()
        arns = self.ecs.list_tasks(serviceName="shop")["taskArns"]
        tasks = [(t["lastStatus"], t["healthStatus"]) for t in describe(self.ecs, *arns)]
        return told["deployments"], [e["message"] for e in told["events"][:8]], tasks

    def deployment(self) -> str:
        """Return the newest service deployment."""
        found = self.ecs.list_service_deployments(service="shop")["serviceDeployments"]
        newest: str = max(found, key=lambda each: each["createdAt"])["serviceDeploymentArn"]
        return newest


@pytest.fixture
def shop(leak_check: None, tmp_path: Path, busybox_image: str) -> Iterator[Shop]:
    del leak_check
    with contextlib.ExitStack() as stack:
        run_dir = stack.enter_context(tempfile.TemporaryDirectory(prefix="ing"))  # a short path
        Path(run_dir).chmod(0o711)
        made = Shop(stack.enter_context(fleet(tmp_path)), busybox_image, free_port())
        made.balance()
        tokens = str(tmp_path / "control" / "agent.tokens")
        ingress = Process(
            name="ingress",
            arguments=[
                *("ingress", "--control", made.fleet.control.url, "--token-file", tokens),
                *("--listen", "127.0.0.1", "--run-dir", run_dir, "--stop-within", "1"),
            ],
            directory=tmp_path,
        )
        ingress.start()
        stack.callback(ingress.stop)
        eventually(partial(_listens, made.port), what="the proxy listens", shown=ingress.tail)
        try:
            yield made
        finally:  # also of a test that failed, or the service would go on starting tasks
            with contextlib.suppress(made.ecs.exceptions.ServiceNotFoundException):
                made.ecs.delete_service(service="shop", force=True)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.timeout(600)
def test_no_request_fails_while_a_service_is_rolled_out_and_back(shop: Shop) -> None:
    first, second = shop.register("first"), shop.register("second")
    shop.create(first)
    shop.update(desiredCount=3)
    shop.becomes_stable()
    with Load(shop.port) as load:
        load.become("first")

        shop.update(taskDefinition=second)
        load.become("first", "second")
        shop.fleet.control.kill()
        shop.fleet.control.start()
        shop.fleet.control.ready()
        load.become("second")
        shop.update(desiredCount=2)
        shop.becomes_stable()

        broken = shop.register("broken", "exit 1")
        shop.update(taskDefinition=broken)

        def has_rolled_back() -> bool:
            events = " ".join(each["message"] for each in shop.service()["events"])
            return "rolling back to" in events and shop.service()["taskDefinition"] == second

        eventually(has_rolled_back, within_s=LIMIT_S, what="the breaker opens", shown=shop.shown)
        shop.becomes_stable()
        load.become("second")

        _shift_traffic(shop, load)
        assert not load.failures, load.shown()


def _shift_traffic(shop: Shop, load: Load) -> None:
    """Deploy blue/green, and then the first part of a canary, which is taken back."""
    third, fourth = shop.register("third"), shop.register("fourth")
    advanced = {
        "alternateTargetGroupArn": shop.groups[1],
        "productionListenerRule": shop.rule,
        "roleArn": "arn:aws:iam::000000000000:role/ingress",
    }
    both = shop.balancers(advancedConfiguration=advanced)
    blue_green = {"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0}
    shop.update(taskDefinition=third, loadBalancers=both, deploymentConfiguration=blue_green)
    load.become("third")
    shop.becomes_stable()

    canary = {
        "strategy": "CANARY",
        "bakeTimeInMinutes": 0,
        "canaryConfiguration": {"canaryPercent": 50.0, "canaryBakeTimeInMinutes": 10},
    }
    shop.update(taskDefinition=fourth, deploymentConfiguration=canary)
    load.become("third", "fourth")
    shop.ecs.stop_service_deployment(serviceDeploymentArn=shop.deployment(), stopType="ROLLBACK")
    load.become("third")
    shop.becomes_stable()
    assert shop.service()["taskDefinition"] == third
