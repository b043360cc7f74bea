"""Each rule, by a request that it refuses and one beside it that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from agent.config import host_policy_file
from agent.host_policy import request
from agent.host_policy.findings import Refusal, reason
from agent.host_policy.own import OwnParts, PolicyHost

OWN = OwnParts(
    containers=["ecs-web-1-a"],
    namespaces=["sandbox"],
    binds={"/var/lib/ecs/data/metadata/x:/opt/ecs:ro"},
    bind_sources=["/var/lib/ecs/data/hosts/x"],
    volumes=["ecs-web-1-v"],
    cgroup_parent="/ecs/task",
    labels={"com.amazonaws.ecs.cluster": "default"},
    image="mirror.example/app@sha256:1",
    ordered_image="registry.example/team/app:1",
)
FACTS = PolicyHost(protected=("/run/docker.sock", "/var/lib/ecs"), gpu_runtime="nvidia")
LINKS = {"/srv/link": "/etc", "/var/run/docker.sock": "/run/docker.sock", "/srv/away": None}
DIGEST = "sha256:" + "a" * 64


class Real(dict[str, str]):
    """Where paths lead on a host with the links above."""

    def get(self, path: str, default: Any = None) -> Any:
        return LINKS.get(path, path)


def refused(policy: str, config: dict[str, Any] | None = None, **host: Any) -> list[Refusal]:
    body = {"Image": "registry.example/team/app:1", **(config or {}), "HostConfig": host}
    rules = host_policy_file.parse(policy, source="p.toml")
    return list(request.refusals(rules, "app", body, OWN, FACTS, real=Real()))


def rules_of(found: list[Refusal]) -> list[str]:
    return [each.rule for each in found]


HARMLESS: dict[str, Any] = {
    "NetworkMode": "container:sandbox",
    "PidMode": "container:sandbox",
    "IpcMode": "shareable",
    "CpuShares": 2,
    "Memory": 1 << 26,
    "CapAdd": ["CHOWN", "cap_net_bind_service"],
    "CapDrop": ["NET_RAW"],
    "SecurityOpt": ["no-new-privileges:true"],
    "Binds": [
        "/var/lib/ecs/data/metadata/x:/opt/ecs:ro",
        "/var/lib/ecs/data/hosts/x:/etc/hosts:z",
        "ecs-web-1-v:/data",
        "/anonymous",
    ],
    "VolumesFrom": ["ecs-web-1-a:ro"],
    "Tmpfs": {"/tmp": "size=64m"},
    "CgroupParent": "/ecs/task",
    "Sysctls": {"net.ipv4.tcp_keepalive_time": "500"},
    "Ulimits": [{"Name": "nofile", "Soft": 1024, "Hard": 4096}],
    "PortBindings": {"80/tcp": [{"HostPort": "8080"}]},
    "LogConfig": {"Type": "awslogs", "Config": {"tag": "/x"}},
    "Init": True,
    "Devices": [],
    "DeviceCgroupRules": None,
    "OomScoreAdj": 100,
}


def test_what_tasks_usually_have_is_not_refused() -> None:
    assert refused("", {"Labels": {"app": "x"}, "User": "root"}, **HARMLESS) == []


def test_the_open_base_refuses_nothing_but_what_protects_the_agent() -> None:
    everything: dict[str, Any] = {
        "Privileged": True,
        "NetworkMode": "host",
        "PidMode": "host",
        "CapAdd": ["ALL"],
        "Binds": ["/etc:/x:rshared"],
        "Devices": [{"PathOnHost": "/dev/kvm"}],
        "SecurityOpt": ["seccomp=unconfined"],
        "DeviceCgroupRules": ["a *:* rwm"],
        "Anything": 1,
    }
    assert refused('base = "open"', **everything) == []
    assert rules_of(refused('base = "open"', Binds=["/:/x"])) == ["host_paths"]


@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ({"Privileged": True}, "privileged"),
        ({"privileged": 1}, "privileged"),
        ({"pRivileged": "true"}, "privileged"),
        ({"NetworkMode": "host"}, "host_namespaces"),
        ({"NetworkMode": "some-network"}, "host_namespaces"),
        ({"NetworkMode": "container:other"}, "host_namespaces"),
        ({"PidMode": "host"}, "host_namespaces"),
        ({"PidMode": "container:other"}, "host_namespaces"),
        ({"IpcMode": "host"}, "host_namespaces"),
        ({"UTSMode": "host"}, "host_namespaces"),
        ({"UsernsMode": "host"}, "host_namespaces"),
        ({"CgroupnsMode": "host"}, "host_namespaces"),
        ({"CapAdd": ["ALL"]}, "added_capabilities"),
        ({"CapAdd": ["sys_admin"]}, "added_capabilities"),
        ({"CapAdd": ["CAP_SYS_PTRACE"]}, "added_capabilities"),
        ({"capadd": ["NET_ADMIN"]}, "added_capabilities"),
        ({"CAPADD": "ALL"}, "other_settings"),
        ({"SecurityOpt": ["seccomp=unconfined"]}, "security_options"),
        ({"SecurityOpt": ["seccomp:unconfined"]}, "security_options"),
        ({"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']}, "security_options"),
        ({"SecurityOpt": ["apparmor=unconfined"]}, "security_options"),
        ({"SecurityOpt": ["label=disable"]}, "security_options"),
        ({"SecurityOpt": ["label:type:spc_t"]}, "security_options"),
        ({"MaskedPaths": []}, "security_options"),
        ({"ReadonlyPaths": []}, "security_options"),
        ({"Devices": [{"PathOnHost": "/dev/sda", "PathInContainer": "/dev/x"}]}, "devices"),
        ({"Devices": [{"pathonhost": "/dev/sda"}]}, "devices"),
        ({"DeviceCgroupRules": ["b 8:0 rwm"]}, "devices"),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["x"]}]}, "devices"),
        ({"Runtime": "crun-vm"}, "runtimes"),
        ({"Runtime": "nvidia"}, "runtimes"),
        ({"Sysctls": {"kernel.core_pattern": "|/x"}}, "sysctls"),
        ({"Sysctls": {"net.ipv4.ip_forward": "1"}}, "sysctls"),
        ({"VolumesFrom": ["other-container"]}, "host_paths"),
        ({"VolumeDriver": "rexray"}, "volume_drivers"),
        ({"CgroupParent": "/system.slice"}, "other_settings"),
        ({"OomScoreAdj": -1000}, "other_settings"),
        ({"OomKillDisable": True}, "other_settings"),
        ({"CpuRealtimeRuntime": 950000}, "other_settings"),
        ({"Cgroup": "container:x"}, "other_settings"),
        ({"Annotations": {"run.oci.handler": "x"}}, "other_settings"),
        ({"SomethingOfTomorrow": "x"}, "other_settings"),
        ({"Links": ["other:x"]}, "other_settings"),
        ({"Binds": ["/:/host"]}, "host_paths"),
        ({"Binds": ["//:/host:ro"]}, "host_paths"),
        ({"Binds": ["/var/run/docker.sock:/s"]}, "host_paths"),
        ({"binds": ["/etc/../run:/s"]}, "host_paths"),
        ({"Binds": ["ecs-web-1-v:/x", "/srv:/y"]}, "host_paths"),
        ({"Binds": ["/a:/b:/c:/d"]}, "other_settings"),
        ({"Binds": "/:/host"}, "other_settings"),
        ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/x"}]}, "host_paths"),
        ({"mounts": [{"TYPE": "bind", "SOURCE": "/", "target": "/x"}]}, "host_paths"),
        ({"Mounts": [{"Type": "bind", "Source": "srv"}]}, "host_paths"),
        ({"Mounts": [{"Type": "bind", "Source": "/srv", "source": "/"}]}, "other_settings"),
        ({"Mounts": [{"Type": "npipe", "Source": "x"}]}, "other_settings"),
        ({"Mounts": [{"Source": "/"}]}, "other_settings"),
    ],
)
def test_the_baseline_closes_every_way_to_rule_the_host(host: dict[str, Any], rule: str) -> None:
    assert rules_of(refused("", **host)) == [rule]


def volume(driver: str = "local", **options: str) -> dict[str, Any]:
    made = {"Name": driver, "Options": options}
    return {"Type": "volume", "Source": "v", "VolumeOptions": {"DriverConfig": made}}


@pytest.mark.parametrize(
    ("mount", "rules"),
    [
        (volume(), []),
        (volume(size="10g"), []),
        (volume(type="tmpfs", device="tmpfs", o="size=1m"), []),
        (volume(type="nfs", device=":/x", o="addr=10.0.0.1"), []),
        (volume("rexray"), ["volume_drivers"]),
        (volume(type="none", device="/", o="bind"), ["host_paths"]),
        (volume(type="tmpfs", device="/etc", o="ro,rbind"), ["host_paths"]),
        (volume(type="none", device="/", o="bind,remount"), ["volume_types", "host_paths"]),
        (volume(type="none", device="etc", o="bind"), ["host_paths"]),
        (volume(type="ext4", device="/dev/sda1"), ["volume_types"]),
        (volume(type="overlay", device="overlay", o="lowerdir=/"), ["volume_types"]),
        (volume(device="/dev/sda1"), ["volume_types"]),
        (volume(type="nfs", device=":/", o="addr=x,remount"), ["volume_types"]),
    ],
)
def test_volumes_of_the_engine_are_judged_by_what_they_mount(
    mount: dict[str, Any], rules: list[str]
) -> None:
    assert rules_of(refused("", Mounts=[mount])) == rules


PATHS = """
host_paths = ["/srv/www:ro", "/srv/data/**", "/run/docker.sock", "/proc:ro"]
forbidden_host_paths = ["/srv/data/keys", "/srv/data/team/secret"]
"""


@pytest.mark.parametrize(
    ("bind", "rules"),
    [
        ("/srv/www:/x:ro", []),
        ("/srv/www/:/x:ro", []),
        ("//srv///www/.:/x:ro,z", []),
        ("/srv/www:/x", ["host_paths"]),
        ("/srv/www:/x:rw", ["host_paths"]),
        ("/srv/www/sub:/x:ro", ["host_paths"]),
        ("/srv:/x:ro", ["forbidden_host_paths"]),
        ("/srv/data/a/b:/x", []),
        ("/srv/data:/x", ["forbidden_host_paths"]),
        ("/srv/www2:/x", ["host_paths"]),
        ("/srv/data/keys:/x", ["forbidden_host_paths"]),
        ("/srv/data/keys/a:/x", ["forbidden_host_paths"]),
        ("/srv/data/keys2:/x", []),
        ("/srv/data/team:/x", ["forbidden_host_paths"]),
        ("/srv/data/../../etc:/x", ["host_paths"]),
        ("/var/run/docker.sock:/x", []),
        ("/run:/x", ["host_paths"]),
        ("/proc:/x:ro", []),
        ("/proc/1/root:/x:ro", ["host_paths"]),
        ("/srv/link:/x", ["host_paths"]),
        ("/srv/away:/x", ["host_paths"]),
        ("/srv/data/a:/x:rshared", ["mount_propagation"]),
        ("/srv/data/a:/x:rprivate", []),
    ],
)
def test_paths_of_the_host_are_judged_by_where_they_lead(bind: str, rules: list[str]) -> None:
    assert rules_of(refused(PATHS, Binds=[bind])) == rules


def test_everything_may_be_mounted_but_what_rules_the_host() -> None:
    policy = 'host_paths = ["/**"]'
    assert refused(policy, Binds=["/etc:/x", "/srv/link:/y"]) == []
    for bind in (
        "/:/x",
        "/run:/x",
        "/var/run/docker.sock:/x",
        "/var/lib/ecs/data:/x",
        "/proc/1:/x",
    ):
        assert rules_of(refused(policy, Binds=[bind])) == ["host_paths"], bind
    assert refused('host_paths = ["/"]', Binds=["/:/x"]) == [], "who names it, means it"


@pytest.mark.parametrize(
    ("image", "policy", "rules"),
    [
        ("nginx", 'images = ["nginx"]', []),
        ("docker.io/library/nginx:1.25", 'images = ["nginx"]', []),
        ("index.docker.io/nginx", 'images = ["docker.io/library/*"]', []),
        ("team/app", 'images = ["docker.io/*"]', []),
        ("team/app", 'images = ["team/*"]', []),
        ("team/app", 'images = ["docker.io/library/*"]', ["images"]),
        ("registry.example/team/app:1", 'images = ["registry.example/*"]', []),
        ("registry.example.evil/team/app:1", 'images = ["registry.example/*"]', ["images"]),
        ("registry.example:5000/a", 'images = ["registry.example/*"]', ["images"]),
        ("localhost:5000/team/app@" + DIGEST, 'images = ["localhost:5000/team/*"]', []),
        ("localhost/a", 'images = ["localhost/*"]', []),
        ("4f5a2c1b9d3e", 'images = ["docker.io/*"]', ["images"]),
        (DIGEST, 'images = ["docker.io/*"]', ["images"]),
        ("nginx:1", "pinned_images = true", ["pinned_images"]),
        ("nginx@sha256:abc", "pinned_images = true", ["pinned_images"]),
        (f"nginx:1@{DIGEST}", "pinned_images = true", []),
        (f"nginx@{DIGEST}", f'image_digests = ["{DIGEST}"]', []),
        ("nginx", f'image_digests = ["{DIGEST}"]', ["image_digests"]),
        ("mirror.example/app@sha256:1", 'images = ["registry.example/team/app"]', []),
    ],
)
def test_images_are_judged_by_their_whole_names(image: str, policy: str, rules: list[str]) -> None:
    assert rules_of(refused(policy, {"Image": image})) == rules


@pytest.mark.parametrize(
    ("policy", "config", "host", "rules"),
    [
        ('added_capabilities = ["NET_ADMIN"]', {}, {"CapAdd": ["CAP_NET_ADMIN"]}, []),
        ('added_capabilities = ["*"]', {}, {"CapAdd": ["ALL"]}, []),
        ('dropped_capabilities = ["NET_RAW"]', {}, {}, ["dropped_capabilities"]),
        ('dropped_capabilities = ["NET_RAW"]', {}, {"CapDrop": ["ALL"]}, []),
        ('dropped_capabilities = ["ALL"]', {}, {"CapDrop": ["NET_RAW"]}, ["dropped_capabilities"]),
        (
            'dropped_capabilities = ["ALL"]',
            {},
            {"CapDrop": ["ALL"], "CapAdd": ["CHOWN"]},
            ["added_capabilities"],
        ),
        ("non_root_user = true", {}, {}, ["non_root_user"]),
        ("non_root_user = true", {"User": "0:1000"}, {}, ["non_root_user"]),
        ("non_root_user = true", {"User": "00"}, {}, ["non_root_user"]),
        ("non_root_user = true", {"User": "app"}, {}, ["non_root_user"]),
        ("non_root_user = true", {"user": "1000:0"}, {}, []),
        ("read_only_root = true", {}, {}, ["read_only_root"]),
        ("read_only_root = true", {}, {"readonlyRootfs": True}, []),
        ("no_new_privileges = true", {}, {}, ["no_new_privileges"]),
        (
            "no_new_privileges = true",
            {},
            {"SecurityOpt": ["no-new-privileges", "no-new-privileges:false"]},
            ["no_new_privileges"],
        ),
        ("no_new_privileges = true", {}, {"SecurityOpt": ["no-new-privileges=true"]}, []),
        ('security_options = ["apparmor=ours"]', {}, {"SecurityOpt": ["apparmor:ours"]}, []),
        ('sysctls = ["net.*"]', {}, {"Sysctls": {"net/core/somaxconn": "9"}}, []),
        ("max_ulimits = {nofile = 10}", {}, {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": -1}]}, ["max_ulimits"]),
        ("max_ulimits = {nofile = 10}", {}, {"Ulimits": [{"Name": "nofile", "Soft": 9, "Hard": 10}]}, []),
        ('log_drivers = ["awslogs"]', {}, {"LogConfig": {"Type": "syslog"}}, ["log_drivers"]),
        ('log_drivers = ["awslogs"]', {}, {"logconfig": {"type": "awslogs"}}, []),
        ('log_drivers = ["awslogs"]', {}, {}, []),
        (
            'log_drivers = ["awslogs"]',
            {},
            {"LogConfig": {"Type": "awslogs", "Config": {"awslogs-group": "/ecs/app"}}},
            [],
        ),
        (
            'log_drivers = ["syslog"]',
            {},
            {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "unix:///run/x"}}},
            ["log_drivers"],
        ),
        ('docker_labels = ["app.*"]', {"Labels": {"app.x": "", "traefik.enable": "true"}}, {}, ["docker_labels"]),
        ("docker_labels = []", {"Labels": {"com.amazonaws.ecs.cluster": "default"}}, {}, []),
        ("docker_labels = []", {"Labels": {"com.amazonaws.ecs.cluster": "x"}}, {}, ["docker_labels"]),
        ("gpus = false", {}, {"DeviceRequests": [{"DeviceIDs": ["0"], "Capabilities": [["gpu"]]}]}, ["gpus"]),
        ("gpus = true", {}, {"DeviceRequests": [{"DeviceIDs": ["0"], "Capabilities": [["gpu"]]}]}, []),
        ('devices = ["/dev/dri/*"]', {}, {"Devices": [{"PathOnHost": "/dev/dri/../sda"}]}, ["devices"]),
        ('devices = ["/dev/fuse"]', {}, {"Devices": [{"PathOnHost": "/dev/fuse"}]}, []),
        ('host_namespaces = ["network"]', {}, {"NetworkMode": "host"}, []),
        ('host_namespaces = ["network"]', {}, {"PidMode": "host"}, ["host_namespaces"]),
        ('volume_drivers = ["rexray"]', {}, {"VolumeDriver": "rexray"}, []),
    ],
)  # fmt: skip
def test_a_rule_admits_what_it_names(
    policy: str, config: dict[str, Any], host: dict[str, Any], rules: list[str]
) -> None:
    assert rules_of(refused(policy, config, **host)) == rules


def test_a_reason_names_policy_rule_container_and_value() -> None:
    found = refused("", Privileged=True, Binds=["/etc:/x"])
    policy = host_policy_file.parse("", source="/etc/ecs/host-policy.toml")
    assert reason(policy, found) == (
        "host policy /etc/ecs/host-policy.toml: rule privileged: container app asks for privileged mode "
        "(and 1 more)"
    )
    assert found[1].text == "rule host_paths: container app mounts /etc"
    long = refused("", Binds=["/\x1b" + "x" * 5000 + ":/y"])[0].text
    assert len(long) < 300
    assert long.isprintable()
