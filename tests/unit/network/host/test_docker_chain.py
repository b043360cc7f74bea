"""Our rules in Docker's chain."""

from __future__ import annotations

from agent.network.host import docker_chain


def test_tasks_are_let_out_by_links_that_lead_outside_and_by_no_others() -> None:
    rules = docker_chain.wanted("ecs-br0", ["wg0", "eth0"])
    let_out = [rule[:4] for rule in rules if rule[0] == "-i"]
    assert let_out == [["-i", "ecs-br0", "-o", name] for name in ("ecs-br0", "eth0", "wg0")]
    (answers,) = [rule for rule in rules if rule[0] == "-o"]
    assert "RELATED,ESTABLISHED" in answers
    assert all(docker_chain.comment_of("ecs-br0") in rule for rule in rules)


def test_tasks_of_other_hosts_may_begin_connections_where_there_is_a_fleet() -> None:
    before = docker_chain.wanted("ecs-br0", ["eth0"])
    (added,) = [
        rule
        for rule in docker_chain.wanted("ecs-br0", ["eth0"], fleet="10.208.0.0/16")
        if rule not in before
    ]
    assert added[:4] == ["-s", "10.208.0.0/16", "-o", "ecs-br0"]
