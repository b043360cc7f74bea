"""The steps that make an image fit to be cloned, run on a tree that looks like a used host.

What they do to a running host (services, caches of package managers) is proved by tests/vm.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "packer/scripts"
CLEAN, CHECK = SCRIPTS / "80-clean-identity.sh", SCRIPTS / "90-check-image.sh"
MACHINE_ID = "0123456789abcdef0123456789abcdef\n"

LEFTOVERS = {
    "etc/ssh/ssh_host_ed25519_key": "private",
    "etc/ecs/control.token": "token",
    "etc/docker/key.json": "{}",
    "etc/netplan/50-cloud-init.yaml": "macaddress: 52:54:00:12:34:56",
    "root/.ssh/authorized_keys": "ssh-ed25519 AAAA",
    "root/.bash_history": "secret",
    "home/admin/.ssh/authorized_keys": "ssh-ed25519 AAAA",
    "home/admin/.ssh/id_ed25519": "private",
    "home/admin/.docker/config.json": "{}",
    "var/lib/ecs/data/agent.db": "instance",
    "var/lib/docker/engine-id": "id",
    "var/lib/docker/network/files/local-kv.db": "networks",
    "var/lib/docker/swarm/state.json": "{}",
    "var/lib/cloud/data/instance-id": "i-1",
    "var/lib/amazon/ssm/registration": "mi-1",
    "var/lib/amazon/ssm/Vault/Store/InstanceFingerprint": "fingerprint",
    "var/lib/systemd/random-seed": "seed",
    "var/lib/systemd/credential.secret": "secret",
    "var/lib/NetworkManager/secret_key": "secret",
    "var/lib/NetworkManager/internal-eth0.lease": "lease",
    "var/lib/dhcp/dhclient.eth0.leases": "lease",
    "var/lib/dbus/machine-id": MACHINE_ID,
    "var/log/journal/0123/system.journal": "journal",
    "var/log/auth.log": "log",
    "var/log/ecs/agent.log": "log",
    "var/log/wtmp": "logins",
    "var/cache/apt/archives/tree_2_amd64.deb": "package",
    "var/cache/dnf/packages.db": "cache",
    "tmp/answer": "42",
    "var/tmp/answer": "42",
}
KEPT = {
    "etc/hostname": "ecs\n",
    "etc/ecs/ecs.config": "ECS_CLUSTER=shop\n",
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/shadow": "root:*::0:99999:7:::\n",
    "etc/group": "root:x:0:\n",
    "etc/sudoers.d/README": "# read me\n",
    "home/admin/.profile": "umask 022\n",
    "var/lib/docker/image/overlay2/repositories.json": "{}",
    "tmp/systemd-private-1/tmp/held": "by a service",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system with everything in it that must stay."""
    for folder in ("tmp", "var/tmp", "var/log", "home", "root"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path, {"etc/machine-id": "", **KEPT})
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(script: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "IMAGE_ROOT": str(root),
        "IMAGE_UPLOADS": f"{root}/var/tmp/ecs-image",
    }
    return subprocess.run(
        ["bash", script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_whatever_is_left_fails_the_check_by_name(root: Path) -> None:
    write(root, LEFTOVERS)

    checked = run(CHECK, root)

    assert checked.returncode == 1
    said = "left in the image: /"
    named = [line.removeprefix(said) for line in checked.stderr.splitlines() if said in line]
    for leftover in LEFTOVERS:
        assert any(leftover.startswith(path) for path in named), leftover
    assert len(named) == len(LEFTOVERS), checked.stderr
    assert f"{len(named)} faults" in checked.stderr


def test_a_machine_id_must_be_there_and_empty(root: Path) -> None:
    (root / "etc/machine-id").write_text(MACHINE_ID)
    assert "/etc/machine-id is not empty" in run(CHECK, root).stderr

    (root / "etc/machine-id").unlink()
    assert "without /etc/machine-id" in run(CHECK, root).stderr


@pytest.mark.parametrize(
    "files",
    [
        {"etc/passwd": KEPT["etc/passwd"] + "ecs-build:x:1000:1000::/home/ecs-build:/bin/bash\n"},
        {"etc/sudoers.d/90-cloud-init-users": "ecs-build ALL=(ALL) NOPASSWD:ALL\n"},
        {"home/ecs-build/.profile": ""},
    ],
    ids=["account", "sudo", "home"],
)
def test_the_user_of_the_build_must_be_gone_at_the_end(root: Path, files: dict[str, str]) -> None:
    write(root, files)

    assert run(CHECK, root).returncode == 0
    assert "ecs-build" in run(CHECK, root, "ecs-build").stderr


def test_a_clean_image_passes(root: Path) -> None:
    checked = run(CHECK, root, "ecs-build")

    assert (checked.returncode, checked.stderr) == (0, "")


def test_cleaning_takes_every_leftover_and_keeps_the_rest(root: Path) -> None:
    write(root, {**LEFTOVERS, "etc/machine-id": MACHINE_ID, "etc/passwd-": "old accounts"})
    write(root, {"var/tmp/ecs-image/agent.deb": "package"})

    cleaned = run(CLEAN, root)

    assert (cleaned.returncode, cleaned.stderr) == (0, "")
    assert run(CHECK, root).stderr == ""
    assert {name: (root / name).read_text() for name in KEPT} == KEPT
    assert not (root / "var/tmp/ecs-image").exists()
    assert not (root / "etc/passwd-").exists()


def test_cleaning_twice_is_cleaning_once(root: Path) -> None:
    write(root, LEFTOVERS)

    assert [run(CLEAN, root).returncode, run(CLEAN, root).returncode] == [0, 0]
    assert run(CHECK, root).returncode == 0


def test_a_name_that_cloud_init_gave_goes_with_it(root: Path) -> None:
    write(root, {"var/lib/cloud/data/set-hostname": "{}"})

    assert run(CLEAN, root).returncode == 0

    assert not (root / "etc/hostname").exists()


def test_a_link_to_the_machine_id_stays(root: Path) -> None:
    (root / "var/lib/dbus").mkdir(parents=True)
    (root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")

    assert run(CLEAN, root).returncode == 0

    assert (root / "var/lib/dbus/machine-id").is_symlink()
    assert run(CHECK, root).returncode == 0
