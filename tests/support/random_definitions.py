"""Makes random task definitions: fields of the whole model together, with values that people write.

Most are valid alone, so that what a definition meets is the combination: a network mode with name
servers, a health check with a log driver, a volume with a dependency. The same seed makes the same
definition.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.support.images import LINGER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Definition = dict[str, Any]

MODES = ("none", "bridge", "host", "awsvpc")
_NAMES = ("web", "db", "side-car", "init_1", "Worker")
_CAPABILITIES = ("NET_ADMIN", "SYS_PTRACE", "IPC_LOCK", "MKNOD", "CHOWN", "ALL")
_ULIMITS = (("nofile", 1024), ("core", 0), ("memlock", 65536), ("nproc", 1024), ("stack", 1 << 20))
_SYSCTLS = (
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.core.somaxconn", "512"),
    ("kernel.msgmax", "8192"),
    ("fs.mqueue.msg_max", "20"),
)
_FARGATE = (("256", "512"), ("256", "1024"), (".25 vCPU", "0.5 GB"))


class Author:
    """Writes the definitions of one seed."""

    def __init__(self, seed: int, *, image: str, folder: Path) -> None:
        """``folder`` is an existing directory of the host, for volumes."""
        self._rng = random.Random(seed)
        self._seed = seed
        self._image = image
        self._folder = folder
        self._mode = self._rng.choice(MODES)

    def write(self) -> Definition:
        """Return a RegisterTaskDefinition request."""
        rng = self._rng
        fargate = self._mode == "awsvpc" and self._may(0.4)
        volumes = [
            self._volume(index, fargate=fargate) for index in range(rng.choice((0, 0, 1, 2)))
        ]
        names = rng.sample(_NAMES, rng.choice((1, 1, 2, 2, 3)))
        containers = [
            self._container(name, index, names[:index], volumes, fargate=fargate)
            for index, name in enumerate(names)
        ]
        self._connect(containers)
        definition: Definition = {
            "family": f"random-{self._seed}",
            "containerDefinitions": containers,
            **({"volumes": volumes} if volumes else {}),
        }
        if self._mode != "bridge" or self._may(0.7):
            definition["networkMode"] = self._mode
        if fargate:
            definition["requiresCompatibilities"] = ["FARGATE"]
            definition["cpu"], definition["memory"] = rng.choice(_FARGATE)
        else:
            self._put(definition, 0.2, "cpu", lambda: rng.choice(("256", "0.5 vCPU", "512")))
            self._put(definition, 0.3, "memory", lambda: rng.choice(("96", "0.125GB", "128")))
            self._put(definition, 0.15, "pidMode", lambda: rng.choice(("host", "task")))
            self._put(definition, 0.15, "ipcMode", lambda: rng.choice(("host", "task", "none")))
        self._put(
            definition,
            0.1,
            "runtimePlatform",
            lambda: {"operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64"},
        )
        return definition

    def overrides(self, definition: Definition) -> list[Definition]:
        """Return what a run changes of the containers; most often nothing."""
        if not self._may(0.3):
            return []
        container = self._rng.choice(definition["containerDefinitions"])
        change: Definition = {"name": container["name"]}
        words = {"name": "PLAIN", "value": "changed"}, {"name": "OF_RUN", "value": "1"}
        self._put(change, 0.6, "environment", lambda: list(words))
        self._put(change, 0.3, "cpu", lambda: self._rng.choice((-1, 0, 32)))
        self._put(change, 0.3, "memory", lambda: self._rng.choice((2, 24, 64)))
        self._put(change, 0.2, "memoryReservation", lambda: self._rng.choice((8, 64)))
        if "entryPoint" not in container:
            self._put(change, 0.3, "command", lambda: ["sh", "-c", f": of the run; {LINGER[2]}"])
        return [change]

    def _may(self, chance: float) -> bool:
        return self._rng.random() < chance

    def _put(self, target: Definition, chance: float, name: str, make: Callable[[], Any]) -> None:
        if self._may(chance):
            target[name] = make()

    def _volume(self, index: int, *, fargate: bool) -> Definition:
        volume: Definition = {"name": f"data-{index}"}
        kind = "empty" if fargate else self._rng.choice(("empty", "host", "task", "shared"))
        match kind:
            case "host":
                volume["host"] = {"sourcePath": str(self._folder)}
            case "task":
                volume["dockerVolumeConfiguration"] = {
                    "scope": "task",
                    "driver": self._rng.choice(("local", "local", "local", "no-such-plugin")),
                    "labels": {"of": "random"},
                }
            case "shared":
                volume["name"] = f"random-shared-{self._seed}-{index}"
                volume["dockerVolumeConfiguration"] = {
                    "scope": "shared",
                    "autoprovision": True,
                    "driver": "local",
                    "driverOpts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"},
                }
        return volume

    def _container(
        self, name: str, index: int, earlier: list[str], volumes: list[Definition], *, fargate: bool
    ) -> Definition:
        rng = self._rng
        container: Definition = {"name": name, "image": self._image, "stopTimeout": 2}
        if index and self._may(0.4):
            container["essential"] = False
            container["command"] = rng.choice((["true"], ["sh", "-c", "exit 3"], LINGER))
        elif self._may(0.1):
            container["command"] = ["sh", "-c", "sleep 1; exit 4"]
        elif self._may(0.2):
            container |= {"entryPoint": LINGER[:2], "command": LINGER[2:]}
        else:
            container["command"] = LINGER
        container["memory"] = rng.choice((8, 16, 32, 32, 64))
        self._put(container, 0.3, "memoryReservation", lambda: rng.choice((6, 8, 16)))
        self._put(container, 0.5, "cpu", lambda: rng.choice((0, 1, 10, 64)))
        self._add_words(container)
        self._add_links(container, earlier)
        self._add_network(container)
        self._add_mounts(container, volumes)
        self._add_rights(container)
        self._put(container, 0.3, "linuxParameters", lambda: self._linux(fargate=fargate))
        self._put(container, 0.3, "healthCheck", self._health_check)
        self._put(container, 0.3, "logConfiguration", self._log)
        self._put(
            container,
            0.15,
            "restartPolicy",
            lambda: {"enabled": True, "ignoredExitCodes": [0, 3], "restartAttemptPeriod": 60},
        )
        return container

    def _add_words(self, container: Definition) -> None:
        rng = self._rng
        self._put(
            container,
            0.5,
            "environment",
            lambda: [
                {"name": "PLAIN", "value": "x"},
                {
                    "name": rng.choice(("EMPTY", "A.B-C", "a b")),
                    "value": rng.choice(("", "=", "ä\n")),
                },
            ],
        )
        labels = {"org.example/label": "x=y", "empty": ""}
        self._put(container, 0.3, "dockerLabels", lambda: dict(labels))
        self._put(container, 0.2, "user", lambda: rng.choice(("nobody", "65534", "1000:1000", "0")))
        self._put(container, 0.2, "workingDirectory", lambda: rng.choice(("/tmp", "/new/folder")))
        self._put(container, 0.15, "interactive", lambda: True)
        self._put(container, 0.15, "pseudoTerminal", lambda: True)
        self._put(container, 0.2, "startTimeout", lambda: rng.choice((30, 120)))
        self._put(container, 0.1, "versionConsistency", lambda: rng.choice(("enabled", "disabled")))

    def _add_links(self, container: Definition, earlier: list[str]) -> None:
        if not earlier:
            return
        other = self._rng.choice(earlier)
        if self._mode == "bridge":
            alias = self._rng.choice(("", ":alias"))
            self._put(container, 0.3, "links", lambda: [f"{other}{alias}"])
        self._put(
            container,
            0.2,
            "volumesFrom",
            lambda: [{"sourceContainer": other, "readOnly": self._may(0.5)}],
        )

    def _add_network(self, container: Definition) -> None:
        rng = self._rng
        self._put(container, 0.1, "disableNetworking", lambda: True)
        self._put(container, 0.2, "dnsServers", lambda: ["192.0.2.53", "192.0.2.54"])
        self._put(container, 0.2, "dnsSearchDomains", lambda: ["example.test"])
        if self._mode != "awsvpc" or self._may(0.05):
            self._put(container, 0.2, "hostname", lambda: rng.choice(("box", "box.example.test")))
            self._put(
                container,
                0.2,
                "extraHosts",
                lambda: [{"hostname": "far", "ipAddress": "192.0.2.9"}],
            )
        if self._mode != "none" or self._may(0.05):
            self._put(container, 0.4, "portMappings", self._ports)

    def _ports(self) -> list[Definition]:
        rng = self._rng
        port = rng.randrange(3000, 9000)
        mapping: Definition = {"containerPort": port, "protocol": rng.choice(("tcp", "udp"))}
        ports = [mapping]
        if self._mode == "bridge":
            self._put(mapping, 0.3, "hostPort", lambda: rng.randrange(20000, 30000))
        if self._mode in ("bridge", "awsvpc") and self._may(0.3):
            ports.append({"containerPortRange": f"{port + 1}-{port + 3}"})
        return ports

    def _add_mounts(self, container: Definition, volumes: list[Definition]) -> None:
        mounts = [
            {"sourceVolume": volume["name"], "containerPath": path, "readOnly": self._may(0.3)}
            for volume, path in zip(volumes, ("/data", "/var/more/"), strict=False)
            if self._may(0.7)
        ]
        if mounts:
            container["mountPoints"] = mounts

    def _add_rights(self, container: Definition) -> None:
        rng = self._rng
        self._put(container, 0.05, "privileged", lambda: True)
        self._put(container, 0.15, "readonlyRootFilesystem", lambda: True)
        self._put(container, 0.1, "dockerSecurityOptions", lambda: ["no-new-privileges"])
        self._put(container, 0.15, "systemControls", self._sysctls)
        self._put(
            container,
            0.3,
            "ulimits",
            lambda: [
                {"name": name, "softLimit": limit, "hardLimit": limit * rng.choice((1, 2))}
                for name, limit in rng.sample(_ULIMITS, 2)
            ],
        )
        self._put(container, 0.03, "resourceRequirements", lambda: [{"type": "GPU", "value": "1"}])

    def _sysctls(self) -> list[Definition]:
        namespace, value = self._rng.choice(_SYSCTLS)
        return [{"namespace": namespace, "value": value}]

    def _linux(self, *, fargate: bool) -> Definition:
        rng = self._rng
        linux: Definition = {}
        self._put(linux, 0.5, "initProcessEnabled", lambda: self._may(0.8))
        if fargate:
            self._put(linux, 0.4, "capabilities", lambda: {"add": ["SYS_PTRACE"]})
            return linux
        self._put(
            linux,
            0.5,
            "capabilities",
            lambda: {
                "add": [rng.choice(_CAPABILITIES)],
                "drop": rng.choice(([], ["CHOWN", "KILL"])),
            },
        )
        self._put(linux, 0.3, "sharedMemorySize", lambda: rng.choice((1, 16)))
        self._put(linux, 0.3, "maxSwap", lambda: rng.choice((0, 32)))
        self._put(linux, 0.2, "swappiness", lambda: rng.choice((0, 60)))
        self._put(
            linux,
            0.3,
            "tmpfs",
            lambda: [{"containerPath": "/scratch", "size": 4, "mountOptions": ["noexec", "rw"]}],
        )
        self._put(
            linux,
            0.3,
            "devices",
            lambda: [
                rng.choice(
                    (
                        {"hostPath": "/dev/zero", "containerPath": "/dev/nil"},
                        {"hostPath": "/dev/full", "permissions": ["read"]},
                        {"hostPath": "/dev/nothing-there"},
                    )
                )
            ],
        )
        return linux

    def _health_check(self) -> Definition:
        commands = (
            ["CMD-SHELL", "true || exit 1"],
            ["CMD", "sh", "-c", "true"],
            ["sh", "-c", "true"],
        )
        check: Definition = {"command": self._rng.choice(commands)}
        self._put(check, 0.8, "interval", lambda: 5)
        self._put(check, 0.5, "timeout", lambda: self._rng.choice((2, 5)))
        self._put(check, 0.5, "retries", lambda: self._rng.choice((1, 10)))
        self._put(check, 0.3, "startPeriod", lambda: self._rng.choice((0, 10)))
        return check

    def _log(self) -> Definition:
        return self._rng.choice(
            (
                {"logDriver": "json-file", "options": {"max-size": "1m", "max-file": "2"}},
                {"logDriver": "json-file", "options": {"mode": "non-blocking"}},
                {"logDriver": "json-file"},
                {"logDriver": "json-file", "options": {"no-such-option": "1"}},
                {"logDriver": "gelf", "options": {"gelf-address": "udp://127.0.0.1:12201"}},
                {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
            )
        )

    def _connect(self, containers: list[Definition]) -> None:
        """Let later containers depend on earlier ones; at times on a wrong condition."""
        for index, container in enumerate(containers[1:], start=1):
            if not self._may(0.5):
                continue
            other = self._rng.choice(containers[:index])
            conditions = ["START"]
            if "healthCheck" in other or self._may(0.05):
                conditions.append("HEALTHY")
            ends = other.get("essential") is False and other["command"] != LINGER
            if ends or (other.get("essential", True) and self._may(0.05)):
                conditions += ["COMPLETE", "SUCCESS"]
            container["dependsOn"] = [
                {"containerName": other["name"], "condition": self._rng.choice(conditions)}
            ]
