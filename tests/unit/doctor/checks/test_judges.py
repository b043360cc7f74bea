"""The verdict of each check on what may be seen."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent.config import Settings
from agent.control.hello import Meeting
from agent.doctor.checks import (
    cgroups,
    clock,
    control,
    credentials,
    disk,
    docker,
    forwarding,
    gpu,
    kernel,
    pause,
    ports,
    resolvers,
    rivals,
    settings,
)
from agent.doctor.checks.control import Contact
from agent.doctor.findings import Finding, Level
from agent.doctor.host import EngineFacts
from agent.doctor.reading import Output
from agent.doctor.routes import Route
from agent.doctor.sockets import Listener, Process
from agent.model.resources import Gpu
from agent.model.wire import Hello
from agent.resources.gpu import GpuReport

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 1024**3
GOOD_INFO: dict[str, Any] = {
    "CgroupDriver": "systemd",
    "CgroupVersion": "2",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "LiveRestoreEnabled": True,
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "LoggingDriver": "local",
    "Plugins": {"Log": ["json-file", "local"]},
}
VERSION = {"Version": "20.10.24", "ApiVersion": "1.41"}


def engine(**changes: Any) -> EngineFacts:
    return EngineFacts(info={**GOOD_INFO, **changes}, version=VERSION)


def levels(findings: Sequence[Finding]) -> set[str]:
    """Return the levels; what is wrong must be one line, and all that is not well has a mend."""
    for finding in findings:
        assert "\n" not in finding.seen + finding.mend + finding.command
        assert not finding.seen.endswith(".")
        assert finding.level is not Level.OK or not finding.mend + finding.command
    return {finding.level.value for finding in findings}


def only(findings: Sequence[Finding], level: Level) -> Finding:
    """Return the one finding of a level."""
    found = [finding for finding in findings if finding.level is level]
    assert len(found) == 1, findings
    return found[0]


# --- settings


def test_each_problem_of_the_settings_is_one_line_with_its_mend() -> None:
    findings = settings.judge(
        problems=["ecs.config:3: ECS_X is not a known setting; did you mean ECS_Y?", "no mend"],
        warnings=[],
        files=[],
        is_root=True,
    )
    errors = [finding for finding in findings if finding.level is Level.ERROR]
    assert errors[0].seen == "ecs.config:3: ECS_X is not a known setting"
    assert errors[0].mend == "did you mean ECS_Y?"
    assert errors[1].seen == "no mend"
    assert "as if" in only(findings, Level.WARNING).seen


def test_settings_without_problems_name_their_files() -> None:
    findings = settings.judge(
        problems=[], warnings=[], files=[Path("/etc/ecs/ecs.config")], is_root=True
    )
    assert findings[0].seen == "read from /etc/ecs/ecs.config"
    assert levels(settings.judge(problems=[], warnings=["w"], files=[], is_root=False)) == {
        "ok",
        "warning",
    }


# --- credentials


def test_a_token_file_must_be_roots_alone() -> None:
    good = credentials.SecretFile(path="/etc/ecs/token")
    assert levels(credentials.judge(good, endpoint="http://c")) == {"ok"}
    for wrong in ({"mode": 0o644}, {"owner": 1000}):
        findings = credentials.judge(msgspec.structs.replace(good, **wrong), endpoint="https://c")
        assert "chmod 600 /etc/ecs/token" in only(findings, Level.ERROR).command


def test_a_token_file_that_is_of_no_use(tmp_path: Path) -> None:
    missing = credentials.look_at(tmp_path / "token")
    assert "join" in only(credentials.judge(missing, endpoint="x"), Level.ERROR).command
    (tmp_path / "token").write_text("two words")
    found = credentials.look_at(tmp_path / "token")
    finding = only(credentials.judge(found, endpoint="http://c"), Level.ERROR)
    assert "is no token" in finding.seen
    assert "two words" not in finding.seen


@pytest.mark.parametrize(
    ("endpoint", "level"),
    [("", "ok"), ("http://127.0.0.1:6820", "ok"), ("https://c", "ok"), ("http://c", "warning")],
)
def test_no_token_matters_where_others_listen(endpoint: str, level: str) -> None:
    assert levels(credentials.judge(None, endpoint=endpoint)) == {level}


# --- kernel


def judged_kernel(**changes: Any) -> list[Finding]:
    seen: dict[str, Any] = {
        "release": "6.1.0-18-amd64",
        "nft": Output(code=0, out="nftables v1.0.6\n"),
        "iptables": Output(code=0, out="iptables v1.8.9 (nf_tables)\n"),
        "probed": {"namespace": "", "veth": "", "bridge": "", "nftables": ""},
        "docker_chain": True,
        "is_root": True,
    }
    return kernel.judge(**{**seen, **changes})


def test_a_kernel_that_can_do_it_all() -> None:
    assert levels(judged_kernel()) == {"ok"}


def test_what_the_kernel_cannot_do_is_an_error_with_its_module() -> None:
    findings = judged_kernel(probed={"namespace": "", "veth": "Operation not supported"})
    assert "modprobe veth" in only(findings, Level.ERROR).command
    assert only(judged_kernel(probed={"trial": "exit code 1"}), Level.WARNING).mend


def test_missing_programs() -> None:
    gone = Output(code=127, err="nft is not installed")
    probed = {"namespace": "", "nftables": "nft is not installed"}
    assert "nftables" in only(judged_kernel(nft=gone, probed=probed), Level.ERROR).mend
    assert levels(judged_kernel(iptables=gone)) == {"ok", "warning"}


def test_an_old_kernel_and_no_root() -> None:
    assert levels(judged_kernel(release="4.14.336-amzn2")) == {"ok", "warning"}
    assert levels(judged_kernel(is_root=False, probed={})) == {"ok", "warning"}
    assert kernel.release_of("6.18.44-fc") == (6, 18)
    assert kernel.release_of("strange") == (0, 0)


# --- cgroups

V2 = cgroups.Cgroups(
    version=2, controllers=frozenset({"cpu", "memory", "pids"}), systemd=True, swap_kib=1024
)


def test_cgroups_that_fit() -> None:
    assert levels(cgroups.judge(V2, engine())) == {"ok"}
    assert levels(cgroups.judge(V2, EngineFacts(trouble="away"))) == {"ok"}


@pytest.mark.parametrize(
    ("info", "level", "word"),
    [
        ({"CgroupDriver": "cgroupfs"}, "warning", "native.cgroupdriver=systemd"),
        ({"CgroupDriver": "none"}, "error", "as root"),
        ({"CgroupVersion": "1"}, "error", "restart"),
        ({"MemoryLimit": False}, "error", "cgroup_enable=memory"),
        ({"SwapLimit": False}, "warning", "swapoff"),
        ({"PidsLimit": False}, "warning", ""),
        ({"CpuCfsQuota": False}, "warning", ""),
    ],
)
def test_an_engine_that_does_not_fit(info: dict[str, Any], level: str, word: str) -> None:
    finding = only(cgroups.judge(V2, engine(**info)), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_swap_does_not_matter_where_there_is_none() -> None:
    bare = msgspec.structs.replace(V2, swap_kib=0)
    assert levels(cgroups.judge(bare, engine(SwapLimit=False))) == {"ok"}


def test_controllers_that_are_off() -> None:
    table = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t1\t1\nmemory\t0\t1\t0\n"
    found = cgroups.Cgroups(version=1, controllers=cgroups.enabled_controllers(table))
    assert found.controllers == {"cpu"}
    findings = cgroups.judge(found, EngineFacts(trouble="away"))
    assert "memory controller is off" in only(findings, Level.ERROR).seen
    assert cgroups.swap_kib("MemTotal: 1 kB\nSwapTotal:   2048 kB\n") == 2048


# --- docker


def test_an_engine_as_it_should_be() -> None:
    assert levels(docker.judge(engine(), docker.Around(socket_mode=0o660))) == {"ok"}


@pytest.mark.parametrize(
    ("info", "level", "word"),
    [
        ({"LiveRestoreEnabled": False}, "warning", '"live-restore": true'),
        (
            {"LiveRestoreEnabled": False, "Swarm": {"LocalNodeState": "active"}},
            "warning",
            "swarm leave",
        ),
        ({"Driver": "vfs"}, "warning", "overlay2"),
        ({"DriverStatus": [["Supports d_type", "false"]]}, "error", "ftype=1"),
        ({"LoggingDriver": "json-file"}, "warning", "max-size"),
        ({"SecurityOptions": ["name=rootless"]}, "error", "as root"),
        ({"SecurityOptions": ["name=userns"]}, "warning", "userns-remap"),
        ({"DockerRootDir": "/var/snap/docker/common"}, "warning", "packages"),
        (
            {"Warnings": ["WARNING: API is accessible on http://0.0.0.0:2375 without encryption."]},
            "warning",
            "TLS",
        ),
    ],
)
def test_an_engine_that_is_not(info: dict[str, Any], level: str, word: str) -> None:
    finding = only(docker.judge(engine(**info), docker.Around()), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_logs_may_grow_where_they_are_limited() -> None:
    around = docker.Around(daemon_json='{"log-opts": {"max-size": "10m"}}')
    assert levels(docker.judge(engine(LoggingDriver="json-file"), around)) == {"ok"}


def test_a_log_driver_that_the_engine_does_not_have() -> None:
    around = docker.Around(wanted_log_drivers=("json-file", "none", "awsfirelens", "splunk"))
    finding = only(docker.judge(engine(), around), Level.WARNING)
    assert "offers splunk, which" in finding.seen


def test_who_may_ask_the_engine() -> None:
    findings = docker.judge(engine(), docker.Around(socket_mode=0o666))
    assert "every user" in only(findings, Level.WARNING).seen
    findings = docker.judge(engine(), docker.Around(daemon_json="{"))
    assert "will not start again" in only(findings, Level.ERROR).seen


@pytest.mark.parametrize(
    ("refused", "installed", "word"),
    [
        ("missing", False, "install"),
        ("missing", True, "systemctl enable --now docker"),
        ("stopped", True, "systemctl enable --now docker"),
        ("forbidden", True, "sudo"),
        ("", True, "journalctl"),
    ],
)
def test_an_engine_that_does_not_answer(refused: str, installed: bool, word: str) -> None:
    away = EngineFacts(trouble="no answer", refused=refused)
    finding = only(docker.judge(away, docker.Around(installed=installed)), Level.ERROR)
    assert word in finding.command


@pytest.mark.parametrize(
    ("version", "level"), [("19.03.15", "error"), ("29.1.0", "ok"), ("?", "ok")]
)
def test_versions(version: str, level: str) -> None:
    facts = EngineFacts(info=GOOD_INFO, version={"Version": version})
    assert level in levels(docker.judge(facts, docker.Around()))


def test_podman_in_dockers_place() -> None:
    version = {"Version": "4.3.1", "Components": [{"Name": "Podman Engine"}]}
    facts = EngineFacts(info=GOOD_INFO, version=version)
    assert "Podman" in only(docker.judge(facts, docker.Around()), Level.ERROR).seen


# --- pause


def test_the_pause_image() -> None:
    assert levels(pause.judge("x86_64", "p:1", loaded=True)) == {"ok"}
    assert levels(pause.judge("x86_64", "p:1", loaded=False)) == {"ok"}
    assert levels(pause.judge("x86_64", "p:1", loaded=None)) == {"warning"}
    assert levels(pause.judge("riscv64", "", loaded=None, unsupported="none")) == {"error"}


# --- disk

STATE = disk.Place(
    what="the agent's state",
    path="/var/lib/ecs/data",
    exists=True,
    mode=0o700,
    size=100 * GIB,
    free=50 * GIB,
    inodes=1000_000,
    inodes_free=900_000,
    kind="ext4",
    need=GIB // 20,
    comfort=GIB,
)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"exists": False}, "ok"),
        ({"free": GIB // 2}, "warning"),
        ({"free": GIB // 2, "size": GIB * 3 // 4}, "ok"),
        ({"free": GIB // 50}, "error"),
        ({"inodes_free": 10_000}, "warning"),
        ({"inodes_free": 10}, "error"),
        ({"inodes": 0, "inodes_free": 0}, "ok"),
        ({"read_only": True}, "error"),
        ({"kind": "nfs4"}, "error"),
        ({"kind": "tmpfs"}, "warning"),
        ({"owner": 1000}, "error"),
        ({"mode": 0o755}, "warning"),
        ({"trouble": "Input/output error"}, "error"),
    ],
)
def test_room_for_the_state(changes: dict[str, Any], level: str) -> None:
    assert levels(disk.judge(msgspec.structs.replace(STATE, **changes))) == {level}


def test_the_file_system_of_a_path_is_that_of_the_nearest_mount() -> None:
    mounts = (
        "21 1 254:0 / / rw - ext4 /dev/vda rw\n"
        "30 21 0:5 / /var rw shared:1 - xfs /dev/vdb rw\n"
        "31 30 0:6 / /var/my\\040data rw - nfs4 server:/x rw\n"
    )
    assert disk.file_system_of(Path("/var/lib"), mounts) == "xfs"
    assert disk.file_system_of(Path("/variety"), mounts) == "ext4"
    assert disk.file_system_of(Path("/var/my data/x"), mounts) == "nfs4"
    assert disk.file_system_of(Path("/x"), "") == ""


def test_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    place = disk.look_at(tmp_path / "a" / "b", "the agent's state", "", 1, 1)
    assert not place.exists
    assert place.size


# --- clock

CLOCK = clock.Clock(now=1.8e9, synchronised=True, drift_s=0.0, looked_s=0.2, services=("chronyd",))


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "ok"),
        ({"synchronised": None}, "ok"),
        ({"synchronised": False}, "warning"),
        ({"synchronised": False, "services": ()}, "warning"),
        ({"now": 0.0}, "error"),
        ({"drift_s": 3600.0}, "warning"),
    ],
)
def test_clocks(changes: dict[str, Any], level: str) -> None:
    assert levels(clock.judge(msgspec.structs.replace(CLOCK, **changes))) == {level}


# --- ports

PROMETHEUS = Settings(prometheus=True)


def judged_ports(found: list[Listener], settings: Settings = PROMETHEUS) -> list[Finding]:
    return ports.judge(settings, found, kernel_range=(32768, 60999), agent_pid=7)


def test_ports_of_the_agent_and_of_others() -> None:
    ours = Listener(port=51680, inode=1, pid=7, name="ecs-agent")
    theirs = Listener(port=51680, inode=1, pid=9, name="nginx")
    assert levels(judged_ports([ours])) == {"ok"}
    assert "nginx (process 9)" in only(judged_ports([theirs]), Level.ERROR).seen
    assert levels(judged_ports([theirs], Settings())) == {"ok"}
    amazon = Listener(port=51678, inode=1)
    assert "another process" in only(judged_ports([amazon]), Level.WARNING).seen


def test_ranges_for_dynamic_ports() -> None:
    assert "32768-60999" in only(judged_ports([]), Level.OK).seen
    for narrow in ((40000, 40010), (500, 2000)):
        findings = judged_ports([], Settings(dynamic_host_port_range=narrow))
        assert "ECS_DYNAMIC_HOST_PORT_RANGE" in only(findings, Level.WARNING).mend
    assert ports.range_of("1024\t2048\n") == (1024, 2048)
    assert ports.range_of("") == (32768, 60999)


# --- forwarding

LAN = Route(network=IPv4Network("192.168.1.0/24"), interface="eth0", via_gateway=False)
PATHS = forwarding.Paths(forwards=True, routes=(LAN,), default_mtu=1500, docker_mtu=1500)


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({"forwards": False}, "warning", "ip_forward=1"),
        ({"forwards": False, "agent_runs": True}, "error", "ip_forward=1"),
        ({"forward_drops": True}, "error", "ecs-br0"),
        ({"dropping_chains": ("inet mine forward",)}, "warning", "nft insert rule inet mine"),
        ({"default_mtu": 0}, "warning", "gateway"),
        ({"default_mtu": 1400}, "warning", '"mtu": 1400'),
        ({"default_mtu": 1000, "docker_mtu": 0}, "warning", "MTU"),
    ],
)
def test_ways_that_are_closed(changes: dict[str, Any], level: str, word: str) -> None:
    findings = forwarding.judge(Settings(), msgspec.structs.replace(PATHS, **changes))
    finding = only(findings, Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_ways_that_are_open() -> None:
    assert levels(forwarding.judge(Settings(), PATHS)) == {"ok"}
    docker_way = msgspec.structs.replace(PATHS, forward_drops=True, docker_chain=True)
    assert levels(forwarding.judge(Settings(), docker_way)) == {"ok"}
    assert levels(forwarding.judge(Settings(task_mtu=9000), PATHS)) == {"ok", "warning"}


def test_a_pool_that_overlaps_is_told_with_one_that_does_not() -> None:
    taken = Route(network=IPv4Network("10.0.0.0/8"), interface="wg0", via_gateway=False)
    found = msgspec.structs.replace(PATHS, routes=(taken, LAN))
    finding = only(forwarding.judge(Settings(), found), Level.ERROR)
    assert "overlaps 10.0.0.0/8" in finding.seen
    assert "ECS_TASK_POOL_CIDR=172." in finding.command


def test_chains_that_drop_what_is_forwarded() -> None:
    def chain(family: str, table: str, **more: str) -> dict[str, Any]:
        return {"chain": {"family": family, "table": table, "name": "forward", **more}}

    hook = {"hook": "forward", "policy": "drop"}
    listed = {
        "nftables": [
            {"metainfo": {}},
            chain("inet", "mine", **hook),
            chain("ip", "filter", **hook),
            chain("ip6", "six", **hook),
            chain("inet", "ecs_agent", **hook),
            chain("inet", "open", hook="forward", policy="accept"),
        ]
    }
    text = msgspec.json.encode(listed).decode()
    assert forwarding.dropping_chains(text, "ecs_agent") == ("inet mine forward",)
    assert forwarding.dropping_chains("", "ecs_agent") == ()


# --- name servers


def test_servers_on_the_loopback_are_not_for_tasks() -> None:
    stub, real = "nameserver 127.0.0.53\n", "nameserver 192.0.2.1\nnameserver ::1\n"
    found = resolvers.choose([], [stub, real])
    assert found.usable == ("192.0.2.1",)
    assert found.unusable == ("127.0.0.53", "::1")
    assert levels(resolvers.judge(found, {"192.0.2.1": True})) == {"ok"}
    none = resolvers.judge(resolvers.choose([], [stub, ""]), {})
    assert "127.0.0.53 cannot be reached" in only(none, Level.WARNING).seen
    assert "ECS_TASK_DNS_SERVERS" in only(none, Level.WARNING).command


def test_servers_that_do_not_answer() -> None:
    found = resolvers.choose(["192.0.2.1", "192.0.2.2"], ["nameserver 192.0.2.9"])
    half = resolvers.judge(found, {"192.0.2.1": True, "192.0.2.2": False})
    assert "192.0.2.2" in only(half, Level.WARNING).seen
    none = resolvers.judge(found, {"192.0.2.1": False, "192.0.2.2": False})
    assert levels(none) == {"warning"}
    local = resolvers.judge(resolvers.choose(["127.0.0.1"], []), {"127.0.0.1": True})
    assert levels(local) == {"error"}


# --- GPUs

CARD = GpuReport(gpus=(Gpu(uuid="GPU-1", name="T4", memory_mib=1),), driver_version="550.1")


@pytest.mark.parametrize(
    ("found", "wanted", "level"),
    [
        (gpu.Gpus(), None, "ok"),
        (gpu.Gpus(), True, "error"),
        (gpu.Gpus(hardware=1), None, "warning"),
        (gpu.Gpus(hardware=1), False, "ok"),
        (gpu.Gpus(hardware=1, driver=GpuReport(trouble="version mismatch")), None, "error"),
        (gpu.Gpus(driver=CARD), None, "error"),
        (gpu.Gpus(driver=CARD, hook=True), None, "ok"),
    ],
)
def test_gpus(found: gpu.Gpus, wanted: bool | None, level: str) -> None:
    assert levels(gpu.judge(found, wanted=wanted, engine=EngineFacts())) == {level}


def test_the_runtime_of_nvidia_is_as_good_as_its_hook() -> None:
    facts = engine(Runtimes={"nvidia": {}})
    assert levels(gpu.judge(gpu.Gpus(driver=CARD), wanted=None, engine=facts)) == {"ok"}


# --- other agents


def test_other_agents() -> None:
    assert levels(rivals.judge(rivals.Others())) == {"ok"}
    assert levels(rivals.judge(rivals.Others(amazon_installed=True))) == {"warning"}
    both = rivals.Others(amazon_installed=True, amazon_runs="its container ecs-agent")
    assert levels(rivals.judge(both)) == {"error"}
    assert levels(rivals.judge(rivals.Others(ours=(7,)))) == {"warning"}
    assert levels(rivals.judge(rivals.Others(kubelet=7))) == {"warning"}


def test_agents_are_known_by_their_command_lines() -> None:
    def process(pid: int, *words: str, inside: bool = False) -> Process:
        return Process(pid=pid, name=words[0], words=words, in_container=inside)

    found = [
        process(1, "python", "/usr/bin/ecs-agent", "run"),
        process(2, "python", "-m", "agent.cli.child", "99", "run"),
        process(3, "python", "-m", "agent", "run"),
        process(4, "python", "/usr/bin/ecs-agent", "control"),
        process(5, "python", "/usr/bin/ecs-agent", "run"),
        process(6, "python", "/usr/bin/ecs-agent", "run", inside=True),
        process(7, "grep", "ecs-agent"),
    ]
    assert rivals.others_of(found, {5}) == (1, 2, 3)
    image = {"Image": "amazon/amazon-ecs-agent:latest", "Names": ["/ecs-agent"]}
    assert rivals.amazon_container([{"Image": "web"}, image]) == "its container ecs-agent"


# --- control

JOINED = Settings(control_endpoint="https://control.example:6820", cluster="prod")
HELLO = Hello(control_id="c", version="0.1.0", clusters=["prod"], takes_cluster=True)
ANSWERED = Contact(addresses=("192.0.2.1",), meeting=Meeting(HELLO, 0.0), with_token=True)


def changed(**changes: Any) -> Contact:
    return msgspec.structs.replace(ANSWERED, **changes)


@pytest.mark.parametrize(
    ("contact", "level", "word"),
    [
        (ANSWERED, "ok", ""),
        (changed(took_s=2.0), "warning", "nearer"),
        (changed(meeting=Meeting(HELLO, 60.0)), "warning", "set-ntp"),
        (changed(meeting=Meeting(HELLO, -7200.0)), "error", "set-ntp"),
        (
            changed(meeting=Meeting(msgspec.structs.replace(HELLO, takes_cluster=False), None)),
            "error",
            "create-cluster --cluster-name prod",
        ),
        (changed(addresses=("10.207.0.9",)), "error", "ECS_TASK_POOL_CIDR"),
        (Contact(name_trouble="Name or service not known"), "error", "getent hosts control"),
        (changed(meeting=None, trouble="x: nobody listens; start control"), "error", "start"),
        (changed(meeting=None, trouble="x", refused=True), "error", "ecs-agent join"),
    ],
)
def test_control(contact: Contact, level: str, word: str) -> None:
    finding = only(control.judge(JOINED, contact), Level(level))
    assert word in f"{finding.mend} {finding.command}"


def test_a_host_that_has_not_joined() -> None:
    assert "join" in only(control.judge(Settings(), Contact()), Level.WARNING).command


def test_a_token_on_an_open_way() -> None:
    plain = Settings(control_endpoint="http://control.example:6820")
    assert "plain HTTP" in only(control.judge(plain, ANSWERED), Level.WARNING).seen
