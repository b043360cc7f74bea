"""What the steps write into a host's configuration: whole, valid, and the same the second time."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

PACKER = Path(__file__).parents[3] / "packer"
DAEMON = "etc/docker/daemon.json"


def run(step: str, root: Path) -> None:
    (script,) = (PACKER / "scripts").glob(f"{step}-*.sh")
    environment = {"PATH": os.environ["PATH"], "IMAGE_ROOT": str(root)}
    subprocess.run(["bash", script], env=environment, check=True, timeout=30)


def daemon(root: Path, given: object = None) -> dict[str, object]:
    """Return what the engine's configuration becomes, run twice."""
    if given is not None:
        (root / DAEMON).parent.mkdir(parents=True)
        (root / DAEMON).write_text(json.dumps(given))
    run("50", root)
    first = (root / DAEMON).read_text()
    run("50", root)
    assert (root / DAEMON).read_text() == first
    return dict(json.loads(first))


def test_containers_outlive_the_engine_and_logs_are_bounded(tmp_path: Path) -> None:
    assert daemon(tmp_path) == {
        "live-restore": True,
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "3"},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bip": "10.9.0.1/24"}, {"bip": "10.9.0.1/24", "live-restore": True}),
        ({"live-restore": False}, {"live-restore": False}),
        ({"log-opts": {"max-size": "1g"}}, {"log-opts": {"max-size": "1g"}}),
    ],
)
def test_what_was_configured_stays(
    tmp_path: Path, given: dict[str, object], expected: dict[str, object]
) -> None:
    assert daemon(tmp_path, given).items() >= expected.items()


def test_options_of_json_file_are_not_given_to_another_log_driver(tmp_path: Path) -> None:
    assert daemon(tmp_path, {"log-driver": "journald"}) == {
        "log-driver": "journald",
        "live-restore": True,
    }


def test_kernel_limits_are_names_and_numbers(tmp_path: Path) -> None:
    run("55", tmp_path)
    run("55", tmp_path)

    text = (tmp_path / "etc/sysctl.d/60-ecs-host.conf").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"-?[a-z0-9_.]+ = [0-9]+", line) for line in lines), lines


def test_links_of_the_agent_are_left_alone(tmp_path: Path) -> None:
    run("60", tmp_path)

    network = read(tmp_path / "etc/systemd/network/05-ecs-unmanaged.network")
    link = read(tmp_path / "etc/systemd/network/05-ecs-unmanaged.link")
    manager = read(tmp_path / "etc/NetworkManager/conf.d/60-ecs-unmanaged.conf")
    names = network["Match"]["Name"].split()
    assert {"ecs*", "veth*"} <= set(names)
    assert network["Link"]["Unmanaged"] == "yes"
    assert link["Match"]["OriginalName"].split() == names
    assert manager["keyfile"]["unmanaged-devices"].split(";") == [
        f"interface-name:{name}" for name in names
    ]


def read(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    parser.read_string(path.read_text())
    return parser


def test_a_seed_lets_in_the_key_that_it_was_made_with(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    new_seed = PACKER / "new-seed"
    subprocess.run([new_seed, seed], check=True, timeout=30, stdout=subprocess.DEVNULL)
    first = (seed / "meta-data").read_text()

    public = (seed / "id_ed25519.pub").read_text().strip()
    assert f"- {public}\n" in (seed / "user-data").read_text()
    assert (seed / "user-data").read_text().startswith("#cloud-config\n")
    assert (seed / "id_ed25519").stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(r"instance-id: ecs-build-[0-9a-f]{16}\n", first)

    subprocess.run([new_seed, seed], check=True, timeout=30, stdout=subprocess.DEVNULL)
    assert (seed / "meta-data").read_text() != first
    assert (seed / "id_ed25519.pub").read_text().strip() != public


def test_the_templates_and_the_seed_agree_on_the_user() -> None:
    user = 'build_user = "ecs-build"'

    assert user in (PACKER / "locals.pkr.hcl").read_text()
    assert "name: ecs-build\n" in (PACKER / "new-seed").read_text()


def test_every_step_is_run_and_every_step_that_is_run_exists() -> None:
    template = (PACKER / "build.pkr.hcl").read_text()

    named = re.findall(r"/scripts/([a-z0-9-]+\.sh)", template)

    assert {*named} == {path.name for path in (PACKER / "scripts").iterdir()}
    steps = [name for name in dict.fromkeys(named) if name[0].isdigit() and name[:2] != "90"]
    assert steps == sorted(steps)


def test_requirements_are_out_of_sight_of_a_packer_that_stops_at_them() -> None:
    beside = "".join(path.read_text() for path in PACKER.glob("*.pkr.hcl"))
    below = (PACKER / "plugins/plugins.pkr.hcl").read_text()

    assert "required_plugins" not in beside
    assert all(f"github.com/hashicorp/{name}" in below for name in ("amazon", "qemu"))
