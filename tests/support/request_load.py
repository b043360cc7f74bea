"""Requests without end, every one of them counted, failed or not."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.support.fleet import eventually

PATIENCE_S = 90.0
"""How long a request may take; longer than a proxy waits for a target, so that its answer is seen."""
LIMIT_S = 180.0


class Failed(NamedTuple):
    """A request without a good answer."""

    at: str
    """Time of day at which it failed."""
    client: str
    took_s: float
    what: str


class Client(NamedTuple):
    """How one kind of clients asks."""

    name: str
    path: str
    keeps_connection: bool
    pause_s: float
    clients: int


CLIENTS = (
    Client("new connection", "/", keeps_connection=False, pause_s=0.05, clients=3),
    Client("kept connection", "/", keeps_connection=True, pause_s=0.05, clients=3),
    Client("slow", "/cgi-bin/slow", keeps_connection=True, pause_s=0.1, clients=2),
)


@dataclass
class Load:
    """Asks for a page that tells its version, until it is left."""

    port: int
    clients: tuple[Client, ...] = CLIENTS
    answers: Counter[str] = field(default_factory=Counter)
    """By version."""
    failures: list[Failed] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """By client."""
    slowest_s: dict[str, float] = field(default_factory=dict)
    """By client."""
    asked_again: int = 0
    """Requests on a kept connection that had been closed meanwhile, as HTTP allows; asked on a new one."""
    _ended: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Load:
        """Begin."""
        self._threads = [
            threading.Thread(target=self._ask, args=(client,), name=client.name)
            for client in self.clients
            for _ in range(client.clients)
        ]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the last answers."""
        self._ended.set()
        for each in self._threads:
            each.join()

    def become(self, *versions: str) -> None:
        """Wait until these versions answer, and only these."""

        def are_the_only() -> bool:
            with self._lock:
                self.answers.clear()
            eventually(lambda: self.answers.total() > 30, what="requests are answered")
            with self._lock:
                return set(self.answers) == set(versions)

        eventually(are_the_only, within_s=LIMIT_S, what=f"{versions} answer", shown=self.told)

    def meets(self, version: str) -> None:
        """Wait until a version answers, whatever else does: the time of both may be short."""
        with self._lock:
            self.answers.clear()
        eventually(
            lambda: self.answers[version],
            within_s=LIMIT_S,
            what=f"{version} answers",
            shown=self.told,
        )

    def told(self) -> str:
        """Return what came of all requests, in one line and one more for each that failed."""
        with self._lock:
            slowest = ", ".join(f"{name} {took:.2f} s" for name, took in self.slowest_s.items())
            counts = f"{self.sent.total()} requests {dict(self.sent)}, {len(self.failures)} failed"
            failed = [f"  failed {each}" for each in self.failures[:20]]
            again = self.asked_again
        return "\n".join([f"{counts}, {again} asked again; slowest: {slowest}", *failed])

    def _ask(self, client: Client) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._ended.wait(client.pause_s):
            began = time.monotonic()
            connection, version, problem = self._answer(client, connection)
            took_s = time.monotonic() - began
            with self._lock:
                self.sent[client.name] += 1
                self.slowest_s[client.name] = max(took_s, self.slowest_s.get(client.name, 0.0))
                if problem:
                    failed = Failed(time.strftime("%T"), client.name, round(took_s, 2), problem)
                    self.failures.append(failed)
                else:
                    self.answers[version] += 1
        if connection is not None:
            connection.close()

    def _answer(
        self, client: Client, kept: http.client.HTTPConnection | None
    ) -> tuple[http.client.HTTPConnection | None, str, str]:
        """Ask once; return the connection if it may be used again, and the version or the problem."""
        connection = kept or http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request("GET", client.path)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if kept is not None and isinstance(error, ConnectionError):
                with self._lock:
                    self.asked_again += 1
                return self._answer(client, None)
            return None, "", repr(error)
        try:
            text = answer.read().decode().strip()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return None, "", f"{answer.status}, then {error!r}"
        problem = "" if answer.status == 200 and text else f"{answer.status} {text[:80]}"
        if client.keeps_connection and not answer.will_close:
            return connection, text, problem
        connection.close()
        return None, text, problem
