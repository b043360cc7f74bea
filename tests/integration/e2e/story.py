"""A fleet of three hosts with a proxy, and a service whose pages are asked for, as an operator sees them."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.integration.e2e.conftest import describe
from tests.support.fleet import eventually
from tests.support.request_load import Load
from tests.support.second_host import LINK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.container_record import ContainerRecord
    from tests.support.fleet import Fleet, Process
    from tests.support.second_host import Hosts, Place

LIMIT_S = 150.0
FAMILY = "shop"
SERVE = (
    "mkdir -p /tmp/w/cgi-bin; echo {0} >/tmp/w/index.html; "
    r"""printf '#!/bin/sh\nsleep 1.5\nprintf "Content-Length: {1}\\r\\n\\r\\n{0}"\n' >/tmp/w/cgi-bin/slow; """
    "chmod +x /tmp/w/cgi-bin/slow; exec httpd -f -p 80 -h /tmp/w"
)
"""Tells its version, at once and after a while."""
BREAKER = {"type": "COUNT", "value": 4}
"""The first three tasks fail together, and the next ones only after a delay: time to kill control."""
ROLLING = {
    "strategy": "ROLLING",
    "maximumPercent": 200,
    "minimumHealthyPercent": 100,
    "deploymentCircuitBreaker": {
        "enable": True,
        "rollback": True,
        "thresholdConfiguration": BREAKER,
    },
}


@dataclass
class Story:
    """A fleet of three hosts, its proxy, and the service whose pages are asked for."""

    fleet: Fleet
    hosts: Hosts
    image: str
    port: int
    record: ContainerRecord
    ingress: Process
    groups: list[str] = field(default_factory=list)
    """Target groups."""
    rule: str = ""
    security_group: str = ""
    versions: list[str] = field(default_factory=list)
    """Of the service's pages so far; the name of each is its task definition's revision."""

    @property
    def ecs(self) -> Any:
        return self.fleet.client()

    # What happens

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Load]:
        """Ask for pages while something is done; print what came of it, and fail if a request has."""
        began, since_ns = time.monotonic(), time.time_ns()
        load = Load(self.port)
        try:
            with load:
                yield load
        finally:
            most = self.record.most(FAMILY, since_ns)
            say(f"{name}: {time.monotonic() - began:.1f} s, {most} containers at once at most")
            say(f"  {load.told()}")
        assert not load.failures, load.told()

    def kill_control(self, why: str) -> None:
        """Kill control, and start it again."""
        began = time.monotonic()
        self.fleet.control.kill()
        self.fleet.control.start()
        self.fleet.control.ready()
        say(
            f"  control killed while {why}; it answers again after {time.monotonic() - began:.1f} s"
        )

    # The service

    def definition(self, command: str = SERVE) -> str:
        """Register another version of the page; its name is the revision's number."""
        number = len(self.versions) + 1
        name = f"v{number}"
        container = {
            "name": "web",
            "image": self.image,
            "memory": 32,
            "command": ["sh", "-c", command.format(name, len(name))],
            "portMappings": [{"containerPort": 80}],
            "stopTimeout": 2,
        }
        made = self.ecs.register_task_definition(
            family=FAMILY, networkMode="awsvpc", containerDefinitions=[container]
        )["taskDefinition"]
        self.versions.append(name)
        assert made["revision"] == number
        return str(made["taskDefinitionArn"])

    def version(self) -> str:
        """Return the version that the service is to have."""
        definition: str = self.service()["taskDefinition"]
        return "v" + definition.rpartition(":")[2]

    def service(self, name: str = FAMILY) -> dict[str, Any]:
        found: dict[str, Any] = self.ecs.describe_services(services=[name])["services"][0]
        return found

    def update(self, **fields: Any) -> None:
        self.ecs.update_service(service=FAMILY, **fields)

    def with_tasks(self, count: int) -> str:
        """Have the service run so many tasks and nothing else going on; return its version."""
        known = self.ecs.describe_services(services=[FAMILY])["services"]
        if known and known[0]["status"] == "ACTIVE":
            self.update(desiredCount=count, deploymentConfiguration=ROLLING)
        else:
            network = {"subnets": ["subnet-1"], "securityGroups": [self.security_group]}
            self.ecs.create_service(
                serviceName=FAMILY,
                taskDefinition=self.definition(),
                desiredCount=count,
                loadBalancers=self.balancers(),
                networkConfiguration={"awsvpcConfiguration": network},
                deploymentConfiguration=ROLLING,
            )
        self.becomes_stable()
        eventually(
            lambda: self.healthy_targets() >= count, what="all get requests", shown=self.shown
        )
        return self.version()

    def healthy_targets(self) -> int:
        """Return how many targets the proxy has found healthy; tasks that run are not yet."""
        elb = self.fleet.client("elbv2")
        found = [
            each["TargetHealth"]["State"]
            for arn in self.groups
            for each in elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        ]
        return found.count("healthy")

    def balancers(self, *, shifts: bool = False) -> list[dict[str, Any]]:
        """Return the load balancer of the service, with or without a second target group."""
        found: dict[str, Any] = {
            "targetGroupArn": self.groups[0],
            "containerName": "web",
            "containerPort": 80,
        }
        if shifts:
            found["advancedConfiguration"] = {
                "alternateTargetGroupArn": self.groups[1],
                "productionListenerRule": self.rule,
                "roleArn": "arn:aws:iam::000000000000:role/ingress",
            }
        return [found]

    def deploy(self, strategy: str, **more: Any) -> str:
        """Begin a deployment of a new version with one of the strategies that shift traffic."""
        definition = self.definition()
        self.update(
            taskDefinition=definition,
            loadBalancers=self.balancers(shifts=True),
            deploymentConfiguration={"strategy": strategy, **more},
        )
        return self.versions[-1]

    def roll_back(self) -> None:
        """Stop the newest deployment."""
        found = self.ecs.list_service_deployments(service=FAMILY)["serviceDeployments"]
        newest = max(found, key=lambda each: each["createdAt"])["serviceDeploymentArn"]
        self.ecs.stop_service_deployment(serviceDeploymentArn=newest, stopType="ROLLBACK")

    def becomes_stable(self, name: str = FAMILY) -> None:
        def is_stable() -> bool:
            told = self.service(name)
            return len(told["deployments"]) == 1 and (
                told["runningCount"] == told["desiredCount"]
                and told["pendingCount"] == 0
                and told["deployments"][0]["rolloutState"] == "COMPLETED"
            )

        shown = partial(self.shown, name)
        eventually(is_stable, within_s=LIMIT_S, what=f"{name} is stable", shown=shown)

    def has_said(self, text: str, name: str = FAMILY, *, after: str) -> bool:
        """Return whether one of a service's events after another one contains a text."""
        told = self.service(name)["events"]
        new = itertools.takewhile(lambda each: each["id"] != after, told)
        return any(text in each["message"] for each in new)

    def last_event(self, name: str = FAMILY) -> str:
        """Return the id of a service's newest event."""
        return str(self.service(name)["events"][0]["id"])

    def tasks(self, name: str = FAMILY, status: str = "RUNNING") -> list[dict[str, Any]]:
        """Return the tasks of a service that are to run, or that have stopped."""
        arns = self.ecs.list_tasks(serviceName=name, desiredStatus=status)["taskArns"]
        return describe(self.ecs, *arns) if arns else []

    def running(self, name: str = FAMILY) -> list[dict[str, Any]]:
        return [task for task in self.tasks(name) if task["lastStatus"] == "RUNNING"]

    def has_begun(self, version: str) -> bool:
        """Return whether there is a task of a version."""
        revision = f":{version.removeprefix('v')}"
        return any(task["taskDefinitionArn"].endswith(revision) for task in self.tasks())

    def shown(self, name: str = FAMILY) -> object:
        """Return what there is to say of a service when it fails."""
        told = self.service(name)
        tasks = [
            (t["taskArn"][-6:], t["containerInstanceArn"][-6:], t["lastStatus"], t["desiredStatus"])
            for t in (*self.tasks(name), *self.tasks(name, "STOPPED"))
        ]
        return told["deployments"], [e["message"] for e in told["events"][:12]], tasks

    # The hosts

    def instance(self, number: int) -> str:
        """Return the container instance of a host, by its place in the fleet."""
        return str(self.fleet.agents[number].json("status")["instanceArn"])

    def tasks_by_host(self, name: str = FAMILY) -> Counter[str]:
        return Counter(task["containerInstanceArn"] for task in self.tasks(name))

    def is_connected(self, instance: str) -> bool:
        found = self.ecs.describe_container_instances(containerInstances=[instance])
        return bool(found["containerInstances"][0]["agentConnected"])

    def one_container_each(self) -> None:
        """Wait until every task that is to run has one container, on its own host, and there is no other."""
        hosts = {self.instance(number): name for number, name in enumerate(self.record.hosts)}

        def wanted() -> Counter[tuple[str, str]]:
            arns = self.ecs.list_tasks(desiredStatus="RUNNING")["taskArns"]
            found = describe(self.ecs, *arns) if arns else []
            return Counter((hosts[t["containerInstanceArn"]], t["taskArn"]) for t in found)

        def shown() -> object:
            return wanted() - self.record.running(), self.record.running() - wanted()

        eventually(
            lambda: wanted() == self.record.running(),
            within_s=LIMIT_S,
            what="one container for each task",
            shown=shown,
        )

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
                HealthCheckTimeoutSeconds=2,
                HealthyThresholdCount=2,
                UnhealthyThresholdCount=2,
            )
            arn = made["TargetGroups"][0]["TargetGroupArn"]
            self.groups.append(arn)
            delay = {"Key": "deregistration_delay.timeout_seconds", "Value": "10"}
            elb.modify_target_group_attributes(TargetGroupArn=arn, Attributes=[delay])
        action = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}
        listener = elb.create_listener(
            LoadBalancerArn=balancer, Protocol="HTTP", Port=self.port, DefaultActions=[action]
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

    def let_in(self) -> None:
        """Create a security group that lets the proxy reach tasks on every host."""
        ec2 = self.fleet.client("ec2")
        made = ec2.create_security_group(GroupName="web", Description="pages of the shop")
        self.security_group = made["GroupId"]
        ranges = [{"CidrIp": "0.0.0.0/0"}]
        ec2.authorize_security_group_ingress(
            GroupId=self.security_group,
            IpPermissions=[{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "IpRanges": ranges}],
        )

    def end(self) -> None:
        """Delete all services: the end of the fleet could not stop their tasks."""
        for arn in self.ecs.list_services()["serviceArns"]:
            self.ecs.delete_service(service=arn, force=True)


def say(text: str) -> None:
    """Tell what happens, with the time of day."""
    print(f"{time.strftime('%T')} {text}", flush=True)  # noqa: T201


@contextlib.contextmanager
def cut_off(place: Place) -> Iterator[None]:
    """Drop all packets between a host and the others."""
    rules = (
        "table inet cut {\n"
        f"chain in {{ type filter hook prerouting priority -450; iifname {LINK} drop; }}\n"
        f"chain out {{ type filter hook postrouting priority 450; oifname {LINK} drop; }}\n}}\n"
    )
    place.sh("nft -f -", stdin=rules.encode())
    try:
        yield
    finally:
        place.sh("nft delete table inet cut")
