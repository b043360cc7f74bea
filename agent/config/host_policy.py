"""The rules of a host's own policy: what tasks may ask of this host, whatever control orders. Pure data.

``HOST_POLICY_BASES`` has the three sets of rules that a policy file can begin with. ``host_policy_file``
reads such a file; ``agent.host_policy`` decides by these rules. Each field is a key of the file, and the
name of a rule in the reason of a refused task; its docstring is the text of ``docs/host-policy.md``.

Tests: ``tests/unit/config/test_host_policy_file.py``, ``tests/unit/host_policy``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY: Final = "*"
"""At the end of a pattern: whatever follows. Alone: everything."""

NAMESPACES: Final = ("network", "pid", "ipc", "uts", "user", "cgroup")
PROPAGATIONS: Final = ("private", "rprivate", "slave", "rslave", "shared", "rshared")
SIZES: Final = ("cpu", "memory_mib", "pids", "shm_mib")
BELOW: Final = "/**"
"""At the end of a host path: everything below it, and not the path itself."""

ENGINE_CAPABILITIES: Final = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
"""What the Docker Engine gives every container. Source: Moby 20.10 to 28, ``oci/caps/defaults.go``."""

SAFE_SYSCTLS: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_syncookies",
)
"""Parameters of a namespace of the task's own that harm nobody else."""


@dataclass(frozen=True, slots=True)
class HostPath:
    """One entry of ``host_paths``."""

    path: str
    """Absolute, without ``..``, symbolic links or a slash at the end."""
    below: bool = False
    """Whether everything below is meant, and not the path itself."""
    read_only: bool = False

    def names(self, path: str) -> bool:
        """Return whether the entry is exactly this path."""
        return not self.below and path == self.path

    def admits(self, path: str, *, read_only: bool) -> bool:
        """Return whether a mount of this path is what the entry means."""
        if self.read_only and not read_only:
            return False
        if self.below:
            return path.startswith(f"{self.path.rstrip('/')}/") and path != "/"
        return path == self.path


