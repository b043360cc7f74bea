from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import etcd_settings
from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_an_address_names_endpoints_and_a_prefix() -> None:
    found = etcd_settings.parse("etcd://a:2379,[::1]:2380/ecs/main", {})
    assert found.endpoints == ("http://a:2379", "http://[::1]:2380")
    assert found.prefix == "/ecs/main"
    assert found.shown == "etcd://a:2379,[::1]:2380/ecs/main"
    assert found.quota_bytes == 2 << 30
    assert found.tls() is None
    assert found.password() == ""


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://a:2379/x", "must be etcd://"),
        ("etcd://a:2379", "must end with a prefix"),
        ("etcd://a:2379/", "must end with a prefix"),
        ("etcd://a:2379/x/", "must end with a prefix"),
        ("etcd://a:2379/x/keys", "that the store itself uses"),
        ("etcd://a/x", "is not HOST:PORT"),
        ("etcd://a:99999/x", "is not HOST:PORT"),
        ("etcd://a:1,,b:2/x", "is not HOST:PORT"),
        ("etcd://me:secret@a:1/x", "would be seen by all users"),
    ],
)
def test_a_wrong_address_is_refused_without_its_password(address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        etcd_settings.parse(address, {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"ECS_CONTROL_ETCD_USER": "u"}, "only used together"),
        ({"ECS_CONTROL_ETCD_KEY": "k"}, "only used together"),
        ({"ECS_CONTROL_ETCD_CA": "c"}, "begin the store's address with etcds://"),
        ({"ECS_CONTROL_ETCD_QUOTA": "2G"}, "is not a number of bytes"),
    ],
)
def test_wrong_variables_are_refused(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        etcd_settings.parse("etcd://a:1/x", environ)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    file = tmp_path / "password"
    environ = {
        "ECS_CONTROL_ETCD_USER": "u",
        "ECS_CONTROL_ETCD_PASSWORD_FILE": str(file),
        "ECS_CONTROL_ETCD_CA": str(tmp_path / "ca.pem"),
    }
    found = etcd_settings.parse("etcds://a:1/x", environ)
    with pytest.raises(ConfigError, match="No such file"):
        found.password()
    file.write_text("\n")
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="is empty"):
        found.password()
    file.write_text("p w\n")
    assert found.password() == "p w"
    with pytest.raises(ConfigError, match="ECS_CONTROL_ETCD_CA"):
        found.tls()
