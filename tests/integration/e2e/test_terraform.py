"""Terraform itself with its provider for AWS: applies, plans no change, changes, and destroys.

Needs ``terraform`` on the path and the provider in a directory that Terraform reads as a filesystem mirror
(``TF_PROVIDERS``); nothing is downloaded. With ``ECS_TEST_RECORD_TERRAFORM=1``, the calls are kept for
``tests/unit/controlplane/api/test_terraform_calls.py``, which makes them where there is no Terraform.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import generated, terraform_calls
from tests.support.fleet import KEYS, Fleet, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

MIRROR = Path(os.environ.get("TF_PROVIDERS", "/opt/tf-plugins"))
PROVIDER = MIRROR / "registry.terraform.io" / "hashicorp" / "aws"
PLAN = Path(__file__).with_name("terraform")
PAGE = generated.DOCS / "terraform.md"
EXAMPLE = re.compile(r"^```hcl\n(.*?)^```$", re.DOTALL | re.MULTILINE)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform here"),
    pytest.mark.skipif(not PROVIDER.is_dir(), reason="TF_PROVIDERS has no provider for AWS"),
]
NO_CHANGE, HAS_CHANGES = 0, 2
"""Exit codes of ``terraform plan -detailed-exitcode``."""
ADDRESS = "http://127.0.0.1:6820"
"""That of control, in the examples."""


class Terraform:
    """A directory with a plan, and the commands that work on it."""

    def __init__(self, directory: Path, told: dict[str, str], **variables: str) -> None:
        settings = directory / "cli.tfrc"
        settings.write_text(
            "disable_checkpoint = true\n"
            f'provider_installation {{\n  filesystem_mirror {{ path = "{MIRROR}" }}\n}}\n'
        )
        self._directory = directory
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "GOMAXPROCS": "2",
            # The provider builds the schema of all of AWS in each command, half a GiB of objects that stay:
            # to collect garbage meanwhile, as Go does each time a heap doubles, finds little.
            "GOGC": "off",
            "GOMEMLIMIT": "1500MiB",
            "TF_CLI_CONFIG_FILE": str(settings),
            "TF_IN_AUTOMATION": "1",
            **{f"TF_VAR_{name}": value for name, value in variables.items()},
            **KEYS,
            **told,
        }
        self.run("init")

    def run(self, command: str, *words: str, release: int = 1, expect: int = 0) -> None:
        """Run a command for a release of the plan; it must end with the exit code."""
        done = subprocess.run(
            ["terraform", command, "-no-color", "-input=false", *words],
            cwd=self._directory,
            env={**self._environment, "TF_VAR_release": str(release)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == expect, f"terraform {command} {words}:\n{done.stdout}"

    def plan(self, *words: str, release: int, expect: int) -> None:
        """Compare what there is with a release of the plan."""
        self.run("plan", "-detailed-exitcode", *words, release=release, expect=expect)


@pytest.fixture(scope="module")
def fargate_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    # What ``standalone`` tells its agent.
    directory = tmp_path_factory.mktemp("terraform")
    with fleet(directory, ECS_OFFER_FARGATE="true", ECS_FARGATE_ALL_CLUSTERS="true") as made:
        yield made


def nothing_is_left(host: Fleet) -> None:
    """Fail if there is more than before the first apply."""
    lists: dict[str, tuple[tuple[str, str], ...]] = {
        "application-autoscaling": (),
        "cloudwatch": (("describe_alarms", "MetricAlarms"),),
        "elbv2": (
            ("describe_load_balancers", "LoadBalancers"),
            ("describe_target_groups", "TargetGroups"),
        ),
        "events": (("list_rules", "Rules"),),
        "iam": (("list_roles", "Roles"),),
        "logs": (("describe_log_groups", "logGroups"),),
        "scheduler": (("list_schedules", "Schedules"),),
        "secretsmanager": (("list_secrets", "SecretList"),),
        "servicediscovery": (
            ("list_namespaces", "Namespaces"),
            ("list_services", "Services"),
        ),
        "ssm": (("describe_parameters", "Parameters"),),
        "ecs": (("list_services", "serviceArns"), ("list_task_definitions", "taskDefinitionArns")),
    }
    for service, calls in lists.items():
        client: Any = host.client(service)
        for call, member in calls:
            assert getattr(client, call)()[member] == [], f"{service} {call}"
    scaling = host.client("application-autoscaling")
    assert scaling.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []
    groups = host.client("ec2").describe_security_groups()["SecurityGroups"]
    assert [group["GroupName"] for group in groups] == ["default"]
    (cluster,) = host.client().list_clusters()["clusterArns"]
    assert cluster.endswith("/default")


def test_terraform_applies_changes_and_destroys(
    fargate_host: Fleet, busybox_image: str, tmp_path: Path
) -> None:
    host = fargate_host
    place = Path(shutil.copytree(PLAN, tmp_path / "shop"))
    with terraform_calls.Relay(host.control.url) as relay:
        endpoint = {"AWS_ENDPOINT_URL": relay.url}
        terraform = Terraform(place, endpoint, image=busybox_image, desired_count="1")
        terraform.run("apply", "-auto-approve")
        client = host.client()
        (service,) = client.describe_services(services=["web"])["services"]
        assert (service["runningCount"], len(service["deployments"])) == (1, 1), "it waited"
        (page,) = client.describe_services(cluster="shop", services=["page"])["services"]
        assert page["runningCount"] == 1
        terraform.plan(release=1, expect=NO_CHANGE)

        planned = str(tmp_path / "release-2")
        terraform.plan("-out", planned, release=2, expect=HAS_CHANGES)
        terraform.run("apply", planned)
        (changed,) = client.describe_services(services=["web"])["services"]
        assert changed["taskDefinition"] != service["taskDefinition"]
        assert (changed["runningCount"], len(changed["deployments"])) == (1, 1)
        terraform.plan(release=2, expect=NO_CHANGE)

        terraform.run("destroy", "-auto-approve", release=2)
    nothing_is_left(host)
    assert len(relay.calls) > 100
    if os.environ.get("ECS_TEST_RECORD_TERRAFORM"):
        terraform_calls.keep(relay.calls)


def test_the_page_about_terraform_does_what_it_says(
    fargate_host: Fleet, busybox_image: str, tmp_path: Path
) -> None:
    example, provider = EXAMPLE.findall(PAGE.read_text())
    # The page's image serves by itself; that of the tests has to be told to.
    told = 'image        = var.image\n    command      = ["httpd", "-f", "-p", "80"]\n'
    assert example.count("image        = var.image\n") == 1
    example = example.replace("image        = var.image\n", told)
    # The endpoints are those of the second example: the other test has them in the environment.
    assert (example.count('provider "aws" {}\n'), provider.count(ADDRESS)) == (1, 1)
    provider = provider.replace(ADDRESS, fargate_host.control.url)
    (tmp_path / "main.tf").write_text(example.replace('provider "aws" {}\n', provider))
    terraform = Terraform(tmp_path, {}, image=busybox_image)
    terraform.run("apply", "-auto-approve")
    (service,) = fargate_host.client().describe_services(cluster="hello", services=["hello"])[
        "services"
    ]
    assert service["runningCount"] == 1
    terraform.plan(release=1, expect=NO_CHANGE)
    terraform.run("destroy", "-auto-approve")
    nothing_is_left(fargate_host)
