"""What the words of engine and registry mean for the next try, and how outages are remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import EngineRefused, EngineTimeout, EngineUnavailable, NoSuchImage
from agent.images import failure_kind
from agent.images.failure_kind import FailureKind
from agent.images.images import _failure
from agent.images.registries import FIRST_PAUSE_S, LONGEST_PAUSE_S, OUTAGES_MOST, Registries

_GET = 'Error response from daemon: Get "https://registry-1.docker.io/v2/": '


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (_GET + "dial tcp: lookup registry-1.docker.io on 10.0.0.2:53: no such host", "trouble"),
        (_GET + "dial tcp 127.0.0.1:5999: connect: connection refused", "trouble"),
        (_GET + "net/http: TLS handshake timeout", "trouble"),
        (_GET + "context deadline exceeded", "trouble"),
        (_GET + "net/http: request canceled while waiting for connection", "trouble"),
        (_GET + "EOF", "trouble"),
        ("received unexpected HTTP status: 503 Service Unavailable", "trouble"),
        ("toomanyrequests: You have reached your pull rate limit", "limited"),
        ("received unexpected HTTP status: 429 Too Many Requests", "limited"),
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "no space"),
        ("filesystem layer verification failed for digest sha256:aa", "trouble"),
        ("unexpected EOF", "trouble"),
        ("error pulling image configuration: read: connection reset by peer", "trouble"),
        (_GET + "x509: certificate signed by unknown authority", "final"),
        ('Get "https://q.io/v2/timeout/manifests/500": unauthorized', "absent"),
        ("invalid reference format", "final"),
        (_GET + "unauthorized: incorrect username or password", "absent"),
        (_GET + "no basic auth credentials", "absent"),
        ("denied: requested access to the resource is denied", "absent"),
        ("something nobody has seen before", "final"),
    ],
)
def test_words(text: str, meant: str) -> None:
    assert failure_kind.of(EngineRefused(text)) == meant


def test_kinds() -> None:
    assert failure_kind.of(NoSuchImage("dial tcp")) is FailureKind.ABSENT
    assert failure_kind.of(EngineTimeout("x")) is FailureKind.TROUBLE
    assert failure_kind.of(EngineUnavailable("denied")) is FailureKind.ENGINE


def test_reasons_are_those_of_ecs() -> None:
    denied = "Error response from daemon: denied: requested access to the resource is denied"
    failure = _failure(NoSuchImage(denied))
    assert failure.name == "CannotPullContainerError"
    assert str(failure).startswith("The task can\N{RIGHT SINGLE QUOTATION MARK}t pull the image.")
    assert str(failure).endswith(denied)
    late = _failure(EngineTimeout("Could not transition to pulled; timed out after waiting 1m0s"))
    assert late.name == "DockerTimeoutError"


def test_an_outage_is_probed_at_growing_intervals() -> None:
    known = Registries()
    assert not known.is_away("q.io")
    now, pause_s = 100.0, FIRST_PAUSE_S
    for _ in range(8):
        known.failed("q.io", now)
        known.failed("q.io", now)
        assert known.is_away("q.io")
        assert not known.may_probe("q.io", now + pause_s - 0.1)
        assert known.may_probe("q.io", now + pause_s)
        now += pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
    assert not known.is_away("other.io")
    known.answered("q.io")
    assert not known.is_away("q.io")
    assert not known.may_probe("q.io", now + 1e6)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1000)), max_size=30))
def test_absence_is_believed_for_a_while(notes: list[tuple[str, float]]) -> None:
    known = Registries(absent_s=60)
    now = 0.0
    last: dict[str, float] = {}
    for name, step in notes:
        now += step
        known.lacks(name, now)
        last[name] = now
        for other, at in last.items():
            assert known.is_lacking(other, now) == (now < at + 60)
    for name in last:
        known.has(name)
        assert not known.is_lacking(name, now)


def test_outages_of_ever_new_registries_are_not_kept() -> None:
    known = Registries()
    for number in range(OUTAGES_MOST + 10):
        known.failed(f"registry-{number}.example", now=float(number))
    assert not known.is_away("registry-9.example")
    assert known.is_away("registry-10.example")
    assert known.is_away(f"registry-{OUTAGES_MOST + 9}.example")
