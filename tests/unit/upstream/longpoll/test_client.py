from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent.errors import (
    ConfigError,
    ControlUnavailable,
    EcsRefused,
    PayloadError,
    StaleGeneration,
    StateFailure,
)
from agent.model.protection import ProtectionCall, ProtectionChange
from agent.upstream.longpoll import task_calls
from tests.support.control_host import until
from tests.support.fake_control import (
    breaks_off,
    change,
    drips,
    drop,
    lose_answer,
    refuses,
    says,
    waits,
)

if TYPE_CHECKING:
    from agent.model.wire import Assignments
    from agent.state import Batch, StateStore
    from tests.support.control_host import Host
    from tests.support.fake_control import FakeControl, Fault


class TestOrders:
    async def test_arrive_with_the_id_of_their_control(
        self, host: Host, control: FakeControl
    ) -> None:
        control.want("arn:task/a")
        async with host.running() as client:
            await until(lambda: host.arns() == {"arn:task/a"})
            assert host.taken[0].full
            control.want("arn:task/b", "STOPPED")
            await until(lambda: "arn:task/b" in host.arns())
            assert not host.taken[-1].full
            assert [order.task_arn for order in host.taken[-1].tasks] == ["arn:task/b"]
            control.drain()
            await until(lambda: client.status.instance_status == "DRAINING")
        assert set(host.control_ids) == {"control-1"}

    async def test_wake_the_held_poll(self, host: Host, control: FakeControl) -> None:
        host.wait_s = 20.0
        async with host.running() as client:
            await until(lambda: len(control.polls) > 1 or client.status.connected)
            await until(lambda: host.taken)
            await asyncio.sleep(0.05)
            control.want("arn:task/a")
            await until(lambda: "arn:task/a" in host.arns(), limit_s=1.0)

    async def test_are_asked_for_from_the_start_by_every_process(
        self, host: Host, control: FakeControl
    ) -> None:
        control.want("arn:task/a")
        for _ in range(2):
            host.taken.clear()
            async with host.running():
                await until(lambda: host.taken)
            assert host.taken[0].full

    async def test_are_not_passed_over_when_they_could_not_be_taken(
        self, host: Host, control: FakeControl
    ) -> None:
        failures = [StateFailure("disk full"), RuntimeError("a bug")]
        tries: list[int] = []
        errors: list[str] = []

        async def take(assignments: Assignments, control_id: str, instance: str = "") -> None:
            tries.append(assignments.revision)
            errors.append(client.status.error)
            if len(tries) <= len(failures):
                raise failures[len(tries) - 1]

        host.take = take
        control.want("arn:task/a")
        async with host.running() as client:
            await until(lambda: control.polls[-1:] == [2])
            assert client.status.error == ""
        assert tries == [2, 2, 2]
        assert errors == [
            "",
            "orders could not be taken: disk full",
            "orders could not be taken: RuntimeError: a bug",
        ]

    async def test_advance_only_when_they_are_durable(
        self, host: Host, control: FakeControl
    ) -> None:
        release = asyncio.Event()

        async def take(assignments: Assignments, control_id: str, instance: str = "") -> None:
            await release.wait()

        host.take = take
        control.want("arn:task/a")
        async with host.running():
            await until(lambda: control.polls)
            await asyncio.sleep(0.1)
            assert set(control.polls) == {0}
            release.set()
            await until(lambda: 2 in control.polls)

    async def test_start_over_when_the_revision_is_gone(
        self, host: Host, control: FakeControl
    ) -> None:
        control.want("arn:task/a")
        async with host.running():
            await until(lambda: 2 in control.polls)
            control.faults["poll"].append(refuses(410, "RevisionCompacted"))
            await until(lambda: control.polls.count(0) == 2)
            await until(lambda: len(host.taken) == 2)
        assert host.taken[1].full

    async def test_start_over_when_control_goes_back_in_time(
        self, host: Host, control: FakeControl
    ) -> None:
        control.want("arn:task/a")
        control.want("arn:task/b")
        async with host.running():
            await until(lambda: 3 in control.polls)
            control.faults["poll"].append(says(b'{"revision": 2}'))
            await until(lambda: control.polls.count(0) == 2)
        assert all(answer.revision == 3 for answer in host.taken)

    async def test_without_news_are_not_asked_for_in_a_loop(
        self, host: Host, control: FakeControl
    ) -> None:
        control.faults["poll"].extend(says(b"", status=204) for _ in range(1000))
        async with host.running() as client:
            await until(lambda: client.status.connected)
            await asyncio.sleep(0.3)
            assert 2 <= 1000 - len(control.faults["poll"]) < 40

    @pytest.mark.parametrize(
        "fault",
        [
            drop(),
            lose_answer(),
            refuses(500),
            refuses(503, Retry_After="0"),
            refuses(429),
            refuses(404, "NoSuchPage"),
            refuses(409, "SomethingElse"),
            refuses(302, "Found", Location="http://127.0.0.1:1/"),
            refuses(400, "InvalidRequest"),
            refuses(410, "RevisionCompacted"),
            says(b""),
            says(b"<html>proxy</html>"),
            says(b'{"revision": 1, "tasks": [{"taskArn'),
            says(b"[]"),
            says(b'{"revision": "1"}'),
            says(b'{"revision": 1, "tasks": {}}'),
            says(b"[" * 100_000),
            says(b"\xff\xfe"),
            says(b" " * 2_000_000),
            says(b"not gzip at all", Content_Encoding="gzip"),
            says(b"\xff", status=500),
            breaks_off(b'{"revision": 1', 1000),
            drips(b'{"revision": 1}' * 100, 0.01),
            waits(3.0),
        ],
    )
    async def test_come_through_any_trouble(
        self, host: Host, control: FakeControl, fault: Fault
    ) -> None:
        host.call_s = 0.3
        control.want("arn:task/a")
        control.faults["poll"].append(fault)
        async with host.running() as client:
            await until(lambda: host.arns() == {"arn:task/a"})
            await until(lambda: client.status.connected and not client.status.error)
        assert [answer.revision for answer in host.taken] == [2]

    async def test_one_broken_order_harms_no_other(self, host: Host, control: FakeControl) -> None:
        control.faults["poll"].append(
            says(
                b'{"revision": 1, "full": true, "tasks": [{"taskArn": "a", "desiredStatus": 1},'
                b' {"taskArn": "b", "desiredStatus": "STOPPED"}, 7]}'
            )
        )
        async with host.running():
            await until(lambda: host.taken)
        orders = host.taken[0]
        assert [(order.task_arn, order.desired_status) for order in orders.tasks] == [
            ("a", "RUNNING"),
            ("b", "STOPPED"),
        ]
        assert not orders.full


