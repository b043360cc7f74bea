"""Terraform itself with its provider for AWS: applies, plans no change, changes, and destroys.

Needs ``terraform`` on the path and the provider in a directory that Terraform reads as a filesystem mirror
(``TF_PROVIDERS``); nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.fleet import KEYS

if TYPE_CHECKING:
    from tests.support.fleet import Fleet

MIRROR = Path(os.environ.get("TF_PROVIDERS", "/opt/tf-plugins"))
PROVIDER = MIRROR / "registry.terraform.io" / "hashicorp" / "aws"
PLAN = Path(__file__).with_name("terraform") / "main.tf"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(shutil.which("terraform") is None, reason="there is no terraform here"),
    pytest.mark.skipif(not PROVIDER.is_dir(), reason="TF_PROVIDERS has no provider for AWS"),
]
NO_CHANGE, HAS_CHANGES = 0, 2
"""Exit codes of ``terraform plan -detailed-exitcode``."""


class Terraform:
    """A directory with the plan, and the commands that work on it."""

    def __init__(self, directory: Path, control: str, image: str) -> None:
        directory.mkdir()
        shutil.copy(PLAN, directory)
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
            "TF_CLI_CONFIG_FILE": str(settings),
            "TF_IN_AUTOMATION": "1",
            "TF_VAR_control": control,
            "TF_VAR_image": image,
            "TF_VAR_desired_count": "1",
            **KEYS,
        }

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

    def plan(self, *, release: int, expect: int) -> None:
        """Compare what there is with a release of the plan."""
        self.run("plan", "-detailed-exitcode", release=release, expect=expect)


@pytest.mark.parametrize("shared_fleet", ["long poll"], indirect=True)
def test_terraform_applies_changes_and_destroys(
    shared_host: Fleet, busybox_image: str, tmp_path: Path
) -> None:
    terraform = Terraform(tmp_path / "shop", shared_host.control.url, busybox_image)
    terraform.run("init")
    terraform.run("apply", "-auto-approve")
    client = shared_host.client()
    (service,) = client.describe_services(services=["web"])["services"]
    assert (service["runningCount"], len(service["deployments"])) == (1, 1), "it waited"
    terraform.plan(release=1, expect=NO_CHANGE)

    terraform.plan(release=2, expect=HAS_CHANGES)
    terraform.run("apply", "-auto-approve", release=2)
    (changed,) = client.describe_services(services=["web"])["services"]
    assert changed["taskDefinition"] != service["taskDefinition"]
    assert (changed["runningCount"], len(changed["deployments"])) == (1, 1)
    terraform.plan(release=2, expect=NO_CHANGE)

    terraform.run("destroy", "-auto-approve", release=2)
    (gone,) = client.describe_services(services=["web"])["services"]
    assert gone["status"] == "INACTIVE"
    assert client.list_task_definitions(familyPrefix="web")["taskDefinitionArns"] == []
    assert shared_host.client("elbv2").describe_load_balancers()["LoadBalancers"] == []
    assert shared_host.client("elbv2").describe_target_groups()["TargetGroups"] == []
    assert shared_host.client("logs").describe_log_groups()["logGroups"] == []
    assert shared_host.client("servicediscovery").list_namespaces()["Namespaces"] == []
