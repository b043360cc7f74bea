"""Detects from firmware and hypervisor whether this host is an EC2 instance. Uses no network.

Reads a few small files below ``/sys``. A host without this information, such as a board without
DMI, does not count as an EC2 instance. Set ``AWS_EC2_METADATA_SERVICE_ENDPOINT`` to override this.

Source: the user guide of Amazon EC2 ("Detect whether a host is an EC2 instance"), and how
``ds-identify`` of cloud-init 25 does it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT: Final = Path("/")
_DMI: Final = "sys/class/dmi/id"
_HYPERVISOR: Final = "sys/hypervisor/uuid"
_VENDOR: Final = "amazon ec2"
_ASSET_TAG: Final = re.compile(r"i-[0-9a-f]{8,32}")
_FIRST_FIELD: Final = re.compile(r"[0-9a-f]{8}-")
_LIMIT_CHARACTERS: Final = 256


def is_ec2(root: Path = _ROOT) -> bool:
    """Return whether this is an EC2 instance. Blocks for a moment; never fails.

    ``root`` is where ``sys`` is; for tests.
    """

    def dmi(name: str) -> str:
        return _first_line(root / _DMI / name)

    return (
        # Nitro, including bare metal.
        dmi("sys_vendor").startswith(_VENDOR)
        or _ASSET_TAG.fullmatch(dmi("board_asset_tag")) is not None
        # Xen.
        or _first_line(root / _HYPERVISOR).startswith("ec2")
        or (_begins_with_ec2(dmi("product_uuid")) and _is_confirmed(dmi))
    )


def asks_metadata(*, disabled: bool, endpoint: str) -> bool:
    """Return whether this host uses instance metadata. Blocks for a moment.

    Args:
        disabled: metadata is disabled in the settings.
        endpoint: the configured metadata URL, if any; if set, metadata is used on any host.
    """
    return not disabled and (bool(endpoint) or is_ec2())


def _begins_with_ec2(uuid: str) -> bool:
    """Tell whether a UUID begins with ``ec2``, in either byte order of its first field."""
    if not _FIRST_FIELD.match(uuid):
        return False
    swapped = "".join(uuid[at : at + 2] for at in (6, 4, 2, 0))
    return uuid.startswith("ec2") or swapped.startswith("ec2")


def _is_confirmed(dmi: Callable[[str], str]) -> bool:
    """Tell whether something else confirms EC2: any UUID may begin with ``ec2`` by chance."""
    return dmi("product_serial").startswith("ec2") or any(
        dmi(name).endswith(".amazon") for name in ("bios_version", "product_version")
    )


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(_LIMIT_CHARACTERS).strip().lower()
    except OSError:
        return ""
