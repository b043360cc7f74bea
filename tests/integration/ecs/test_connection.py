"""Getting to Amazon ECS and staying there: refusals, closes, clocks that are wrong, keys that change."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.backend import faults
from tests.backend.backend import KEYS, Backend
from tests.backend.signatures import Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.ecs.host import Host

pytestmark = pytest.mark.integration


def test_gets_in_past_every_kind_of_failure(fresh: Callable[..., Host]) -> None:
    host = fresh()
    backend = host.backend
    for fault in (faults.THROTTLED, faults.Half(), faults.SERVER_ERROR):
        backend.fault("RegisterContainerInstance", fault)
    odd = (faults.HTML_OK, faults.Answer(b'{"endpoint": 5}'), faults.Answer(b"{}"), faults.Drop())
    for broken in odd:
        backend.fault("DiscoverPollEndpoint", broken)
    backend.acs.refuse({"ServerException": "not now"}, status=500)
    backend.acs.refuse("<html>503</html>", status=503)
    backend.acs.refuse({"type": "AccessDeniedException", "message": {"message": "no"}})
    backend.tcs.refuse("", status=400)
    host.start()
    assert len(backend.api.instances) == 1, "a half answer made a second instance"
    assert backend.acs.wait_open().query["sendCredentials"] == "true", "none had succeeded before"
    host.stop_task(host.run_task())


def test_makes_the_default_cluster(fresh: Callable[..., Host]) -> None:
    host = fresh(ECS_CLUSTER="")
    host.backend.api.clusters.clear()
    host.start()
    assert host.backend.api.clusters == {"default"}
    assert host.backend.acs.wait_open().query["clusterArn"] == "default"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1006])
def test_a_clean_close_is_followed_by_a_new_connection_at_once(host: Host, code: int) -> None:
    acs = host.backend.acs
    number = acs.wait_open().number
    if code == 1006:
        acs.drop()
    else:
        acs.close(code, "ConnectionExpired: Reconnect to continue")
    closed = acs.wait_closed(number)
    reopened = acs.wait_open(after=number)
    assert closed.ended_at is not None
    assert reopened.at - closed.ended_at < 1.5
    assert reopened.query["sendCredentials"] == "false"
    acs.beat()


@pytest.mark.parametrize("code", [1002, 1008, 1012, 4001])
def test_any_other_close_is_waited_out(host: Host, code: int) -> None:
    acs = host.backend.acs
    number = acs.wait_open().number
    acs.close(code, "go away")
    reopened = acs.wait_open(after=number)
    closed = acs.wait_closed(number)
    assert closed.ended_at is not None
    assert 0.2 < reopened.at - closed.ended_at < 20


def test_orders_in_a_broken_connection_come_again(host: Host) -> None:
    acs, task = host.backend.acs, host.task()
    number = acs.wait_open().number
    order = host.order(task)
    acs.drop()
    acs.wait_open(after=number)
    if not acs.acks(order):
        host.order(task, messageId=order, seq=host._seq)
        acs.wait_ack(order)
    host.wait(task["arn"], "RUNNING")
    assert len(host.containers(task["arn"])) == 1
    host.stop_task(task["arn"])


def test_pings_are_answered(host: Host) -> None:
    for channel in (host.backend.acs, host.backend.tcs):
        before = len(channel.frames("(pong)"))
        channel.ping(b"there?")
        channel.wait_frame("(pong)", count=before + 1)


@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_a_clock_that_is_an_hour_off_does_not_matter(
    fresh: Callable[..., Host], ahead_s: float
) -> None:
    host = fresh()
    host.backend.clock.ahead_s = ahead_s
    host.start()
    host.stop_task(host.run_task())
    host.backend.journal.wait(host.backend.tcs.frames, what="telemetry")
    if ahead_s < 0:
        return
    # The clock is set right while the agent runs.
    host.backend.clock.ahead_s = 0.0
    problems = len(host.backend.problems())
    number = host.backend.acs.wait_open().number
    host.backend.acs.drop()
    host.wait_session(number)
    host.stop_task(host.run_task())
    # The first signatures were made by the old time; the back end counts them as problems.
    late = host.backend.problems()[problems:]
    assert all("not yet current" in p for p in late), late
    assert len(late) < 8
    host.backend.journal.forgive("not yet current")


def test_odd_session_tokens_are_signed(fresh: Callable[..., Host]) -> None:
    keys = Keys("ASIATEMPORARY", "sec/ret+with=odd", "to/ken+with=odd&signs==")
    with Backend(keys) as backend:
        host = fresh(
            backend,
            AWS_ACCESS_KEY_ID=keys.access_key,
            AWS_SECRET_ACCESS_KEY=keys.secret_key,
            AWS_SESSION_TOKEN=keys.token,
        ).start()
        host.stop_task(host.run_task())
        backend.journal.wait(backend.tcs.frames, what="telemetry")
        log = host.log()
        host.end()
    assert keys.token not in log
    assert keys.secret_key not in log
    assert KEYS.access_key not in log


def test_an_inactive_instance_keeps_its_tasks_and_asks_seldom(fresh: Callable[..., Host]) -> None:
    host = fresh().start()
    backend = host.backend
    arn = host.run_task()
    pid = host.pid(arn)
    telemetry = backend.tcs.wait_open().number
    number = backend.acs.wait_open().number
    refusal = backend.acs.refuse(
        json.dumps({"InactiveInstanceException": "The instance was deregistered"}), times=-1
    )
    backend.acs.drop()
    backend.acs.wait_closed(number)
    backend.journal.wait(
        lambda: backend.journal.connections("acs", refused=True), what="a refused upgrade"
    )
    backend.tcs.wait_closed(telemetry)
    time.sleep(1.5)
    assert len(backend.journal.connections("acs", refused=True)) == 1
    assert host.pid(arn) == pid
    assert len(backend.journal.calls("RegisterContainerInstance")) == 1
    assert "InactiveInstanceException" in host.log()
    refusal.left = 0
    # A restart asks at once.
    host.crash()
    host.start()
    assert host.pid(arn) == pid
    host.stop_task(arn)
