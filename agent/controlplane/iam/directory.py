"""Users and roles in memory, as the store has them: whose keys are accepted, and what they may do.

A watch follows the store, so a key that is revoked anywhere is refused everywhere within milliseconds; a change
that this process makes is also read back before it is answered (``refresh``). Secrets are opened and policies
compiled when they are first used, and again when their record changes.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING, Final

import structlog
from msgspec import Struct

from agent.controlplane import access, records
from agent.controlplane.authorization import policy
from agent.controlplane.authorization.actions.table import SERVICES
from agent.controlplane.authorization.caller import ROLE, USER, Caller
from agent.controlplane.authorization.grants import Grants
from agent.controlplane.authorization.policy import PolicyInvalid
from agent.controlplane.front import keys
from agent.controlplane.iam import managed, role_records, sessions, user_records
from agent.controlplane.iam.role_records import IamRoleRecord
from agent.controlplane.iam.sessions import SessionInvalid, Sessions
from agent.controlplane.iam.user_records import IamUserRecord, SessionKeyRecord
from agent.controlplane.secrets.sealing import SecretsFailure
from agent.controlplane.store.contract import Compacted, Put, StoreFailure, absent

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.controlplane.authorization.policy import Statement
    from agent.controlplane.names import Names
    from agent.controlplane.secrets.keeper import SecretKeeper
    from agent.controlplane.store.contract import KeyValue, Store

_RETRY_S: Final = 1.0
_OPENED_MOST: Final = 1000
"""Sessions of one role whose credentials are remembered; then all are forgotten."""
_FIRST_SESSION_KEY: Final = "1"
_NOTHING: Final = """{"Version": "2012-10-17", "Statement": [
  {"Effect": "Deny", "Action": "*", "Resource": "*"}]}"""
"""What a policy becomes that cannot be compiled."""

_log = structlog.get_logger(__name__)


class Credential(Struct, frozen=True):
    """The secret of a key, and whose it is; ``repr`` does not show the secret."""

    secret: str
    caller: Caller
    grants: Grants

    def __repr__(self) -> str:
        return f"Credential({self.caller!r})"


class KeyUnknown(SessionInvalid):
    """No key with that id is accepted."""


class SessionExpired(SessionInvalid):
    """The session was valid once."""


class _Holder:
    """A user or a role, with what is made of its record at first use."""

    def __init__(self, record: IamUserRecord | IamRoleRecord) -> None:
        self.record = record
        self.opened: dict[str, Credential] = {}
        self._statements: tuple[Statement, ...] | None = None
        self._grants: Grants | None = None

    @property
    def statements(self) -> tuple[Statement, ...]:
        if self._statements is None:
            documents = [*map(managed.document, self.record.attached), *self.record.inline.values()]
            self._statements = tuple(
                statement
                for document in documents
                for statement in _compiled(document, self.record.name)
            )
        return self._statements

    @property
    def grants(self) -> Grants:
        if self._grants is None:
            self._grants = Grants(self.statements)
        return self._grants


class Directory:
    """Knows users, roles and sessions; one per process, for one event loop."""

    def __init__(self, store: Store, keeper: SecretKeeper, names: Names) -> None:
        """Take what to work with; ``open`` reads what is stored."""
        self._store = store
        self._keeper = keeper
        self._names = names
        self._holders: dict[str, _Holder] = {}
        self._revisions: dict[str, int] = {}
        self._of_key: dict[str, str] = {}
        self._sessions: dict[str, Sessions] = {}
        self._seen = 0
        self._changed: Callable[[str], None] = lambda _key: None

    def __repr__(self) -> str:
        return f"Directory({len(self._holders)} users and roles)"

    @classmethod
    async def open(cls, store: Store, keeper: SecretKeeper, names: Names) -> Directory:
        """Read what is stored; ``run`` must run to follow changes."""
        directory = cls(store, keeper, names)
        await directory._read_all()
        return directory

    def tell(self, changed: Callable[[str], None]) -> None:
        """Call this with the key of each user or role that has changed or is gone."""
        self._changed = changed

    # -- what is asked ------------------------------------------------------------------------

    def may_know(self, key_id: str) -> bool:
        """Return whether a key with this id may be accepted, with some token."""
        return key_id in self._of_key or key_id.startswith(keys.OF_SESSIONS)

    def credential(self, key_id: str, token: str, now: float) -> Credential:
        """Return the credential of an access key.

        Args:
            key_id: its id.
            token: the session token that came with it; empty for none.
            now: Unix seconds.

        Raises:
            KeyUnknown: no such key is accepted with this token.
            SessionExpired: it is one of a session that has ended.
        """
        if key_id in self._of_key:
            if token:
                raise KeyUnknown("a key of a user has no session token")
            return self._of_user(key_id)
        return self._of_session(key_id, token, now)

    def place(self, caller: Caller) -> str:
        """Return the key of the user or role whose keys and policies a caller has."""
        key_of = user_records.user_key if caller.type == USER else role_records.role_key
        return key_of(caller.name)

    def grants_of(self, caller: Caller, grants: Grants) -> Grants | None:
        """Return what the policies of a user or session say now; None if its key is not accepted any more.

        Args:
            caller: whom this directory knew once.
            grants: what policies said then; what limits the session stays.
        """
        holder = self._holders.get(self.place(caller))
        if holder is None or holder.record.id != caller.user_id.partition(":")[0]:
            return None
        if caller.type == USER and caller.key_id not in self._of_key:
            return None
        return grants.renewed(holder.statements)

    def role(self, given: str) -> IamRoleRecord | None:
        """Return a role by its name or ARN; None if there is none here."""
        name = given.rpartition("/")[2] if given.startswith("arn:") else given
        holder = self._holders.get(role_records.role_key(name))
        record = holder.record if holder is not None else None
        if not isinstance(record, IamRoleRecord) or given not in (
            record.name,
            record.arn(self._names),
        ):
            return None
        return record

    def trust(self, role: IamRoleRecord) -> tuple[Statement, ...]:
        """Return the compiled trust policy of a role; one that cannot be compiled trusts nobody."""
        try:
            return policy.compile_trust(role.trust)
        except PolicyInvalid as error:
            _log.error("trust policy trusts nobody", role=role.name, error=str(error))
            return ()

    async def begin(
        self,
        role: IamRoleRecord,
        name: str,
        *,
        now: float,
        duration_s: float,
        session_policy: str = "",
    ) -> tuple[sessions.Session, str]:
        """Return a new session of a role and its token; creates the session key at the first time.

        Raises:
            SecretsFailure: the session key cannot be sealed or opened.
        """
        if not self._sessions:
            await self._make_session_key()
        newest = self._sessions[max(self._sessions)]
        return newest.begin(
            role.id, role.name, name, now=now, duration_s=duration_s, policy=session_policy
        )

    # -- how the store is followed ------------------------------------------------------------

    async def run(self) -> None:
        """Follow the store until cancelled."""
        while True:
            try:
                watch = self._store.watch(user_records.EVERYTHING, after_revision=self._seen)
                async with watch:
                    async for batch in watch:
                        for event in batch.events:
                            self._take(event.kv, is_gone=event.type == "delete")
                        self._seen = batch.revision
            except Compacted:
                await self._again()
            except StoreFailure as error:
                _log.warning("users and roles wait for the store", error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def refresh(self, key: str) -> None:
        """Read one record now, so that a change of it counts before the change is answered."""
        at = self._store.revision
        kv = await self._store.get(key)
        if kv is not None:
            self._take(kv, is_gone=False)
        elif self._revisions.get(key, 0) <= at:
            self._revisions[key] = at
            self._drop(key)
            self._changed(key)

    async def reopen(self) -> None:
        """Open again what could not be opened before, because the keys of secrets have been read again."""
        for page in [page async for page in access.pages(self._store, user_records.SESSION_KEYS)]:
            for kv in page:
                self._take_session_key(kv, is_gone=False)

    async def _again(self) -> None:
        try:
            await self._read_all()
        except StoreFailure as error:
            _log.warning("users and roles wait for the store", error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _read_all(self) -> None:
        seen = self._store.revision
        there: set[str] = set()
        async for page in access.pages(self._store, user_records.EVERYTHING):
            for kv in page:
                there.add(kv.key)
                self._take(kv, is_gone=False)
        for key in self._holders.keys() - there:
            self._drop(key)
            self._changed(key)
        self._seen = seen

    def _take(self, kv: KeyValue, *, is_gone: bool) -> None:
        """Note a record as it was at a revision; older news changes nothing."""
        if kv.mod_revision <= self._revisions.get(kv.key, 0):
            return
        self._revisions[kv.key] = kv.mod_revision
        if kv.key.startswith(user_records.SESSION_KEYS):
            self._take_session_key(kv, is_gone=is_gone)
            return
        self._drop(kv.key)
        record = None if is_gone else _record(kv)
        if record is not None:
            self._holders[kv.key] = _Holder(record)
        if isinstance(record, IamUserRecord):
            for key in record.keys:
                if key.is_active:
                    self._of_key[key.id] = kv.key
        self._changed(kv.key)

    def _drop(self, key: str) -> None:
        holder = self._holders.pop(key, None)
        if holder is not None and isinstance(holder.record, IamUserRecord):
            for one in holder.record.keys:
                self._of_key.pop(one.id, None)

    # -- credentials --------------------------------------------------------------------------

    def _of_user(self, key_id: str) -> Credential:
        holder = self._holders[self._of_key[key_id]]
        known = holder.opened.get(key_id)
        if known is not None:
            return known
        user = holder.record
        assert isinstance(user, IamUserRecord)  # noqa: S101 - only users have keys
        (sealed,) = (key.secret for key in user.keys if key.id == key_id)
        try:
            secret = self._keeper.unseal(sealed, user_records.bound_key(key_id))
        except SecretsFailure as error:
            _log.error("access key cannot be opened", user=user.name, error=str(error))
            raise KeyUnknown("the key cannot be opened") from None
        caller = Caller(USER, user.name, user.arn(self._names), key_id, user.id)
        opened = holder.opened[key_id] = Credential(secret, caller, holder.grants)
        return opened

    def _of_session(self, key_id: str, token: str, now: float) -> Credential:
        session = self._session(key_id, token)
        holder = self._holders.get(role_records.role_key(session.role))
        if holder is None or holder.record.id != session.role_id:
            raise KeyUnknown("the role is gone")
        if session.expires_at <= now:
            raise SessionExpired("the session has ended")
        known = holder.opened.get(key_id)
        if known is not None:
            return known
        role = holder.record
        names = self._names
        caller = Caller(
            ROLE,
            role.name,
            f"arn:{names.partition}:sts::{names.account}:assumed-role/{role.name}/{session.name}",
            key_id,
            f"{role.id}:{session.name}",
            role.arn(names),
        )
        grants = holder.grants
        if session.policy:
            grants = Grants(holder.statements, _compiled(session.policy, role.name))
        if len(holder.opened) >= _OPENED_MOST:
            holder.opened.clear()
        opened = holder.opened[key_id] = Credential(session.secret, caller, grants)
        return opened

    def _session(self, key_id: str, token: str) -> sessions.Session:
        for one in self._sessions.values():
            try:
                return one.read(key_id, token)
            except SessionInvalid:
                continue
        raise KeyUnknown("no such key")

    def _take_session_key(self, kv: KeyValue, *, is_gone: bool) -> None:
        self._sessions.pop(records.last_element(kv.key), None)
        found = None if is_gone else access.read(SessionKeyRecord, kv)
        if found is None:
            return
        record = found.record
        try:
            text = self._keeper.unseal(record.key, user_records.bound_session_key(record.id))
        except SecretsFailure as error:
            _log.error(
                "session key cannot be opened; sessions of roles are refused", error=str(error)
            )
            return
        self._sessions[record.id] = Sessions(base64.b64decode(text))

    async def _make_session_key(self) -> None:
        key_id = _FIRST_SESSION_KEY
        text = base64.b64encode(secrets.token_bytes(sessions.KEY_BYTES)).decode()
        place = user_records.session_key_key(key_id)
        async with self._keeper.storing:
            sealed = await self._keeper.seal(text, user_records.bound_session_key(key_id))
            put = Put(place, records.encode(SessionKeyRecord(id=key_id, key=sealed)))
            await self._store.txn([absent(place)], [put])
        await self.refresh(place)
        if not self._sessions:
            raise SecretsFailure(
                "the session key cannot be opened; put the file of secret keys back"
            )


def _record(kv: KeyValue) -> IamUserRecord | IamRoleRecord | None:
    if kv.key.startswith(user_records.USERS):
        user = access.read(IamUserRecord, kv)
        return None if user is None else user.record
    role = access.read(IamRoleRecord, kv)
    return None if role is None else role.record


def _compiled(document: str, name: str) -> tuple[Statement, ...]:
    """Return the statements of a document of a user or role; of one that cannot be compiled, one that denies all."""
    try:
        return policy.compile_permissions(document, SERVICES)
    except PolicyInvalid as error:
        _log.error("policy cannot be evaluated, so it forbids all", of=name, error=str(error))
        return policy.compile_permissions(_NOTHING, SERVICES)
