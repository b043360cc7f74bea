"""One host that is its own control: the package installed and joined, as an administrator does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.vm.operator import Operator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.machine import Vm

IMAGE = "page:1"
PAGE = "hello from the VM"
CONFIG = "/etc/ecs/ecs.config"
ASK = "curl --silent --fail --unix-socket /run/ecs-agent/agent.sock http://agent/v1"
"""What `ecs-agent status` asks, without starting a Python for it: that takes seconds here."""
BYTE_COMPILE = "/opt/ecs-agent/bin/byte-compile"
API_PORT = 6820
CONTROL = f"http://127.0.0.1:{API_PORT}"
INVITATION = "/var/lib/ecs-agent-control/agent.token"
START_LIMIT_S = 480.0
"""The agent starts in a second on a real machine, and in ten to a hundred here."""
LINGER = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]


def operator_of(host: Vm) -> Operator:
    """Return the operator of the control that runs on the host."""
    return Operator(host.forward(API_PORT), host.run("ecs-agent env --json").out)


def install(host: Vm, package: Path) -> None:
    """Install a package as an administrator does, without any other source of packages."""
    target = f"/root/{package.name}"
    host.put(package, target)
    host.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -y {target}", timeout_s=900)


def compile_ahead(host: Vm, compiled: Path | None) -> None:
    """Let packages that are installed from now on unpack ``compiled`` where they would compile.

    Emulated, that takes longer than the boot and the start of Docker together.
    """
    if compiled is None:
        return
    host.put(compiled, "/root/compiled.tar")
    host.run(
        f"dpkg-divert --quiet --local --rename --divert {BYTE_COMPILE}.real --add {BYTE_COMPILE}"
    )
    host.put("#!/bin/sh\nexec tar -C / -xf /root/compiled.tar\n", BYTE_COMPILE, mode="0755")


def compile_again(host: Vm) -> None:
    """Undo ``compile_ahead``, or do nothing where it was not done."""
    host.run(
        f"""test -e {BYTE_COMPILE}.real || exit 0
        rm {BYTE_COMPILE}
        dpkg-divert --quiet --local --rename --remove {BYTE_COMPILE}"""
    )


def join(host: Vm) -> None:
    """Start control, let the host join it, and return once it is connected."""
    host.run("systemctl enable --now ecs-agent-control", timeout_s=START_LIMIT_S)
    host.until(f"test -s {INVITATION}", within_s=START_LIMIT_S)
    # The VM reaches no registry: what it has is what there is.
    host.run(f"echo ECS_IMAGE_PULL_BEHAVIOR=prefer-cached >>{CONFIG}")
    host.run(f"ecs-agent join {CONTROL} --token-file {INVITATION}", timeout_s=START_LIMIT_S)
    wait_until_connected(host)


def make_image(host: Vm) -> None:
    """Load an image of busybox and a page: no registry is in reach."""
    host.run(
        f"""mkdir -p /tmp/image/bin /tmp/image/www
        cp /bin/busybox /tmp/image/bin
        chroot /tmp/image /bin/busybox --install -s /bin
        echo {PAGE} >/tmp/image/www/index.html
        tar -C /tmp/image -c . | docker import --change 'CMD ["sh"]' - {IMAGE}""",
    )


def show(host: Vm, unit: str, *properties: str) -> list[str]:
    """Return properties of a unit, in the order asked for."""
    return host.out(
        "\n".join(f"systemctl show --value --property {name} {unit}" for name in properties)
    ).splitlines() or [""]


def main_pid(host: Vm) -> int:
    """Return the pid of the agent."""
    return int(show(host, "ecs-agent", "MainPID")[0])


def wait_until_connected(host: Vm, *, within_s: float = START_LIMIT_S) -> None:
    """Return once the agent serves and control gives it orders."""
    host.until(
        f"systemctl is-active --quiet ecs-agent && {ASK}/agent | grep '\"controlConnected\": *true'",
        within_s=within_s,
    )
