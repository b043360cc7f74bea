"""The packages as they are built: the same twice, whole, without lintian's errors, and they run.

The first run downloads wheels into the builder's cache.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[3]
PYTHON = Path("/usr/bin/python3")


@dataclass(frozen=True)
class Built:
    """One build of the amd64 package and of what the rpm is made of."""

    deb: Path
    tarball: Path
    spec: Path


def build(output: Path, *arguments: str) -> list[Path]:
    command = [sys.executable, str(ROOT / "packaging/build"), "--output", str(output), *arguments]
    # A commit made meanwhile must not show: the date is that of the last one.
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return [Path(line.split()[-1]) for line in answer.stdout.splitlines()]


def build_amd64(output: Path) -> Built:
    kinds = ["--only", "deb", "--only", "tree"]
    build(output, "--arch", "amd64", *kinds, "--version", "9.8.7", "--level", "1")
    tarball = output / "ecs-agent-9.8.7.x86_64.tar.gz"
    return Built(output / "ecs-agent_9.8.7_amd64.deb", tarball, output / "ecs-agent.spec")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_amd64(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "--raw-extract", str(built.deb), str(root)], check=True)
    return root


def test_two_builds_are_the_same(built: Built, tmp_path: Path) -> None:
    umask = os.umask(0o027)  # what a careful builder has must not show
    try:
        again = build_amd64(tmp_path)
    finally:
        os.umask(umask)
    assert again.deb.read_bytes() == built.deb.read_bytes()
    assert again.tarball.read_bytes() == built.tarball.read_bytes()
    assert again.spec.read_bytes() == built.spec.read_bytes()


@pytest.mark.skipif(shutil.which("lintian") is None, reason="lintian is not installed")
def test_lintian_finds_no_error(built: Built) -> None:
    command = ["lintian", "--fail-on", "error", str(built.deb)]
    if os.geteuid() == 0:
        command.insert(1, "--allow-root")
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_the_package_holds_what_it_should(unpacked: Path) -> None:
    names = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    assert names >= {
        "usr/bin/ecs-agent",
        "usr/lib/systemd/system/ecs-agent.service",
        "usr/lib/systemd/system/ecs-agent-control.service",
        "usr/lib/sysusers.d/ecs-agent.conf",
        "usr/lib/tmpfiles.d/ecs-agent.conf",
        "etc/ecs/ecs.config",
        "usr/share/man/man1/ecs-agent.1.gz",
        "usr/share/man/man8/ecs-agent-run.8.gz",
        "usr/share/man/man5/ecs.config.5.gz",
        "usr/share/bash-completion/completions/ecs-agent",
        "usr/share/zsh/vendor-completions/_ecs-agent",
        "usr/share/fish/vendor_completions.d/ecs-agent.fish",
        "usr/share/doc/ecs-agent/copyright",
        "usr/share/doc/ecs-agent/changelog.gz",
        "opt/ecs-agent/lib/agent/controlplane/console/page/index.html",
        "opt/ecs-agent/lib/agent/runtime/pause/pause-amd64",
        "opt/ecs-agent/lib/botocore/data/endpoints.json",
    }
    assert not [n for n in names if n.endswith((".pyc", ".pyi", ".c")) or "/tests/" in n]
    assert "opt/ecs-agent/lib/agent/runtime/pause/pause-arm64" not in names
    assert (unpacked / "etc/ecs/ecs.config").stat().st_mode & 0o777 == 0o640
    assert (unpacked / "DEBIAN/conffiles").read_text() == "/etc/ecs/ecs.config\n"
    control = (unpacked / "DEBIAN/control").read_text()
    assert "Version: 9.8.7\n" in control
    assert "Conflicts: amazon-ecs-init\n" in control


def test_the_services_start_what_is_installed(unpacked: Path) -> None:
    for name in ("ecs-agent", "ecs-agent-control"):
        unit = (unpacked / f"usr/lib/systemd/system/{name}.service").read_text()
        (program,) = re.findall(r"(?m)^ExecStart=(\S+)", unit)
        launcher = unpacked / program.lstrip("/")
        assert launcher.stat().st_mode & 0o777 == 0o755
        assert launcher.read_text().startswith("#!/opt/ecs-agent/bin/python3 -ISB"), program


def test_every_python_has_every_compiled_module(unpacked: Path) -> None:
    modules: dict[str, set[str]] = {}
    for path in (unpacked / "opt/ecs-agent/lib").rglob("*.cpython-*.so"):
        name, tag = re.fullmatch(r"(.+)\.cpython-(\d+)-x86_64-linux-gnu\.so", path.name).groups()  # type: ignore[union-attr]
        modules.setdefault(re.sub(r"^[0-9a-f]{20}__mypyc$", "mypyc", name), set()).add(tag)
    assert len(modules) > 5
    assert {frozenset(tags) for tags in modules.values()} == {
        frozenset({"311", "312", "313", "314"})
    }


def test_the_package_for_arm_holds_nothing_for_another_machine(tmp_path: Path) -> None:
    build(tmp_path, "--arch", "arm64", "--only", "tree", "--version", "9.8.7")
    aarch64 = 183  # EM_AARCH64
    with tarfile.open(tmp_path / "ecs-agent-9.8.7.aarch64.tar.gz") as archive:
        programs = {}
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            head = content.read(20) if content is not None else b""
            if head.startswith(b"\x7fELF"):
                programs[Path(member.name).name] = int.from_bytes(head[18:20], "little")
    assert "pause-arm64" in programs
    assert len(programs) > 30
    assert set(programs.values()) == {aarch64}


@pytest.fixture(scope="module")
def runs(unpacked: Path) -> list[str]:
    """Return how the unpacked command is called: the launcher's own switches and path."""
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True)
    if not re.match(r"Python 3\.1[1-4]\.", version.stdout):
        pytest.skip(f"the system's {version.stdout.strip()} is not what the package is for")
    launcher = (unpacked / "usr/bin/ecs-agent").read_text()
    home = str(unpacked / "opt/ecs-agent/lib")
    moved = launcher.replace('"/opt/ecs-agent/lib"', repr(home))
    assert moved != launcher
    script = unpacked / "moved"
    script.write_text(moved)
    switches = launcher.splitlines()[0].split()[1]
    return [str(PYTHON), switches, str(script)]


