from __future__ import annotations

from agent.doctor.checks import resolvers
from agent.doctor.findings import Level
from tests.support.findings import levels, only


def test_servers_on_the_loopback_are_not_for_tasks() -> None:
    stub, real = "nameserver 127.0.0.53\n", "nameserver 192.0.2.1\nnameserver ::1\n"
    found = resolvers.choose([], [stub, real])
    assert found.usable == ("192.0.2.1",)
    assert found.unusable == ("127.0.0.53", "::1")
    assert levels(resolvers.judge(found, {"192.0.2.1": True})) == {"ok"}
    none = resolvers.judge(resolvers.choose([], [stub, ""]), {})
    assert "127.0.0.53 cannot be reached" in only(none, Level.WARNING).seen
    assert "ECS_TASK_DNS_SERVERS" in only(none, Level.WARNING).command


def test_servers_that_do_not_answer() -> None:
    found = resolvers.choose(["192.0.2.1", "192.0.2.2"], ["nameserver 192.0.2.9"])
    half = resolvers.judge(found, {"192.0.2.1": True, "192.0.2.2": False})
    assert "192.0.2.2" in only(half, Level.WARNING).seen
    none = resolvers.judge(found, {"192.0.2.1": False, "192.0.2.2": False})
    assert levels(none) == {"warning"}
    local = resolvers.judge(resolvers.choose(["127.0.0.1"], []), {"127.0.0.1": True})
    assert levels(local) == {"error"}
