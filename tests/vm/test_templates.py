"""The templates as Debian's Packer reads them; nothing is built and nobody is asked."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.vm.images import TEMPLATES, options, packer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.vm, pytest.mark.essential]

AMAZON = "-only=*.amazon-ebs.*"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """What must be given, and enough for a build with qemu to be thought through."""
    package, disk, seed = tmp_path / "agent.deb", tmp_path / "disk.qcow2", tmp_path / "seed"
    package.touch()
    disk.touch()
    subprocess.run([TEMPLATES / "new-seed", seed], check=True, timeout=30, capture_output=True)
    return {
        "packages": f'["{package}"]',
        "qemu_image_url": str(disk),
        "qemu_image_checksum": "none",
        "qemu_seed": str(seed),
    }


def test_all_templates_are_valid(variables: dict[str, str], tmp_path: Path) -> None:
    packer("validate", *options(variables), TEMPLATES, folder=tmp_path)


def test_images_for_amazon_need_neither_credentials_nor_a_seed(
    variables: dict[str, str], tmp_path: Path
) -> None:
    given = {"packages": variables["packages"], "aws_region": "eu-central-1"}

    packer("validate", AMAZON, *options(given), TEMPLATES, folder=tmp_path)


def test_images_for_arm64_on_qemu_are_valid(variables: dict[str, str], tmp_path: Path) -> None:
    given = {**variables, "qemu_arch": "aarch64", "qemu_accelerator": "tcg"}

    packer("validate", "-only=*.qemu.host", *options(given), TEMPLATES, folder=tmp_path)


def test_every_image_is_offered(tmp_path: Path, variables: dict[str, str]) -> None:
    said = packer("inspect", *options(variables), TEMPLATES, folder=tmp_path)

    assert said.count("amazon-ebs.host") == 4
    assert "qemu.host" in said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("packages", "[]", "make package"),
        ("settings", '{CLUSTER="shop"}', "docs/configuration.md"),
        ("image_name", "a/b", "image_name must be"),
        ("docker_package", "a b", "one package name"),
        ("aws_region", "europe", "us-east-1"),
        ("aws_share_with", '["me"]', "12 digits"),
        ("aws_ssh_interface", "wifi", "session_manager"),
        ("aws_volume_size_gib", "4", "from 8 to 16384"),
        ("aws_amazon_linux_kernel", "new", "look like 6.1"),
        ("qemu_image_checksum", "md5", "sha256:HEX"),
        ("qemu_arch", "sparc", "aarch64"),
        ("qemu_accelerator", "warp", "kvm, hvf, tcg or none"),
        ("qemu_cpus", "1.5", "an integer"),
        ("qemu_memory_mib", "64", "at least 512"),
        ("qemu_disk_size", "20", "20G"),
    ],
)
def test_a_bad_value_is_refused_with_the_mend(
    variables: dict[str, str], tmp_path: Path, name: str, value: str, told: str
) -> None:
    given = options({**variables, name: value})

    with pytest.raises(AssertionError) as failed:
        packer("validate", *given, TEMPLATES, folder=tmp_path)

    assert told in " ".join(str(failed.value).split())


def test_the_templates_are_formatted() -> None:
    for folder in (TEMPLATES, TEMPLATES / "plugins"):
        done = subprocess.run(
            ["packer", "fmt", "-check", "-diff", folder],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout
