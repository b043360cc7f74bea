"""What a cloned host is told at its first boot: cloud-init's NoCloud seed, on an ISO of its own."""

from __future__ import annotations

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
