"""Authentication of agents: they need one of the tokens in control's file.

Only reads the token file, and creates it with one token if it is missing. A bad file is a
``ConfigError`` that says how to fix it and shows nothing of the file. A token in a call is compared
by its digest in constant time, with all tokens for every call. The tokens themselves also stay in
memory, because checking a signature needs the secret it was made with (``agents.amazon.signatures``).

An admitted call can last: a poll is held for a minute, a websocket for half an hour. The code that
serves it watches its admission, and is notified when the token is removed from the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.controlplane.agents.longpoll.errors import Unauthorized
from agent.controlplane.private_file import make_once
from agent.errors import ConfigError
from agent.model import tokens
from agent.throttle import RepeatedWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

TOKEN_GONE: Final = "its token is no longer in the token file"  # noqa: S105 - no token
_SCHEME: Final = "bearer"
_FRESH_BYTES: Final = 32
_HEAD: Final = """\
# Tokens of agents, one per line. A host uses any one of them (ecs-agent join --token). A second word in a
# line is the name of the one host that may use the token.
# To change a token: add a second line, give it to every host, remove the first. SIGHUP reloads the file
# and cuts off agents whose token is gone.
"""

_log = structlog.get_logger(__name__)


def carried(header: str | None) -> str:
    """Return the token of an ``Authorization`` header, empty if it has none. Pure."""
    scheme, _, rest = (header or "").strip().partition(" ")
    return rest.strip() if scheme.lower() == _SCHEME else ""


class Admission(NamedTuple):
    """How a call was admitted: by a token, given as its digest; None if no token is required."""

    digest: bytes | None = None
    name: str = ""
    """Of the host that the token is for; empty for a token that all hosts may use."""


class AgentTokens:
    """Admits calls with a token of the file; without a file, all calls. For one event loop."""

    def __init__(
        self,
        file: Path | None,
        found: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Admit the tokens ``found`` in ``file``, with their names; see ``load``."""
        self.file = file
        self._tokens = tuple(found)
        self._names = {_digest(token): name for token, name in found.items()}
        self._refused = RepeatedWarning("call refused", clock=clock)
        self._watching: defaultdict[bytes, set[Callable[[], None]]] = defaultdict(set)

    @classmethod
    def load(cls, file: Path | None, *, clock: Callable[[], float] = time.monotonic) -> AgentTokens:
        """Load the tokens of a file; creates a missing file. Blocks for a moment.

        Raises:
            ConfigError: the file cannot be used; the text says how to fix it.
        """
        return cls(file, read(file), clock=clock)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens as last loaded: secrets, only for checking signatures."""
        return self._tokens

    def take(self, found: Mapping[str, str]) -> int:
        """Admit only these tokens from now on; return how many calls this ended.

        Watchers of an admission by another token, or by one that has another name now, are notified before
        this returns.
        """
        before, self._tokens = self._names, tuple(found)
        self._names = {_digest(token): name for token, name in found.items()}
        gone = [
            end
            for digest in [*self._watching]
            if self._names.get(digest) != before.get(digest)
            for end in self._watching.pop(digest)
        ]
        for end in gone:
            end()
        return len(gone)

    def check(self, header: str | None, peer: str) -> Admission:
        """Return the admission of a call with this ``Authorization`` header.

        Raises:
            Unauthorized: the call is not admitted.
        """
        if self.file is None:
            return Admission()
        token = carried(header)
        digest = _digest(token)
        known = [hmac.compare_digest(digest, other) for other in self._names]
        if any(known) and token:
            return Admission(digest, self._names[digest])
        self.note(peer, "its token is not in the token file" if token else "it has no token")
        if token:
            raise Unauthorized("control does not know this token; use one of its --token-file")
        raise Unauthorized(
            "control requires a token and this call has none; set ECS_CONTROL_TOKEN_FILE, or "
            "join the host with 'ecs-agent join'"
        )

    def admission(self, token: str) -> Admission:
        """Return the admission for one of ``tokens``."""
        digest = _digest(token)
        return Admission(digest, self._names.get(digest, ""))

    @contextlib.contextmanager
    def watching(self, admission: Admission, end: Callable[[], None]) -> Iterator[None]:
        """Call ``end`` once when an admission is no longer valid.

        Calls it at once if it is not valid now. It must neither block nor raise.
        """
        if not self.watch(admission, end):
            end()
            yield
            return
        try:
            yield
        finally:
            self.unwatch(admission, end)

    def watch(self, admission: Admission, end: Callable[[], None]) -> bool:
        """Do the same until ``unwatch``; False, and nothing is watched, if it is not valid now."""
        digest = admission.digest
        if digest is None:
            return True
        if self._names.get(digest) != admission.name:
            return False
        self._watching[digest].add(end)
        return True

    def unwatch(self, admission: Admission, end: Callable[[], None]) -> None:
        """Watch no longer; ignored if nothing is watched."""
        digest = admission.digest
        if digest is not None and (watching := self._watching.get(digest)) is not None:
            watching.discard(end)
            if not watching:
                del self._watching[digest]

    def note(self, peer: str, why: str) -> None:
        """Log a refused call: at most one line in ten seconds, however many calls are refused."""
        self._refused.tell(peer=peer, why=why)


def read(file: Path | None, *, option: str = "--token-file", head: str = _HEAD) -> dict[str, str]:
    """Return the tokens of a file with their names, made anew when it is missing; none without a file.

    Blocks for a moment: call it in a thread while calls are served.

    Args:
        file: the file.
        option: the option that names it, for error texts.
        head: comments at the beginning of a new file.

    Raises:
        ConfigError: the file cannot be used; the text names the mend.
    """
    if file is None:
        return {}
    where = f"{option} {file}"
    try:
        if not file.exists():
            _make(file, head)
        text = _read(file, where)
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}; give a file that control may read") from None
    try:
        return tokens.parse_named(text)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _make(file: Path, head: str) -> None:
    """Write a file with one new token; a concurrent writer may win."""
    text = f"{head}{secrets.token_urlsafe(_FRESH_BYTES)}\n"
    if make_once(file, text):
        _log.info("token file created", file=str(file))


def _read(file: Path, where: str) -> str:
    with file.open("rb") as source:
        info = os.fstat(source.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"{where}: is not a regular file; give a file of tokens")
        _check_mode(file, info, where)
        raw = source.read(tokens.MAX_BYTES + 1)
    if len(raw) > tokens.MAX_BYTES:
        raise ConfigError(f"{where}: is larger than 64 KiB; give a file of tokens")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{where}: byte {error.start} is not ASCII; write tokens of letters and "
            "digits, and comments in ASCII"
        ) from None


def _check_mode(file: Path, info: os.stat_result, where: str) -> None:
    if info.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{where}: belongs to another user (uid {info.st_uid}), who could change it; "
            f"run 'chown {os.geteuid()} {file}'"
        )
    mode = stat.S_IMODE(info.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(
            f"{where}: others can read or change it (mode {mode:04o}); run 'chmod 600 {file}'"
        )
    if mode & stat.S_IRGRP:
        _log.warning("the token file can be read by its group", file=str(file), gid=info.st_gid)
