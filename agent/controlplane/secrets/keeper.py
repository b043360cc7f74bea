"""Keys and values together: seals what is stored, opens what is read, and changes the keys.

The key file is created with the first value. A change of keys may be cut short at any moment: the new key is in
the file before anything is sealed with it, the old ones stay in it until nothing needs them, and what is
still sealed with an old key is sealed anew at the next start. One event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from msgspec.structs import replace

from agent.controlplane import access
from agent.controlplane.secrets import key_file, secret_records
from agent.controlplane.secrets.sealing import Sealer, SecretsFailure
from agent.controlplane.secrets.secret_records import ParameterRecord, Sealed, SecretRecord
from agent.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.controlplane.records import Record
    from agent.controlplane.secrets.key_file import SecretKey
    from agent.controlplane.store.contract import Store

PARAMETER = "parameter"
SECRET = "secret"  # noqa: S105 - a kind of thing

Reseal = Callable[[Sealed, Sequence[str]], Sealed]

_log = structlog.get_logger(__name__)


class Rotated(NamedTuple):
    """What a change of keys did."""

    key_id: str
    sealed: int
    """How many records were sealed anew."""
    left: int
    """How many could not be, and still need an old key."""
    keys: int
    """How many keys the file now has."""


class SealedKind(NamedTuple):
    """A kind of record of another package that has sealed values."""

    prefix: str
    """Of its keys in the store."""
    kind: type[Record]
    reseal: Callable[[Any, Reseal], Any]
    """Returns a record whose sealed values were passed through a function, which takes each value and what it
    is bound to."""


class SecretKeeper:
    """Keeps the secrets of one store."""

    def __init__(
        self,
        store: Store,
        file: Path,
        keys: Sequence[SecretKey],
        others: Sequence[SealedKind] = (),
    ) -> None:
        """Take the keys as they are in the file; ``open`` reads them."""
        self.store = store
        self.file = file
        self._others = tuple(others)
        self._keys = tuple(keys)
        self._sealer = Sealer(self._keys)
        self.storing = asyncio.Lock()
        """Held from the sealing of a value until it is stored, so that no key goes meanwhile."""

    @classmethod
    async def open(
        cls, store: Store, file: Path, others: Sequence[SealedKind] = ()
    ) -> SecretKeeper:
        """Read the keys; there may be none yet.

        Args:
            store: has what is sealed.
            file: of the keys.
            others: what else is sealed with them, besides parameters and secrets.

        Raises:
            ConfigError: the file cannot be used.
        """
        return cls(store, file, await asyncio.to_thread(key_file.load, file), others)

    def __repr__(self) -> str:
        return f"SecretKeeper({str(self.file)!r}, {len(self._keys)} keys)"

    async def seal(self, value: str, what: Sequence[str]) -> Sealed:
        """Return a value sealed with the newest key; ``storing`` must be held.

        Raises:
            SecretsFailure: there is no key, and none can be created.
        """
        if not self._keys:
            await self._begin()
        return self._sealer.seal(value, what)

    def unseal(self, sealed: Sealed, what: Sequence[str]) -> str:
        """Return a value; raises ``SecretsFailure``."""
        return self._sealer.open(sealed, what)

    async def reload(self) -> None:
        """Read the file again; a bad one changes nothing and is logged."""
        async with self.storing:
            try:
                self._take(await asyncio.to_thread(key_file.load, self.file) or self._keys)
            except ConfigError as error:
                _log.error("secret keys not reloaded; the old ones stay in use", error=str(error))

    async def rotate(self, *, forget_old: bool) -> Rotated:
        """Encrypt everything with a new key.

        Args:
            forget_old: remove the old keys. Older copies of the store then cannot be opened.

        Raises:
            SecretsFailure: the file cannot be written; the keys are as they were.
            StoreFailure: some values still need an old key; the same again is safe.
        """
        async with self.storing:
            await self._save((key_file.new_key(), *self._keys))
        sealed, left = await self.reseal()
        if forget_old and not left:
            async with self.storing:
                await self._save(self._keys[:1])
        _log.info("secret keys changed", key=self._sealer.key_id, sealed=sealed, left=left)
        return Rotated(self._sealer.key_id, sealed, left, len(self._keys))

    async def reseal(self) -> tuple[int, int]:
        """Seal with the newest key what an older one sealed; return how many were, and were not."""
        sealed = left = 0
        async for key, is_done in self._reseal_each():
            sealed += is_done
            if not is_done:
                left += 1
                _log.error("a secret keeps its old key, because it cannot be opened", key=key)
        return sealed, left

    async def _reseal_each(self) -> AsyncIterator[tuple[str, bool]]:
        newest = self._sealer.key_id
        async for kv, parameter in access.scan(
            self.store, ParameterRecord, secret_records.PARAMETERS
        ):
            if parameter.value.key != newest:
                yield kv.key, await self._change(ParameterRecord, kv.key, self._with_newest_key)
        async for kv, secret in access.scan(self.store, SecretRecord, secret_records.SECRETS):
            if any(version.value.key != newest for version in secret.versions):
                yield kv.key, await self._change(SecretRecord, kv.key, self._all_with_newest_key)
        for other in self._others:
            async for kv, record in access.scan(self.store, other.kind, other.prefix):
                if not self._is_of_newest(other, record):
                    decide = partial(self._resealed, other)
                    yield kv.key, await self._change(other.kind, kv.key, decide)

    def _resealed(self, other: SealedKind, record: Any) -> Any:
        return other.reseal(record, self._again)

    def _again(self, sealed: Sealed, what: Sequence[str]) -> Sealed:
        """Return a value sealed with the newest key; raises ``SecretsFailure``."""
        if sealed.key == self._sealer.key_id:
            return sealed
        return self._sealer.seal(self.unseal(sealed, what), what)

    def _is_of_newest(self, other: SealedKind, record: Record) -> bool:
        used: set[str] = set()

        def note(sealed: Sealed, _what: Sequence[str]) -> Sealed:
            used.add(sealed.key)
            return sealed

        other.reseal(record, note)
        return used <= {self._sealer.key_id}

    async def _change(
        self,
        kind: type[access.RecordT],
        key: str,
        decide: Callable[[access.RecordT], access.RecordT],
    ) -> bool:
        try:
            await access.change(self.store, kind, key, decide)
        except SecretsFailure:
            return False
        return True

    def _with_newest_key(self, record: ParameterRecord) -> ParameterRecord:
        if record.value.key == self._sealer.key_id:
            return record
        what = (PARAMETER, record.name, str(record.version))
        return replace(record, value=self._sealer.seal(self.unseal(record.value, what), what))

    def _all_with_newest_key(self, record: SecretRecord) -> SecretRecord:
        versions = []
        for version in record.versions:
            what = (SECRET, record.name, version.id)
            if version.value.key == self._sealer.key_id:
                versions.append(version)
            else:
                value = self._sealer.seal(self.unseal(version.value, what), what)
                versions.append(replace(version, value=value))
        return replace(record, versions=versions)

    async def _begin(self) -> None:
        """Create the file with its first key, unless it was there once."""
        if await self._has_values():
            raise SecretsFailure(
                f"the file of secret keys {self.file} is gone, and there are secrets that need it; put "
                "it back from a copy and reload control, or remove those secrets first"
            )
        for other in self._others:
            async for _, record in access.scan(self.store, other.kind, other.prefix):
                if not self._is_of_newest(other, record):
                    raise SecretsFailure(
                        f"the file of secret keys {self.file} is gone, and access keys of users or sessions "
                        "of roles need it; put it back from a copy and reload control, or remove those "
                        "users first"
                    )
        await self._save((key_file.new_key(),))
        _log.info("secret keys created; keep a copy of the file", file=str(self.file))

    async def _has_values(self) -> bool:
        """Tell whether a parameter or secret has a value; a secret may wait for its first one."""
        if (await self.store.range(secret_records.PARAMETERS, limit=1)).items:
            return True
        async for page in access.pages(self.store, secret_records.SECRETS):
            for kv in page:
                found = access.read(SecretRecord, kv)
                if found is None or found.record.versions:
                    return True
        return False

    async def _save(self, keys: Sequence[SecretKey]) -> None:
        try:
            await asyncio.to_thread(key_file.save, self.file, keys)
        except ConfigError as error:
            raise SecretsFailure(str(error)) from None
        self._take(keys)

    def _take(self, keys: Sequence[SecretKey]) -> None:
        self._keys = tuple(keys)
        self._sealer = Sealer(self._keys)