class TestRegistration:
    async def test_carries_the_host_and_is_kept(
        self, host: Host, control: FakeControl, store: StateStore
    ) -> None:
        host.known_tasks = ["arn:task/old"]
        async with host.running() as client:
            await until(lambda: client.status.connected)
            status = client.status
        assert (status.instance_arn, status.generation) == ("arn:instance/i1", 1)
        first = control.registers[0]
        assert first.cluster == "default"
        assert first.resources.cpu_units == 2048
        assert first.known_tasks == ["arn:task/old"]
        assert first.instance_arn == ""
        assert await store.get_meta("clientToken") == first.client_token
        assert await store.get_meta("instanceArn") == "arn:instance/i1"
        assert await store.get_meta("controlId") == "control-1"
        async with host.running() as client:
            assert client.status.generation == 0
            await until(lambda: client.status.connected)
            assert client.status.generation == 2
        assert control.registers[1].client_token == first.client_token
        assert control.registers[1].instance_arn == "arn:instance/i1"

    async def test_is_one_instance_even_if_the_answer_is_lost(
        self, host: Host, control: FakeControl
    ) -> None:
        control.faults["register"].extend([lose_answer(), drop(), refuses(500), lose_answer()])
        async with host.running() as client:
            await until(lambda: client.status.connected)
            await host.report(change(1))
            await until(lambda: control.seen)
        assert list(control.generations) == ["arn:instance/i1"]

    @pytest.mark.parametrize("body", [b"{}", b"junk", b'{"instanceArn":"","generation":1}', b"7"])
    async def test_takes_no_nonsense(self, host: Host, control: FakeControl, body: bytes) -> None:
        control.faults["register"].append(says(body))
        async with host.running() as client:
            await until(lambda: client.status.connected)
        assert len(control.registers) == 1

    async def test_is_made_anew_when_control_forgot(
        self, host: Host, control: FakeControl, store: StateStore
    ) -> None:
        async with host.running() as client:
            await until(lambda: host.taken)
            control.deregister_all()
            await until(lambda: client.status.instance_arn == "arn:instance/i2")
            await until(lambda: len(host.taken) == 2)
            await host.report(change(1))
            await until(lambda: control.seen)
            await until(lambda: client.status.error == "")
        assert host.taken[1].full
        assert await store.get_meta("instanceArn") == "arn:instance/i2"

    async def test_is_made_anew_when_only_the_sender_learns_of_it(
        self, host: Host, control: FakeControl
    ) -> None:
        host.wait_s = 20.0
        async with host.running() as client:
            await until(lambda: host.taken)
            await asyncio.sleep(0.05)
            control.faults["changes"].append(refuses(404, "InstanceUnknown"))
            await host.report(change(1))
            await until(lambda: control.seen)
            assert client.status.generation == 2
            # The poll held under the old generation is refused and simply follows.
            await until(lambda: len(host.taken) == 2)
            assert client.status.connected

    async def test_of_another_agent_ends_this_one(self, host: Host, control: FakeControl) -> None:
        client = await host.client()
        task = asyncio.create_task(client.run())
        await until(lambda: host.taken)
        control.another_agent_registers()
        with pytest.raises(StaleGeneration, match="newer agent"):
            await task

    async def test_of_another_agent_is_seen_by_the_sender_too(
        self, host: Host, control: FakeControl
    ) -> None:
        host.wait_s = 30.0
        task = asyncio.create_task((await host.client()).run())
        await until(lambda: host.taken)
        control.faults["changes"].append(refuses(409, "StaleGeneration"))
        await host.report(change(1))
        with pytest.raises(StaleGeneration):
            await task
        assert host.store.outbox.size == 1

    async def test_in_another_cluster_is_refused_with_the_mend(
        self, host: Host, control: FakeControl
    ) -> None:
        async with host.running() as client:
            await until(lambda: client.status.connected)
        host.cluster = "arn:aws:ecs:us-east-1:1:cluster/default"
        async with host.running() as client:
            await until(lambda: client.status.connected)
        host.cluster = "other"
        with pytest.raises(ConfigError, match=r"ECS_CLUSTER=default.*delete that file"):
            await host.client()
        assert len(control.registers) == 2

    async def test_waits_for_control_to_exist(self, host: Host, control: FakeControl) -> None:
        await control.stop()
        async with host.running() as client:
            await until(lambda: client.status.error)
            assert not client.status.connected
            await control.start()
            await until(lambda: client.status.connected)

    @pytest.mark.parametrize("endpoint", ["", "control:8080", "ftp://host", "http://", "http://[x"])
    async def test_needs_a_url(self, host: Host, endpoint: str) -> None:
        host.control = type("Nowhere", (), {"url": endpoint})()
        with pytest.raises(ConfigError, match="ECS_CONTROL_ENDPOINT"):
            await host.client()

    async def test_shows_no_password(self, host: Host) -> None:
        host.control = type("Somewhere", (), {"url": "http://u:secret@127.0.0.1:1"})()
        assert (await host.client()).status.endpoint == "http://127.0.0.1:1"


