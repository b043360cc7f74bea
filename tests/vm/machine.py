"""A virtual machine for tests: an overlay on the base disk, booted by qemu and driven by ssh.

Software emulation only: it works wherever the tests run, at a tenth of the machine's speed, so be
generous with time limits. A VM reaches nothing: qemu's user network is restricted, and what gets in
are the ports of the loopback that a test forwards. For one VM to reach another, or the test itself,
give ``reaches``.

A VM ends with the process that started it, however that ends.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.vm import seed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

BOOT_LIMIT_S = 900.0
COMMAND_LIMIT_S = 240.0
"""Of what takes a second or less on a real machine; where other VMs run, a command of the agent takes a minute."""
HOST_FROM_INSIDE = "10.0.2.100"
"""Where a VM finds the ports that it was given as ``reaches``."""
SERIAL_TAIL_LINES = 40
END_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

_log = logging.getLogger("vm")


class VmError(Exception):
    """The VM did not do what was asked; says what it printed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command in the VM came to."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Vm:
    """One machine. Not for concurrent use; a context manager that starts and ends it."""

    disk: Path
    """The qcow2 file that it runs on; never written."""
    folder: Path
    """An empty directory for its files: overlay, keys, serial log."""
    name: str = "vm"
    """Its host name, also in log lines."""
    memory_mib: int = 2048
    user: str = "root"
    """Who runs the commands."""
    user_data: str = ""
    """More lines of cloud-config."""
    quick: bool = False
    """Let root in without cloud-init, which makes the first boot twice as quick; for ``base`` only."""
    reaches: Mapping[int, int] = field(default_factory=dict)
    """Port in the VM, at ``HOST_FROM_INSIDE``, to the port of this machine's loopback behind it."""
    _machine: subprocess.Popen[bytes] | None = None
    _channel: subprocess.Popen[bytes] | None = None
    _ssh_port: int = 0
    _forwards: dict[int, int] = field(default_factory=dict)
    _arguments: list[str] = field(default_factory=list)

    def __enter__(self) -> Vm:
        """Start it and wait until commands can be run."""
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.end()

    @property
    def serial_log(self) -> Path:
        """The file with everything that it printed on its console."""
        return self.folder / "serial.log"

    def start(self) -> None:
        """Boot it and return when commands can be run.

        Raises:
            VmError: It was not there in time; has the end of its console.
        """
        key = seed.make_key(self.folder / "key")
        overlay = self.folder / "disk.qcow2"
        _call("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", self.disk, overlay)
        self._ssh_port = free_port()
        self._arguments = [*self._command(overlay), *self._tell(key)]
        begun = time.monotonic()
        self._power_on()
        if self.quick:  # the name that it booted with was read before the credential
            self.run(f"hostname {shlex.quote(self.name)}")
        _log.info("%s: booted in %.0f s", self.name, time.monotonic() - begun)

    def end(self) -> None:
        """End it as a power cut does; idempotent."""
        for process in (self._channel, self._machine):
            if process is not None:
                process.kill()
                process.wait()
        self._channel = self._machine = None

    def run(
        self,
        command: str,
        *,
        timeout_s: float = COMMAND_LIMIT_S,
        check: bool = True,
        stdin: bytes = b"",
    ) -> Outcome:
        """Run a shell command in it.

        Raises:
            VmError: It failed (unless ``check`` is off), or took longer than ``timeout_s``.
        """
        try:
            done = subprocess.run(
                ["ssh", *self._via_channel(), "vm", f"set -e\n{command}"],
                input=stdin,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            text = _text(late.stdout) + _text(late.stderr)
            raise VmError(f"`{command}` took longer than {timeout_s:g} s:\n{text}") from None
        outcome = Outcome(done.returncode, _text(done.stdout), _text(done.stderr))
        if check and outcome.code:
            raise VmError(
                f"`{command}` exited with {outcome.code}:\n{outcome.out}{outcome.err}".rstrip()
            )
        return outcome

    def out(self, command: str, *, timeout_s: float = COMMAND_LIMIT_S) -> str:
        """Run a shell command in it and return what it printed, stripped."""
        return self.run(command, timeout_s=timeout_s).out.strip()

    def until(
        self, command: str, *, within_s: float = COMMAND_LIMIT_S, every_s: float = 1.0
    ) -> str:
        """Run a shell command again and again until it succeeds; return what it printed, stripped.

        Raises:
            VmError: It did not within ``within_s``; has its last output.
        """
        deadline = time.monotonic() + within_s
        while True:
            outcome = self.run(command, timeout_s=within_s, check=False)
            if outcome.code == 0:
                return outcome.out.strip()
            if time.monotonic() > deadline:
                raise VmError(
                    f"`{command}` did not succeed within {within_s:g} s; it says last:\n"
                    f"{outcome.out}{outcome.err}".rstrip()
                )
            time.sleep(every_s)

    def put(self, source: Path | str, target: str, *, mode: str = "0644") -> None:
        """Copy a file, or write a text, into the VM at the absolute path ``target``."""
        content = source.read_bytes() if isinstance(source, Path) else source.encode()
        where = shlex.quote(target)
        command = f"mkdir -p $(dirname {where})\ncat >{where}\nchmod {mode} {where}"
        self.run(command, stdin=content, timeout_s=180)

    def forward(self, port: int, *, here: int = 0) -> int:
        """Return a port of this machine's loopback (``here``, or a free one) that leads to one of the VM's."""
        if port not in self._forwards:
            here = here or free_port()
            self._open_forward(here, port)
            self._forwards[port] = here
        return self._forwards[port]

    def reboot(self) -> None:
        """Reboot it in order and return when commands can be run again; forwards stay."""
        assert self._machine is not None
        begun = time.monotonic()
        self.run("systemctl reboot", check=False)
        try:
            self._machine.wait(BOOT_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise VmError(f"{self.name} does not go down:\n{self.console()}") from None
        self._close_channel()
        self._power_on()
        for port, here in self._forwards.items():
            self._open_forward(here, port)
        _log.info("%s: rebooted in %.0f s", self.name, time.monotonic() - begun)

    def ssh_options(self) -> list[str]:
        """Return what leads ssh to this VM and lets it in, whatever host name it is given."""
        options = {
            "HostName": "127.0.0.1",
            "Port": str(self._ssh_port),
            "IdentityFile": str(self.folder / "key"),
            "BatchMode": "yes",
            "ConnectTimeout": "4",
            "ControlPersist": "no",
            "IdentitiesOnly": "yes",
            "ServerAliveInterval": "20",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
        }
        return ["-F", "none", *(f"-o{name}={value}" for name, value in options.items())]

    def console(self) -> str:
        """Return the last lines of its console."""
        try:
            text = self.serial_log.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-SERIAL_TAIL_LINES:])

    def _power_on(self) -> None:
        with (self.folder / "qemu.log").open("ab") as log:
            self._machine = subprocess.Popen(
                [*END_WITH_PARENT, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, which end us in order
            )
        self._connect()

    def _tell(self, key: str) -> list[str]:
        """Return the arguments by which a new host learns its name and who may log in."""
        if self.quick:
            return ["-smbios", seed.make_credential(self.folder, name=self.name, key=key)]
        iso = seed.make_iso(
            self.folder, name=self.name, user=self.user, key=key, more=self.user_data
        )
        return ["-drive", f"file={iso},if=virtio,format=raw,readonly=on"]

    def _command(self, overlay: Path) -> list[str]:
        network = f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{self._ssh_port}-:22"
        for inside, here in self.reaches.items():
            network += f",guestfwd=tcp:{HOST_FROM_INSIDE}:{inside}-cmd:busybox nc 127.0.0.1 {here}"
        return [
            "qemu-system-x86_64",
            # A plain processor: emulating wide vector instructions costs more than doing without.
            *("-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", "qemu64"),
            # One processor: several VMs run side by side, and where two processors of one have to share
            # one of this machine, each waits for locks that the other holds.
            *("-smp", "1", "-m", str(self.memory_mib), "-nodefaults", "-display", "none"),
            *("-chardev", f"file,id=serial,path={self.serial_log},append=on"),
            *("-serial", "chardev:serial"),
            # A reboot is a new process: in the old one it takes minutes to unlearn the code that
            # was translated for the memory which the boot overwrites.
            "-no-reboot",
            *("-drive", f"file={overlay},if=virtio,cache=unsafe,discard=unmap"),
            *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),
            *("-device", "virtio-rng-pci"),
        ]

    def _connect(self) -> None:
        """Wait for sshd and open the connection that all commands share."""
        deadline = time.monotonic() + BOOT_LIMIT_S
        socket_path = self.folder / "ssh"
        while True:
            self._channel = self._open_channel()
            while self._channel.poll() is None and time.monotonic() < deadline:
                if socket_path.exists():
                    return
                time.sleep(0.1)
            assert self._machine is not None
            if self._machine.poll() is not None:
                said = (self.folder / "qemu.log").read_text(errors="replace")
                raise VmError(f"{self.name}: qemu ended:\n{said}")
            if time.monotonic() > deadline:
                raise VmError(f"{self.name} did not boot in {BOOT_LIMIT_S:g} s:\n{self.console()}")
            time.sleep(0.5)

    def _open_channel(self) -> subprocess.Popen[bytes]:
        command = ["ssh", "-N", "-M", "-S", str(self.folder / "ssh"), *self.ssh_options()]
        with (self.folder / "ssh.log").open("ab") as log:
            return subprocess.Popen(
                [*END_WITH_PARENT, *command, f"{self.user}@vm"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _close_channel(self) -> None:
        if self._channel is not None:
            self._channel.terminate()
            self._channel.wait()
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "ssh").unlink()

    def _via_channel(self) -> list[str]:
        return ["-F", "none", "-S", str(self.folder / "ssh"), "-o", "ControlMaster=no"]

    def _open_forward(self, here: int, port: int) -> None:
        what = f"127.0.0.1:{here}:127.0.0.1:{port}"
        _call("ssh", *self._via_channel(), "-O", "forward", "-L", what, "vm")


def free_port() -> int:
    """Return a TCP port of the loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    if done.returncode:
        said = _text(done.stdout) + _text(done.stderr)
        raise VmError(f"{shlex.join(map(str, command))} exited with {done.returncode}:\n{said}")


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")
