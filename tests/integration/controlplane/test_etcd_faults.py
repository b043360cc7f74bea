"""The store on real etcd that is killed, stopped, full, that wants users and TLS."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import subprocess
import time
from math import inf
from typing import TYPE_CHECKING

import pytest

from agent.controlplane.store import etcd_settings
from agent.controlplane.store.contract import (
    Compare,
    InvalidTransaction,
    Put,
    StoreFailure,
    StoreFull,
    StoreUnavailable,
    absent,
)
from agent.controlplane.store.etcd import EtcdStore
from agent.controlplane.store.following import Follower
from agent.controlplane.store.leading import Leadership
from agent.errors import ConfigError
from tests.support import certificates, etcd_nodes
from tests.support.linearizability import Call, wrong_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from agent.controlplane.store.contract import Event

pytestmark = pytest.mark.integration
SECONDS = 14
CLIENTS = 6
KEYS = 8


@pytest.fixture(scope="module")
def three() -> Iterator[etcd_nodes.Etcd]:
    with etcd_nodes.running(3) as found:
        yield found


@contextlib.asynccontextmanager
async def opened(cluster: etcd_nodes.Etcd, prefix: str, **environ: str) -> AsyncIterator[EtcdStore]:
    address = cluster.address(prefix)
    if cluster.nodes[0].scheme == "https":
        address = address.replace("etcd://", "etcds://")
    store = await EtcdStore.open(etcd_settings.parse(address, environ))
    try:
        yield store
    finally:
        await store.close()


class Recorder:
    """Clients that do calls on a few keys, and what became of each."""

    def __init__(self, store: EtcdStore, values: Iterator[int], seed: int) -> None:
        self._store = store
        self._values = values
        self._source = random.Random(seed)
        self.history: list[Call] = []
        self.unknown = 0
        self.longest_s = 0.0

    async def run(self, until: float) -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            await self._call(f"/k/{self._source.randrange(KEYS)}", began)
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            await asyncio.sleep(self._source.uniform(0, 0.04))

    async def _call(self, key: str, began: float) -> None:
        kind = self._source.choice(("get", "put", "swap"))
        value = next(self._values)
        expected: int | None = None
        try:
            if kind == "get":
                got = await self._read(key)
                self.history.append(Call(key, "get", began, time.monotonic(), got=got))
                return
            if kind == "put":
                await self._store.txn([], [Put(key, b"%d" % value)])
                self.history.append(Call(key, "put", began, time.monotonic(), wrote=value))
                return
            expected = await self._read(key)
            began = time.monotonic()
            condition = (
                absent(key) if expected is None else Compare(key, "value", "=", b"%d" % expected)
            )
            done = await self._store.txn([condition], [Put(key, b"%d" % value)])
            self.history.append(
                Call(key, "swap", began, time.monotonic(), value, expected, None, done.succeeded)
            )
        except StoreUnavailable:
            self.unknown += 1
            if kind == "put":
                self.history.append(Call(key, "put", began, inf, wrote=value))
            elif kind == "swap":
                self.history.append(Call(key, "swap", began, inf, value, expected))

    async def _read(self, key: str) -> int | None:
        kv = await self._store.get(key)
        return int(kv.value) if kv is not None else None


async def break_nodes(cluster: etcd_nodes.Etcd, source: random.Random) -> dict[str, int]:
    """Kill and stop one node after the other, the leader at least once, and let each come back."""
    done = {"kill": 0, "stop": 0}
    for number in range(4):
        await asyncio.sleep(source.uniform(0.5, 1.0))
        leads = number % 2 == 0
        node = await asyncio.to_thread(cluster.leader)
        if not leads:
            node = source.choice([one for one in cluster.nodes if one is not node])
        if number < 2:
            await asyncio.to_thread(node.kill)
            await asyncio.sleep(1.0)
            node.start()
            await asyncio.to_thread(node.wait_until_up)
            done["kill"] += 1
        else:
            node.stop()
            await asyncio.sleep(2.0)
            node.go_on()
            done["stop"] += 1
    return done


async def test_histories_are_linearizable_and_watches_miss_nothing_while_nodes_fail(
    three: etcd_nodes.Etcd,
) -> None:
    values = itertools.count(1)
    seed = 20
    async with opened(three, "/faults") as one, opened(three, "/faults") as other:
        start = one.revision
        seen: dict[str, list[tuple[int, bytes]]] = {}

        async def follow(store: EtcdStore) -> None:
            after, revision = start, 0
            while True:
                try:
                    async with store.watch("/k/", after_revision=after) as watch:
                        async for batch in watch:
                            for event in batch.events:
                                assert event.kv.mod_revision > after
                                revision = event.kv.mod_revision
                                seen.setdefault(event.kv.key, []).append((revision, event.kv.value))
                            after = max(after, batch.revision)
                except StoreUnavailable:
                    await asyncio.sleep(0.2)

        follower = asyncio.create_task(follow(other))
        until = time.monotonic() + SECONDS
        clients = [
            Recorder(store, values, seed + number)
            for number, store in enumerate([one, other] * (CLIENTS // 2))
        ]
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(client.run(until)) for client in clients]
            breaking = group.create_task(break_nodes(three, random.Random(seed)))
        assert all(task.done() for task in running)
        assert breaking.result() == {"kill": 2, "stop": 2}
        history = [call for client in clients for call in client.history]
        assert await asyncio.to_thread(wrong_key, history) is None
        known = [call for call in history if call.is_known]
        assert len(known) > 100, "too little was done between the faults"
        # At most two endpoints that do not answer, and a call of unknown outcome.
        assert max(client.longest_s for client in clients) < 15

        await one.txn([], [Put("/k/last", b"last")])
        async with asyncio.timeout(15):
            while "/k/last" not in seen:  # noqa: ASYNC110 - filled by the watch
                await asyncio.sleep(0.05)
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        told = {int(value) for key in seen if key != "/k/last" for _, value in seen[key]}
        wrote = {c.wrote for c in known if c.kind == "put" or (c.kind == "swap" and c.succeeded)}
        assert wrote <= told, "the watch missed changes"
        for changes in seen.values():
            revisions = [revision for revision, _ in changes]
            assert revisions == sorted(set(revisions))


async def test_an_endpoint_that_is_down_or_hangs_costs_bounded_time(
    three: etcd_nodes.Etcd,
) -> None:
    await asyncio.to_thread(three.leader)
    async with opened(three, "/hangs") as store:
        await store.txn([], [Put("/a", b"1")])
        used = next(node for node in three.nodes if store.client.reached.endswith(node.host))
        used.stop()
        try:
            began = time.monotonic()
            kv = await store.get("/a")
            assert kv is not None
            assert time.monotonic() - began < 6
            # A change that may have reached it is not done again; the next one goes elsewhere.
            for _ in range(20):
                with contextlib.suppress(StoreUnavailable):
                    await store.txn([], [Put("/a", b"2")])
                    break
            began = time.monotonic()
            await store.txn([], [Put("/a", b"3")])
            assert time.monotonic() - began < 3
        finally:
            used.go_on()


async def test_without_etcd_calls_and_watches_end_and_go_on_when_it_is_back() -> None:
    with etcd_nodes.running() as cluster:
        (node,) = cluster.nodes
        async with opened(cluster, "/away") as store:
            await store.txn([], [Put("/a", b"1")])
            watch = store.watch("/", after_revision=store.revision)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(node.kill)
            for call in (store.get("/a"), store.txn([], [Put("/a", b"2")]), store.grant_lease(5)):
                with pytest.raises(StoreUnavailable, match="etcd does not answer"):
                    await call
            assert "etcd does not answer" in store.problem
            with pytest.raises(StoreUnavailable):
                async with asyncio.timeout(10):
                    await waiting
            node.start()
            await asyncio.to_thread(node.wait_until_up)
            await works_again(store)
            assert store.problem == ""

            class Values(dict[str, bytes]):
                def apply(self, event: Event) -> None:
                    self[event.kv.key] = event.kv.value

            follower = Follower(store, ["/a"], Values)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(StoreFailure):
                        assert (await follower.read())["/a"] == b"3"
                        break
                    await asyncio.sleep(0.1)


async def works_again(store: EtcdStore) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(StoreUnavailable):
                await store.txn([], [Put("/a", b"3")])
                return
            await asyncio.sleep(0.1)


async def test_a_full_etcd_is_told_and_what_leads_makes_space() -> None:
    with etcd_nodes.running(options=("--quota-backend-bytes", str(6 << 20))) as cluster:
        async with opened(cluster, "/full", ECS_CONTROL_ETCD_QUOTA=str(6 << 20)) as store:

            async def fill() -> None:
                for _ in range(20):
                    await store.txn([], [Put("/a", bytes(1 << 19))])

            with pytest.raises(StoreFull, match="raise its --quota-backend-bytes"):
                await fill()
            with pytest.raises(StoreFull):
                await store.txn([], [Put("/stop", b"")], urgent=True)
            store.health.look_soon()
            await store.health.look()
            assert "etcd is full" in store.problem
            assert "etcdctl alarm disarm" in store.problem
            kv = await store.get("/a")
            assert kv is not None
            # The lease of a leader cannot be granted either: whoever wants to lead makes space.
            with pytest.raises(StoreFull):
                await Leadership.acquire(store)
            async with asyncio.timeout(20):
                leadership = await Leadership.acquire(store, standing_by=lambda _: None)
            await store.txn([], [Put("/stop", b"")])
            assert store.health.size_bytes < 3 << 20
            assert store.problem == ""
            await leadership.close()


async def test_what_is_too_large_for_etcd_names_the_limit(three: etcd_nodes.Etcd) -> None:
    async with opened(three, "/large") as store:
        with pytest.raises(InvalidTransaction, match=r"limit is 1\.5 MiB"):
            await store.txn([], [Put("/a", bytes(1_600_000))])
        with pytest.raises(InvalidTransaction, match=r"limit is 1\.5 MiB"):
            await store.txn([], [Put("/a", bytes(5_000_000))])
        assert await store.get("/a") is None


async def test_users_tls_and_client_certificates(tmp_path: Path) -> None:
    made = await asyncio.to_thread(certificates.make, tmp_path)
    client = await asyncio.to_thread(certificates.client, made, "/O=a fleet")
    options = (
        *("--cert-file", str(made.certificate), "--key-file", str(made.key)),
        *("--trusted-ca-file", str(made.ca), "--client-cert-auth"),
    )
    password = tmp_path / "password"
    password.write_text("a secret\n")
    password.chmod(0o600)
    with etcd_nodes.running(options=options, scheme="https") as cluster:
        (node,) = cluster.nodes
        tls = {
            "ECS_CONTROL_ETCD_CA": str(made.ca),
            "ECS_CONTROL_ETCD_CERTIFICATE": str(client[0]),
            "ECS_CONTROL_ETCD_KEY": str(client[1]),
        }
        named = tls | {
            "ECS_CONTROL_ETCD_CERTIFICATE": str(made.certificate),
            "ECS_CONTROL_ETCD_KEY": str(made.key),
        }

        def etcdctl(*words: str) -> None:
            subprocess.run(
                [
                    *("etcdctl", "--endpoints", f"https://{node.host}", "--cacert", str(made.ca)),
                    *("--cert", str(made.certificate), "--key", str(made.key), *words),
                ],
                check=True,
                capture_output=True,
                env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"},
            )

        for words in (
            ("user", "add", "root:root"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", "fleet:a secret"),
            ("role", "add", "fleet"),
            ("role", "grant-permission", "fleet", "--prefix=true", "readwrite", "/mine/"),
            ("user", "grant-role", "fleet", "fleet"),
            ("auth", "enable"),
        ):
            await asyncio.to_thread(etcdctl, *words)
        with pytest.raises(StoreFailure, match="that has a common name; use one without"):
            async with opened(cluster, "/mine", **named):
                pass
        with pytest.raises(StoreFailure, match="ECS_CONTROL_ETCD_USER"):
            async with opened(cluster, "/mine", **tls):
                pass
        user = tls | {
            "ECS_CONTROL_ETCD_USER": "fleet",
            "ECS_CONTROL_ETCD_PASSWORD_FILE": str(password),
        }
        with pytest.raises(StoreFailure, match="may read and write the store's prefix"):
            async with opened(cluster, "/other", **user):
                pass
        async with opened(cluster, "/mine", **user) as store:
            lease = await store.grant_lease(5)
            async with store.watch("/", after_revision=store.revision) as watch:
                await store.txn([], [Put("/a", b"1", lease)])
                async with asyncio.timeout(5):
                    assert [event.kv.key for event in (await anext(watch)).events] == ["/a"]
            await store.keep_alive(lease)
            # Tokens are in the memory of a node: after its restart a new one is fetched.
            await asyncio.to_thread(node.kill)
            node.start()
            await asyncio.to_thread(node.wait_until_up)
            await works_again(store)
            leadership = await Leadership.acquire(store)
            assert (await store.txn([], [Put("/b", b"1")])).succeeded
            await leadership.close()
        await asyncio.to_thread(password.write_text, "another\n")
        with pytest.raises(StoreFailure, match="does not admit the user") as caught:
            async with opened(cluster, "/mine", **user):
                pass
        assert "another" not in str(caught.value)
        await asyncio.to_thread(password.chmod, 0o644)
        with pytest.raises(ConfigError, match="others can read it"):
            async with opened(cluster, "/mine", **user):
                pass