def test_the_command_runs_on_its_own_libraries_alone(runs: list[str], tmp_path: Path) -> None:
    trap = tmp_path / "click.py"
    trap.write_text("raise SystemExit('a library from elsewhere was loaded')\n")
    answer = subprocess.run(
        [*runs, "version", "--json", "--socket", "/nonexistent"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(answer.stdout) == {"version": "9.8.7", "running": ""}


def test_everything_that_can_run_finds_its_libraries(runs: list[str], unpacked: Path) -> None:
    """Import every module of the agent, and do what loads more: tables, the ECS model, an engine."""
    library = unpacked / "opt/ecs-agent/lib"
    program = f"""
import sys; sys.path.append({str(library)!r})
import importlib, pathlib
for path in sorted(pathlib.Path({str(library)!r}).glob("agent/**/*.py")):
    parts = path.relative_to({str(library)!r}).with_suffix("").parts
    if parts[-1] not in ("__main__", "child"):
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
from botocore.session import Session
for service in ("ecs", "ec2", "ssm", "sts"):
    Session().create_client(service, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
from agent.controlplane.api.table import APIS
from agent.controlplane.front.service_model import ApiModel
for api in APIS:
    ApiModel.load(api.service)
from rich.console import Console
from rich.table import Table
Console(force_terminal=True, file=open("/dev/null", "w")).print(Table("a"))
import docker; docker.DockerClient("unix:///nonexistent", version="1.41")
import pynvml, psutil, pyroute2
"""
    subprocess.run([runs[0], "-ISB", "-c", program], check=True)


def test_maintainer_scripts_name_the_users_of_the_package(unpacked: Path) -> None:
    users = re.findall(
        r"(?m)^u\S*\s+(\S+)", (unpacked / "usr/lib/sysusers.d/ecs-agent.conf").read_text()
    )
    assert f'users="{" ".join(users)}"' in (unpacked / "DEBIAN/postrm").read_text()


def test_the_rpm_installs_every_file_of_the_tree(built: Built) -> None:
    """The spec lists its files by hand: each entry of the tree must be below one of its lines."""
    spec = built.spec.read_text()
    assert "\nVersion: 9.8.7\n" in spec
    listed = [line.split()[-1] for line in spec.partition("\n%files\n")[2].splitlines() if line]
    patterns = [re.escape(entry).replace(r"\*", "[^/]*") for entry in listed if entry[0] == "/"]
    moved = {"/usr/share/zsh/vendor-completions": "/usr/share/zsh/site-functions"}
    with tarfile.open(built.tarball) as archive:
        for member in archive:
            place = "/" + member.name.partition("/")[2]
            for old, new in moved.items():
                place = place.replace(old, new)
            assert (member.uname, member.uid) == ("root", 0)
            if not member.isdir():
                assert any(re.fullmatch(rf"{p}(/.*)?", place) for p in patterns), place
