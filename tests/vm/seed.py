"""What a new host is told at its first boot: its name, and who may log in.

Either by cloud-init's NoCloud seed, on an ISO of its own, as hosts of an image are; or by credentials
that systemd finds in the firmware's tables, which takes a fraction of the time.
"""

from __future__ import annotations

import base64
import subprocess
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ISO = "seed.iso"
VOLUME = "cidata"
"""The name by which cloud-init knows the disk."""


def make_key(path: Path) -> str:
    """Make a key pair at ``path`` and return the public one."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path],
        check=True,
        timeout=30,
    )
    return path.with_suffix(".pub").read_text().strip()


def make_iso(folder: Path, *, name: str, user: str, key: str, more: str = "") -> Path:
    """Write the seed of a new host that ``user`` logs into with ``key``; return the ISO's path."""
    (folder / "meta-data").write_text(f"instance-id: {uuid.uuid4()}\nlocal-hostname: {name}\n")
    (folder / "user-data").write_text(
        f"""#cloud-config
disable_root: false
users:
  - name: {user}
    lock_passwd: true
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys: [{key}]
{more}
"""
    )
    iso = folder / ISO
    subprocess.run(
        [
            *("xorriso", "-as", "genisoimage", "-quiet", "-volid", VOLUME, "-joliet", "-rock"),
            *("-output", iso, folder / "user-data", folder / "meta-data"),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return iso


def make_credential(folder: Path, *, name: str, key: str) -> str:
    """Return qemu's ``-smbios`` argument for a host that root logs into with ``key``.

    Systemd's tmpfiles makes files of it before sshd starts, which refuses to without a key of the
    host's own.
    """
    make_key(folder / "host-key")
    files = {
        "/etc/hostname": (0o644, f"{name}\n"),
        "/etc/hosts": (0o644, f"127.0.0.1 localhost {name}\n"),
        "/etc/ssh/ssh_host_ed25519_key": (0o600, (folder / "host-key").read_text()),
        "/root/.ssh/authorized_keys": (0o600, f"{key}\n"),
    }
    lines = ["d /root/.ssh 0700 root root"]
    for path, (mode, text) in files.items():
        lines.append(f"f+~ {path} {mode:o} root root - {_base64(text)}")
    return f"type=11,value=io.systemd.credential.binary:tmpfiles.extra={_base64(_lines(lines))}"


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
