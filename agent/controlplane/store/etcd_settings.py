"""Where an etcd is and how it is reached: the address, and what must not stand on a command line. Pure but for files.

::

    etcd://HOST:PORT[,HOST:PORT...]/PREFIX      plain HTTP
    etcds://HOST:PORT[,HOST:PORT...]/PREFIX     TLS

    ECS_CONTROL_ETCD_USER             with ECS_CONTROL_ETCD_PASSWORD_FILE
    ECS_CONTROL_ETCD_PASSWORD_FILE    file with the password, mode 0600
    ECS_CONTROL_ETCD_CA               PEM file of the authority; without it, those of the system
    ECS_CONTROL_ETCD_CERTIFICATE      PEM file of a client certificate, with ECS_CONTROL_ETCD_KEY
    ECS_CONTROL_ETCD_KEY
    ECS_CONTROL_ETCD_QUOTA            etcd's --quota-backend-bytes, which it does not tell; 2 GiB by default

Tests: ``tests/unit/controlplane/store/test_etcd_settings.py``.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

USER: Final = "ECS_CONTROL_ETCD_USER"
PASSWORD_FILE: Final = "ECS_CONTROL_ETCD_PASSWORD_FILE"  # noqa: S105 - name of a variable
CA: Final = "ECS_CONTROL_ETCD_CA"
CERTIFICATE: Final = "ECS_CONTROL_ETCD_CERTIFICATE"
KEY: Final = "ECS_CONTROL_ETCD_KEY"
QUOTA: Final = "ECS_CONTROL_ETCD_QUOTA"
VARIABLES: Final = (USER, PASSWORD_FILE, CA, CERTIFICATE, KEY, QUOTA)

DEFAULT_QUOTA_BYTES: Final = 2 << 30
"""etcd's own default."""
_ADDRESS: Final = re.compile(r"(etcds?)://([^/?#]+)(/[^?#]*)?")
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_OWN: Final = frozenset({"keys", "store"})
"""What follows a prefix in etcd: a fleet whose prefix ends with it would be a part of another's."""
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._-]+)+")


class EtcdSettings(Struct, frozen=True, kw_only=True):
    """How one fleet's part of an etcd is reached."""

    endpoints: tuple[str, ...]
    """URLs, tried in this order."""
    prefix: str
    """Of all keys; begins with a slash and ends without."""
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    quota_bytes: int = DEFAULT_QUOTA_BYTES

    @property
    def shown(self) -> str:
        """The address, for a person."""
        scheme = "etcds" if self.endpoints[0].startswith("https") else "etcd"
        hosts = ",".join(one.split("://", 1)[1] for one in self.endpoints)
        return f"{scheme}://{hosts}{self.prefix}"

    def password(self) -> str:
        """Return the password, read anew; empty without a user. Blocking.

        Raises:
            ConfigError: the file cannot be read, is empty, or others may read it.
        """
        if self.password_file is None:
            return ""
        try:
            if self.password_file.stat().st_mode & 0o077:
                raise ConfigError(
                    f"{PASSWORD_FILE} {self.password_file}: others can read it; use `chmod 600`"
                )
            text = self.password_file.read_text().strip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{PASSWORD_FILE} {self.password_file}: {reason}") from None
        if not text:
            raise ConfigError(f"{PASSWORD_FILE} {self.password_file}: is empty")
        return text

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context; None for plain HTTP. Blocking.

        Raises:
            ConfigError: a file cannot be used.
        """
        if not self.endpoints[0].startswith("https"):
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"{CA} {self.ca}: cannot be used: {error}") from None
        if self.certificate is not None and self.key is not None:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"{CERTIFICATE} {self.certificate} with {KEY} {self.key}: cannot be used: {error}"
                ) from None
        return context


def parse(address: str, environ: Mapping[str, str]) -> EtcdSettings:
    """Return the settings.

    Raises:
        ConfigError: the address or a variable is wrong; the text has no password.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ConfigError(
            "the store's address must be etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds:// for TLS"
        )
    scheme, hosts, prefix = found.groups()
    if "@" in hosts:
        raise ConfigError(
            f"a user in the store's address would be seen by all users of this machine; use {USER} and "
            f"{PASSWORD_FILE}"
        )
    if prefix is None or _PREFIX.fullmatch(prefix) is None:
        raise ConfigError(
            f"the store's address must end with a prefix of the fleet's keys such as /ecs/main, not "
            f"{prefix or 'nothing'}: several fleets may share an etcd"
        )
    if _OWN & set(prefix.split("/")):
        raise ConfigError(
            f"the prefix {prefix} in the store's address has a part that the store itself uses "
            f"({' or '.join(sorted(_OWN))}); choose another"
        )
    return EtcdSettings(
        endpoints=tuple(_endpoint(scheme, host) for host in hosts.split(",")),
        prefix=prefix,
        **_given(scheme, environ),
    )


def _endpoint(scheme: str, host: str) -> str:
    found = _HOST.fullmatch(host)
    if found is None or not 0 < int(found.group(2)) < 65536:
        raise ConfigError(f"{host} in the store's address is not HOST:PORT, such as 10.0.0.5:2379")
    return f"{'https' if scheme == 'etcds' else 'http'}://{host}"


def _given(scheme: str, environ: Mapping[str, str]) -> dict[str, Any]:
    values = {name: environ.get(name, "") for name in VARIABLES}
    for one, other in ((USER, PASSWORD_FILE), (CERTIFICATE, KEY)):
        if bool(values[one]) != bool(values[other]):
            raise ConfigError(f"{one} and {other} are only used together; set both or none")
    for name in (CA, CERTIFICATE):
        if values[name] and scheme != "etcds":
            raise ConfigError(f"{name} is for TLS: begin the store's address with etcds://")
    quota = values[QUOTA]
    if quota and not (quota.isdecimal() and int(quota) > 0):
        raise ConfigError(f"{QUOTA} {quota}: is not a number of bytes")
    return {
        "user": values[USER],
        "password_file": _path(values[PASSWORD_FILE]),
        "ca": _path(values[CA]),
        "certificate": _path(values[CERTIFICATE]),
        "key": _path(values[KEY]),
        "quota_bytes": int(quota) if quota else DEFAULT_QUOTA_BYTES,
    }


def _path(text: str) -> Path | None:
    return Path(text).absolute() if text else None