class TestLeave:
    async def test_forgets_everything(
        self, host: Host, control: FakeControl, store: StateStore
    ) -> None:
        async with host.running() as client:
            await until(lambda: client.status.connected)
        assert control.generations
        await (await host.client()).leave()
        assert not control.generations
        assert await store.get_meta("clientToken") is None
        async with host.running() as client:
            await until(lambda: client.status.instance_arn == "arn:instance/i2")

    async def test_works_in_a_process_that_never_ran(
        self, host: Host, control: FakeControl
    ) -> None:
        async with host.running() as client:
            await until(lambda: client.status.connected)
        await (await host.client()).leave()
        assert not control.generations
        await (await host.client()).leave()

    async def test_keeps_the_identity_until_control_confirms(
        self, host: Host, control: FakeControl, store: StateStore
    ) -> None:
        async with host.running() as client:
            await until(lambda: client.status.connected)
        control.faults["leave"].append(refuses(500))
        with pytest.raises(ControlUnavailable, match=r"DELETE /v1/instances/i1 was answered 500"):
            await (await host.client()).leave()
        assert await store.get_meta("instanceArn")

    async def test_of_a_forgotten_host_is_success(
        self, host: Host, control: FakeControl, store: StateStore
    ) -> None:
        async with host.running() as client:
            await until(lambda: client.status.connected)
        control.deregister_all()
        await (await host.client()).leave()
        assert await store.get_meta("instanceArn") is None