def rule(kind: str, default: Any, doc: str) -> Any:
    """Describe one rule: the kind of its value in the file, what it is in ``open``, and its text."""
    return field(default=default, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """All rules; immutable. The defaults refuse nothing. Lists of names may end in ``ANY``."""

    source: str = ""
    """The file, or the variable that stands for one; begins every refusal."""
    guards_host: bool = True
    """Whether paths by which a task would rule the host are refused unless ``host_paths`` names them."""

    privileged: bool = rule("bool", True, "Whether containers may be privileged.")
    host_namespaces: tuple[str, ...] = rule(
        "namespaces",
        NAMESPACES,
        "Namespaces of the host that containers may share: `network` (network mode `host`, and networks of "
        "the engine by their name), `pid`, `ipc`, `uts`, `user`, `cgroup`. Namespaces of the task's own "
        "containers are always allowed.",
    )
    added_capabilities: tuple[str, ...] = rule(
        "capabilities",
        (ANY,),
        "Capabilities that containers may add to those that the engine gives to all.",
    )
    dropped_capabilities: tuple[str, ...] = rule(
        "capabilities",
        (),
        "Capabilities that every container must drop. With `ALL`, only those of `added_capabilities` may be "
        "added again.",
    )
    host_paths: tuple[HostPath, ...] | None = rule(
        "host_paths",
        None,
        "Paths of the host that may be mounted: exactly the path, or with `/**` at its end everything below it. "
        'With `:ro` behind it, only read-only. `["/**"]` is everything.',
    )
    forbidden_host_paths: tuple[str, ...] = rule(
        "paths",
        (),
        "Paths that are not mounted whatever `host_paths` says: neither they, nor what is below them, nor "
        "what they are in.",
    )
    mount_propagation: tuple[str, ...] = rule(
        "propagations",
        PROPAGATIONS,
        "Modes of propagation that mounts of host paths may ask for.",
    )
    volume_drivers: tuple[str, ...] = rule(
        "names", (ANY,), "Volume drivers (plugins) that may be used; `local` is the engine's own."
    )
    volume_types: tuple[str, ...] = rule(
        "names",
        (ANY,),
        "Types of file systems that volumes of the driver `local` may mount (`driverOpts.type`), and `efs` for "
        "EFS volumes. A volume that binds a path of the host is a matter of `host_paths`.",
    )
    devices: tuple[str, ...] = rule(
        "names", (ANY,), "Devices of the host that containers may have, such as `/dev/fuse`."
    )
    gpus: bool = rule("bool", True, "Whether this host offers its GPUs.")
    runtimes: tuple[str, ...] = rule(
        "names",
        (ANY,),
        "Runtimes of the engine that containers may ask for; the default one, and `ECS_NVIDIA_RUNTIME` for "
        "GPUs, need no entry.",
    )
    security_options: tuple[str, ...] = rule(
        "names",
        (ANY,),
        "Values of `dockerSecurityOptions` that are allowed, written with `=`: `apparmor=docker-default`. "
        "`no-new-privileges` always is. `systempaths=unconfined` stands for showing the paths of `/proc` that "
        "the engine hides.",
    )
    no_new_privileges: bool = rule(
        "bool", False, "Whether every container must have the security option `no-new-privileges`."
    )
    non_root_user: bool = rule(
        "bool",
        False,
        "Whether every container must name a `user` by a number other than 0. Names do not count: the image "
        "says what they mean.",
    )
    read_only_root: bool = rule(
        "bool", False, "Whether every container must have `readonlyRootFilesystem`."
    )
    sysctls: tuple[str, ...] = rule(
        "names", (ANY,), "Kernel parameters (`systemControls`) that containers may set."
    )
    max_ulimits: tuple[tuple[str, int], ...] = rule(
        "ulimits", (), "The largest hard limit by the name of a ulimit, such as `nofile = 65536`."
    )
    images: tuple[str, ...] = rule(
        "images",
        (ANY,),
        "Images by registry and repository, without a tag: `registry.example:5000/team/*`, `docker.io/*`, "
        "`nginx` (which is `docker.io/library/nginx`). A mirror counts as its registry.",
    )
    pinned_images: bool = rule("bool", False, "Whether images must be named with a digest.")
    image_digests: tuple[str, ...] = rule(
        "digests",
        (ANY,),
        "Digests of the only images that may run; a name without a digest is then refused.",
    )
    log_drivers: tuple[str, ...] = rule(
        "names",
        (ANY,),
        'Log drivers that containers may name. With a list that is not `["*"]`, their options may name no path '
        "and no socket of the host.",
    )
    docker_labels: tuple[str, ...] = rule(
        "names", (ANY,), "Labels that containers may have (`dockerLabels`)."
    )
    max_task: tuple[tuple[str, int], ...] = rule(
        "sizes",
        (),
        "The largest size of a task: `cpu` (1024 is one), `memory_mib`, `pids`, `shm_mib` (shared memory). "
        "What has no limit at all is too large.",
    )
    exec: bool = rule(
        "bool",
        True,
        "Whether commands may be run in containers (`ecs-agent exec`, ExecuteCommand).",
    )
    other_settings: bool = rule(
        "bool",
        True,
        "Whether containers may have settings of the engine that no other rule is about, such as "
        "`DeviceCgroupRules` or a parent control group.",
    )


OPEN: Final = HostPolicy()
BASELINE: Final = HostPolicy(
    privileged=False,
    host_namespaces=(),
    added_capabilities=(),
    host_paths=(),
    mount_propagation=("private", "rprivate"),
    volume_drivers=("local",),
    volume_types=("tmpfs", "nfs", "nfs4", "efs"),
    devices=(),
    runtimes=(),
    security_options=(),
    sysctls=SAFE_SYSCTLS,
    other_settings=False,
)
RESTRICTED: Final = HostPolicy(
    privileged=False,
    host_namespaces=(),
    added_capabilities=("NET_BIND_SERVICE",),
    dropped_capabilities=("ALL",),
    host_paths=(),
    mount_propagation=("private", "rprivate"),
    volume_drivers=("local",),
    volume_types=("tmpfs", "efs"),
    devices=(),
    gpus=False,
    runtimes=(),
    security_options=(),
    no_new_privileges=True,
    non_root_user=True,
    read_only_root=True,
    sysctls=SAFE_SYSCTLS,
    pinned_images=True,
    exec=False,
    other_settings=False,
)
HOST_POLICY_BASES: Final = {"open": OPEN, "baseline": BASELINE, "restricted": RESTRICTED}
DEFAULT_BASE: Final = "baseline"


def rules() -> dict[str, Mapping[str, Any]]:
    """Return every rule by its key, with ``kind`` and ``doc``, in the order of the table."""
    return {f.name: f.metadata for f in fields(HostPolicy) if "doc" in f.metadata}


def admits(names: tuple[str, ...], name: str) -> bool:
    """Return whether a list of names has this one; a pattern ends in ``ANY``."""
    return any(
        name == each or (each.endswith(ANY) and name.startswith(each[:-1])) for each in names
    )


def without_privileged() -> HostPolicy:
    """Return what ``ECS_DISABLE_PRIVILEGED`` alone means: no privileged containers, and nothing more."""
    return HostPolicy(source="ECS_DISABLE_PRIVILEGED", guards_host=False, privileged=False)
