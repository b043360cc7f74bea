"""What several controls over one etcd must have alike on their disks: a control with other files must not lead.

etcd has what the fleet is; keys and certificates are in the data directory of each control, so that etcd never
has them in clear. A control that takes over with another authority would be refused by every host, with other
secret keys it could open no secret, and with other tokens it would refuse every agent. So what leads notes a
digest of each file, and what stands by compares.

Tests: ``tests/unit/controlplane/test_site_files.py``.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from agent.controlplane.pki.names import AUTHORITY_FILE, DIRECTORY
from agent.controlplane.server.settings import SECRET_KEYS
from agent.controlplane.store.contract import StoreFailure
from agent.errors import BAD_JSON, ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.controlplane.server.settings import ControlSettings
    from agent.controlplane.store.etcd import EtcdStore

NAME: Final = "files"
"""Of the store's own key."""
LOOK_EVERY_S: Final = 10.0
ABSENT: Final = "absent"

_log = structlog.get_logger(__name__)


def files(settings: ControlSettings) -> dict[str, Path]:
    """Return the files that must be alike, by what they are."""
    found: dict[str, Path | None] = {
        "keys of secrets": settings.secret_keys or settings.data_dir / SECRET_KEYS,
        "authority for hosts": settings.data_dir / DIRECTORY / AUTHORITY_FILE
        if settings.tls_own or settings.tls_certificate
        else None,
        "tokens of agents": settings.token_file,
        "keys of operators": settings.keys_file,
        "tokens for metrics": settings.metrics_token_file,
    }
    return {what: path for what, path in found.items() if path is not None}


def digests(settings: ControlSettings, salt: bytes) -> dict[str, str]:
    """Return a digest of each file, from which it cannot be guessed. Blocking, a tenth of a second each.

    Raises:
        ConfigError: a file cannot be read.
    """
    found = {}
    for what, path in files(settings).items():
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            found[what] = ABSENT
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        else:
            found[what] = hashlib.scrypt(content, salt=salt, n=1 << 14, r=8, p=1, dklen=16).hex()
    return found


async def check(store: EtcdStore, settings: ControlSettings) -> None:
    """Compare the files with those of the last control that led.

    Raises:
        ConfigError: one differs; the text names it and the mend.
        StoreFailure: etcd does not answer.
    """
    noted = await store.own(NAME)
    if noted is None:
        return
    try:
        wanted = msgspec.json.decode(noted.value, type=dict[str, str])
    except BAD_JSON:
        return
    here = await asyncio.to_thread(digests, settings, _salt(store))
    for what, path in files(settings).items():
        if wanted.get(what, ABSENT) not in (ABSENT, here[what]):
            raise ConfigError(
                f"the {what} ({path}) differ from those of the control that led last: copy its file here, "
                "or name a data directory that has it; etcd does not have these files"
            )


class SiteFiles:
    """Notes the files of what leads, whenever they change."""

    def __init__(self, store: EtcdStore, settings: ControlSettings) -> None:
        self._store = store
        self._settings = settings
        self._seen: dict[str, Any] = {}

    async def run(self) -> None:
        """Note them until cancelled."""
        while True:
            try:
                await self.note()
            except (StoreFailure, ConfigError) as error:
                _log.warning("files for other controls not noted", error=str(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def note(self) -> None:
        """Note them now, if any has changed."""
        seen = await asyncio.to_thread(self._stamps)
        if seen == self._seen:
            return
        found = await asyncio.to_thread(digests, self._settings, _salt(self._store))
        put = {
            "request_put": {
                "key": self._store.words.own(NAME),
                "value": msgspec.json.encode(found, order="sorted"),
            }
        }
        await self._store.own_txn(
            {"compare": [self._store.fence.compare] if self._store.fence else [], "success": [put]}
        )
        self._seen = seen

    def _stamps(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for what, path in files(self._settings).items():
            try:
                status = path.stat()
            except OSError:
                found[what] = None
            else:
                found[what] = (status.st_mtime_ns, status.st_size, status.st_ino)
        return found


def _salt(store: EtcdStore) -> bytes:
    return store.words.prefix.encode()
