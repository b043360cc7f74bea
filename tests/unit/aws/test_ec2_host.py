from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.aws.ec2_host import is_ec2

if TYPE_CHECKING:
    from pathlib import Path

NITRO = {"sys_vendor": "Amazon EC2", "board_asset_tag": "i-0abc1234567890def"}
XEN = {
    "sys_vendor": "Xen",
    "bios_version": "4.2.amazon",
    "product_uuid": "EC2CEFAC-DCE1-EED5-4E48-83AD3EF51BFB",
    "product_serial": "ec2cefac-dce1-eed5-4e48-83ad3ef51bfb",
}
ID = "12345678-90ab-cdef-1234-567890abcdef"


@pytest.mark.parametrize(
    ("dmi", "hypervisor", "ec2"),
    [
        (NITRO, None, True),
        ({"sys_vendor": "Amazon EC2"}, None, True),
        ({"sys_vendor": "Supermicro", "board_asset_tag": "i-0abc1234567890def"}, None, True),
        (XEN, None, True),
        ({**XEN, "product_serial": "x"}, None, True),
        # Firmware that writes the first fields in the other order of bytes.
        (
            {"sys_vendor": "Xen", "product_uuid": "45E12AEC-DCD1-B213-94ED-012345ABCDEF"}
            | {"product_version": "4.11.amazon"},
            None,
            True,
        ),
        ({}, "ec2e1916-9099-7caf-fd21-012345abcdef", True),
        ({"sys_vendor": "Xen"}, ID, False),
        # A number that begins so by chance.
        ({"sys_vendor": "Dell Inc.", "product_uuid": f"ec2{ID[3:]}"}, None, False),
        ({"sys_vendor": "QEMU", "board_asset_tag": "", "product_uuid": ID}, None, False),
        ({"sys_vendor": "Amazon Web Services Fan Club"}, None, False),
        ({"sys_vendor": "OpenStack Foundation", "product_name": "OpenStack Nova"}, None, False),
        ({"board_asset_tag": "i-am-not"}, None, False),
        ({}, None, False),
    ],
)
def test_a_host_is_an_ec2_instance_when_it_says_so(
    dmi: dict[str, str], hypervisor: str | None, ec2: bool, tmp_path: Path
) -> None:
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    for name, text in dmi.items():
        (folder / name).write_text(f"{text}\n")
    if hypervisor is not None:
        (tmp_path / "sys/hypervisor").mkdir()
        (tmp_path / "sys/hypervisor/uuid").write_text(f"{hypervisor}\n")
    assert is_ec2(tmp_path) is ec2


def test_files_of_any_kind_are_no_failure(tmp_path: Path) -> None:
    folder = tmp_path / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "sys_vendor").write_bytes(b"\xff" * 100_000)
    (folder / "product_uuid").mkdir()
    assert not is_ec2(tmp_path)
