"""Who may speak the agents' wire: those that carry a token of control's file.

Reads the token file, and makes it with one fresh token where there is none; touches nothing else. A
bad file is a ``ConfigError`` that names the mend and shows nothing of the file. A token that is
carried is compared by its digest in constant time, with all of them for every call. The tokens
themselves stay in memory too, because a signature can only be checked with the secret it was made
with (``agents.amazon.signatures``).

What is let in can last: a poll is held for a minute, a websocket for half an hour. Whoever serves such
a thing watches its admission, and is told when the token is taken out of the file.
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
from agent.errors import ConfigError
from agent.model import tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TOKEN_GONE: Final = "its token is not in the token file any more"  # noqa: S105 - no token
_SCHEME: Final = "bearer"
_FRESH_BYTES: Final = 32
_LOG_EVERY_S: Final = 10.0
_HEAD: Final = """\
# Tokens of the agents' wire, one a line. A host carries any one of them (ecs-agent join --token).
# To change: add a second line, give it to every host, remove the first. SIGHUP reads the file anew,
# and cuts off whoever came with a token that is gone.
"""

_log = structlog.get_logger(__name__)


def carried(header: str | None) -> str:
    """Return the token of an ``Authorization`` header, empty when it carries none. Pure."""
    scheme, _, rest = (header or "").strip().partition(" ")
    return rest.strip() if scheme.lower() == _SCHEME else ""


class Admission(NamedTuple):
    """What let a call in: a token, by its digest; None where no token is asked for."""

    digest: bytes | None = None


class AgentTokens:
    """Lets calls pass that carry a token of the file; without a file, all. For one event loop."""

    def __init__(
        self,
        file: Path | None,
        found: Sequence[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Let in the bearers of ``found``, the tokens of ``file``; see ``load``."""
        self.file = file
        self._tokens = tuple(found)
        self._digests = tuple(_digest(token) for token in found)
        self._clock = clock
        self._logged_at = float("-inf")
        self._unlogged = 0
        self._watching: defaultdict[bytes, set[Callable[[], None]]] = defaultdict(set)

    @classmethod
    def load(cls, file: Path | None, *, clock: Callable[[], float] = time.monotonic) -> AgentTokens:
        """Read the tokens of a file, which is made when it is missing. Blocks for a moment.

        Raises:
            ConfigError: the file cannot be used; the text names the mend.
        """
        return cls(file, read(file), clock=clock)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the file as it was last read: secrets, for checking signatures alone."""
        return self._tokens

    def take(self, found: Sequence[str]) -> int:
        """Let in the bearers of these tokens alone from now on; return how many calls that ended.

        Whoever watches an admission by another token is told before this returns.
        """
        self._tokens = tuple(found)
        self._digests = tuple(_digest(token) for token in found)
        gone = [
            end
            for digest in self._watching.keys() - set(self._digests)
            for end in self._watching.pop(digest)
        ]
        for end in gone:
            end()
        return len(gone)

    def check(self, header: str | None, peer: str) -> Admission:
        """Return what lets a call with this ``Authorization`` header in.

        Raises:
            Unauthorized: nothing does.
        """
        if self.file is None:
            return Admission()
        token = carried(header)
        digest = _digest(token)
        known = [hmac.compare_digest(digest, other) for other in self._digests]
        if any(known) and token:
            return Admission(digest)
        self.note(peer, "its token is not in the token file" if token else "it carries no token")
        if token:
            raise Unauthorized("this is no token of control's; use one of its --token-file")
        raise Unauthorized(
            "control asks agents for a token and this call has none; set ECS_CONTROL_TOKEN_FILE, or "
            "join the host with 'ecs-agent join'"
        )

    def admission(self, token: str) -> Admission:
        """Return the admission by one of ``tokens``."""
        return Admission(_digest(token))

    @contextlib.contextmanager
    def watching(self, admission: Admission, end: Callable[[], None]) -> Iterator[None]:
        """Have ``end`` called, once, when what let a call in is worth nothing any more.

        Called at once where that is so already. It must neither block nor raise.
        """
        digest = admission.digest
        if digest is None:
            yield
            return
        if digest not in self._digests:
            end()
            yield
            return
        self._watching[digest].add(end)
        try:
            yield
        finally:
            watching = self._watching.get(digest, set())
            watching.discard(end)
            if not watching:
                self._watching.pop(digest, None)

    def note(self, peer: str, why: str) -> None:
        """Log a refused call: at most one line in ten seconds, however many are refused."""
        now = self._clock()
        if now - self._logged_at < _LOG_EVERY_S:
            self._unlogged += 1
            return
        _log.warning("call refused", peer=peer, why=why, more_before=self._unlogged)
        self._logged_at, self._unlogged = now, 0


def read(file: Path | None) -> list[str]:
    """Return the tokens of a file, which is made anew when it is missing; none without a file.

    Blocks for a moment: call it in a thread while calls are served.

    Raises:
        ConfigError: the file cannot be used; the text names the mend.
    """
    if file is None:
        return []
    try:
        if not file.exists():
            _make(file)
        text = _read(file)
    except OSError as error:
        raise ConfigError(
            f"--token-file {file}: {error.strerror}; give a file that control may read"
        ) from None
    try:
        return tokens.parse(text)
    except ValueError as error:
        raise ConfigError(f"--token-file {file}: {error}") from None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _make(file: Path) -> None:
    """Write a file with one fresh token; whoever makes it at the same time wins."""
    text = f"{_HEAD}{secrets.token_urlsafe(_FRESH_BYTES)}\n"
    # Complete before it has its name: an agent's host may copy it the moment it is there.
    new = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        try:
            os.link(new, file)
        except FileExistsError:
            return
    finally:
        new.unlink()
    _log.info("token file made", file=str(file))


def _read(file: Path) -> str:
    with file.open("rb") as source:
        info = os.fstat(source.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ConfigError(f"--token-file {file}: is no regular file; give a file of tokens")
        _check_mode(file, info)
        raw = source.read(tokens.MAX_BYTES + 1)
    if len(raw) > tokens.MAX_BYTES:
        raise ConfigError(f"--token-file {file}: is larger than 64 KiB; this is no token file")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--token-file {file}: byte {error.start} is not ASCII; write tokens of letters and "
            "digits, and comments in ASCII"
        ) from None


def _check_mode(file: Path, info: os.stat_result) -> None:
    if info.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"--token-file {file}: it belongs to another user (uid {info.st_uid}), who may change it; "
            f"run 'chown {os.geteuid()} {file}'"
        )
    mode = stat.S_IMODE(info.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(
            f"--token-file {file}: others may read or change it (mode {mode:04o}); "
            f"run 'chmod 600 {file}'"
        )
    if mode & stat.S_IRGRP:
        _log.warning("the token file can be read by its group", file=str(file), gid=info.st_gid)