async def test_retry_after_is_honoured(host: Host, control: FakeControl) -> None:
    control.faults["poll"].append(refuses(503, Retry_After="0.4"))
    async with host.running() as client:
        await until(lambda: client.status.error)
        began = asyncio.get_running_loop().time()
        await until(lambda: host.taken)
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_a_server_that_speaks_no_tls_is_never_spoken_to_plainly(
    host: Host, control: FakeControl
) -> None:
    host.control = type("Secure", (), {"url": control.url.replace("http://", "https://")})()
    async with host.running() as client:
        await until(lambda: client.status.error)
        assert not client.status.connected
    assert control.registers == []


async def test_a_disk_that_is_full_at_the_start_is_waited_out(
    host: Host, control: FakeControl, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = store.commit
    left = 3

    def failing(batch: Batch) -> asyncio.Future[None]:
        nonlocal left
        left -= 1
        if left < 0:
            return commit(batch)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(StateFailure("disk full"))
        return future

    monkeypatch.setattr(store, "commit", failing)
    async with host.running() as client:
        await until(lambda: client.status.connected)
    assert len(control.registers) == 1


class TestWentBack:
    async def test_everything_is_told_before_any_report(
        self, host: Host, control: FakeControl
    ) -> None:
        """A report of a task that control has forgotten would be refused, and dropped."""
        control.went_back = True
        control.faults["held"].extend([refuses(503), lose_answer()])
        host.has_ended = [change(2, "arn:task/ended")]
        await host.report(change(1))
        async with host.running() as client:
            await until(lambda: client.status.connected and not client.status.unsent)
            assert "control went back" in client.status.notice
        assert control.calls.count("held") >= 2
        first_report = control.calls.index("changes")
        assert control.calls.index("told") < first_report
        assert control.calls.index("poll") > control.calls.index("told")
        assert {c.task_arn for c in control.sent} == {"arn:task/a", "arn:task/ended"}

    async def test_a_control_without_histories_is_not_obeyed_while_it_is_behind(
        self, host: Host, control: FakeControl
    ) -> None:
        for number in range(5):
            control.want(f"arn:task/{number}")
        async with host.running():
            await until(lambda: host.taken)
        host.taken.clear()
        control.tasks.clear()
        control.revision = 2
        control.want("arn:task/new")
        control.want("arn:task/1", "STOPPED")
        async with host.running():
            await until(lambda: host.arns() == {"arn:task/new"})
            assert not any(answer.full for answer in host.taken)
            # Once it has come as far as it was, what it says is new.
            control.revision = 10
            control.want("arn:task/2", "STOPPED")
            await until(lambda: "arn:task/2" in host.arns())


class TestSecrets:
    async def test_come_for_a_task_of_this_host(self, host: Host, control: FakeControl) -> None:
        control.secrets = {"a": "one", "b": "two"}
        async with host.running() as client:
            await until(lambda: client.status.connected)
            assert await client.secrets("arn:task/1", ["a", "b"]) == {"a": "one", "b": "two"}
        (asked,) = control.secrets_asked
        assert asked == {
            "instance": "arn:instance/i1",
            "taskArn": "arn:task/1",
            "names": ["a", "b"],
        }

    async def test_that_control_does_not_have_are_named(
        self, host: Host, control: FakeControl
    ) -> None:
        control.secrets = {"a": "canary"}
        async with host.running() as client:
            await until(lambda: client.status.connected)
            with pytest.raises(PayloadError, match="does not have the secrets b, c for this task"):
                await client.secrets("arn:task/1", ["a", "b", "c"])

    @pytest.mark.parametrize(
        "fault",
        [
            refuses(503),
            refuses(404, "InstanceUnknown"),
            refuses(409, "StaleGeneration"),
            refuses(404, "NotFound"),
            drop(),
            says(b'{"values": {"a": 3, "b": "canary"}}'),
            says(b"canary"),
        ],
    )
    async def test_are_asked_for_again_when_control_cannot_say(
        self, host: Host, control: FakeControl, fault: Fault
    ) -> None:
        control.faults["secrets"].append(fault)
        async with host.running() as client:
            await until(lambda: client.status.connected)
            with pytest.raises(ControlUnavailable) as caught:
                await client.secrets("arn:task/1", ["a"])
        assert "canary" not in str(caught.value)

    async def test_wait_for_the_registration_but_not_for_ever(
        self, host: Host, control: FakeControl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(task_calls, "IDENTITY_LIMIT_S", 0.05)
        await control.stop()
        async with host.running() as client:
            with pytest.raises(ControlUnavailable, match="not registered with control now"):
                await client.secrets("arn:task/1", ["a"])


class TestProtection:
    async def test_is_asked_of_control_for_a_task(self, host: Host, control: FakeControl) -> None:
        read = ProtectionCall(task_arn="arn:task/1")
        protect = ProtectionCall(
            task_arn="arn:task/1", change=ProtectionChange(protection_enabled=True)
        )
        async with host.running() as client:
            for asked in (read, protect):
                outcome = await client.task_protection(asked)
                (task,) = outcome.protected_tasks
                assert task.protection_enabled is (asked is protect)
        assert control.protection_asked == [read, protect]

    async def test_a_refusal_is_for_the_task(self, host: Host) -> None:
        change = ProtectionChange(protection_enabled=True, expires_in_minutes=0)
        asked = ProtectionCall(task_arn="arn:task/1", change=change)
        async with host.running() as client:
            with pytest.raises(EcsRefused) as caught:
                await client.task_protection(asked)
        assert caught.value.answer == (400, "InvalidParameterException", "too short", "")

    @pytest.mark.parametrize(
        "fault",
        [
            refuses(503),
            refuses(404, "NoSuchCall"),
            refuses(409, "StaleGeneration"),
            drop(),
            says(b"{"),
            says(b'{"protectedTasks": [{}]}'),
        ],
    )
    async def test_a_control_that_cannot_say_is_away(
        self, host: Host, control: FakeControl, fault: Fault
    ) -> None:
        control.faults["protection"].append(fault)
        async with host.running() as client:
            with pytest.raises(ControlUnavailable):
                await client.task_protection(ProtectionCall(task_arn="arn:task/1"))
