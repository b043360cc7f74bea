"""Firewall rules of task networks: one nftables table of ours, and two rules in Docker's chain.

The table is replaced whole, in one transaction, so that it is right or as it was before. It
translates what tasks send to the outside, and drops what they send under foreign addresses. An
``accept`` of ours could not overrule the DROP that Docker sets on forwarding, which is why
``DOCKER-USER`` (where there is one) gets rules that let tasks out and answers in; they carry our
comment. Everything here blocks and runs in a thread lane of the caller's; nothing is retried.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import struct
import subprocess
from typing import TYPE_CHECKING, Any

from agent.errors import NetworkFailure

if TYPE_CHECKING:
    from collections.abc import Iterable

POOLS_SET = "task_pools"
DOCKER_CHAIN = "DOCKER-USER"
_LIMIT_S = 15.0
_LOCK_WAIT_S = 5
_NETLINK_NETFILTER = 12
_GET_GENERATION = (10 << 8) | 16
_REQUEST = 1


def ruleset(table: str, bridge: str, pools: Iterable[str]) -> list[dict[str, Any]]:
    """Return the commands that replace our table, in the JSON schema of nftables. Pure.

    Every rule's comment ends with a digest of the whole, by which ``Firewall.differences`` knows it.
    """
    body = _body(table, bridge, sorted(pools))
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]
    for command in body:
        rule = command["add"].get("rule")
        if rule is not None:
            rule["comment"] = f"{rule['comment']} {digest}"
    name = {"family": "inet", "name": table}
    # Deleting needs the table to be there, so it is added first: one atomic replacement.
    return [{"add": {"table": name}}, {"delete": {"table": name}}, {"add": {"table": name}}, *body]


def _body(table: str, bridge: str, pools: list[str]) -> list[dict[str, Any]]:
    place = {"family": "inet", "table": table}
    elements = [_prefix(pool) for pool in pools]
    pool_set = f"@{POOLS_SET}"
    from_pool = _match("==", _payload("saddr"), pool_set)
    return [
        {"add": {"set": {**place, "name": POOLS_SET, "type": "ipv4_addr", "flags": ["interval"],
                         "elem": elements}}},
        {"add": {"chain": {**place, "name": "sources", "type": "filter", "hook": "prerouting",
                           "prio": -300, "policy": "accept"}}},
        {"add": {"chain": {**place, "name": "outside", "type": "nat", "hook": "postrouting",
                           "prio": 100, "policy": "accept"}}},
        {"add": {"rule": {**place, "chain": "sources", "comment": "no foreign sources", "expr": [
            _match("==", {"meta": {"key": "iifname"}}, bridge),
            _match("!=", _payload("saddr"), pool_set),
            {"drop": None},
        ]}}},
        {"add": {"rule": {**place, "chain": "outside", "comment": "tasks to outside", "expr": [
            from_pool,
            _match("!=", _payload("daddr"), pool_set),
            _match("!=", {"meta": {"key": "oifname"}}, bridge),
            {"masquerade": None},
        ]}}},
    ]  # fmt: skip


def _match(operator: str, left: dict[str, Any], right: str) -> dict[str, Any]:
    return {"match": {"op": operator, "left": left, "right": right}}


def _payload(field: str) -> dict[str, Any]:
    return {"payload": {"protocol": "ip", "field": field}}


def _prefix(cidr: str) -> dict[str, Any]:
    address, _, length = cidr.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


class Firewall:
    """Our rules on this host. One caller at a time; every method blocks."""

    def __init__(self, table: str, bridge: str) -> None:
        self._table = table
        self._bridge = bridge
        self._comment = f"ecs-host-agent {bridge}"

    def ensure(self, pools: Iterable[str]) -> None:
        """Bring table and Docker's chain into shape; repeatable.

        Raises:
            NetworkFailure: ``nft`` is missing or refused.
        """
        commands = ruleset(self._table, self._bridge, pools)
        if not self._has(commands):
            _nft_apply(commands)
        self._ensure_docker_rules()

    def differences(self, pools: Iterable[str]) -> list[str]:
        """Return what is not as ``ensure`` leaves it, a few words each; empty when all is."""
        found = []
        if not self._has(ruleset(self._table, self._bridge, pools)):
            found.append(f"the firewall table {self._table} was changed or gone")
        if self._missing_docker_rules():
            found.append(f"rules for {self._bridge} were gone from {DOCKER_CHAIN}")
        return found

    def remove(self) -> None:
        """Remove every rule of ours; forwarding stays on, since others may rely on it."""
        name = {"family": "inet", "name": self._table}
        _nft_apply([{"add": {"table": name}}, {"delete": {"table": name}}])
        for rule in self._our_docker_rules():
            _iptables("-D", DOCKER_CHAIN, *rule)

    def _has(self, commands: list[dict[str, Any]]) -> bool:
        answer = _run("nft", "-j", "list", "table", "inet", self._table)
        if answer.returncode != 0:
            return False
        objects = json.loads(answer.stdout)["nftables"]
        present = {o["rule"].get("comment") for o in objects if "rule" in o}
        elements = {
            json.dumps(element, sort_keys=True)
            for o in objects
            if o.get("set", {}).get("name") == POOLS_SET
            for element in o["set"].get("elem", [])
        }
        added = [command["add"] for command in commands if "add" in command]
        return present == {a["rule"]["comment"] for a in added if "rule" in a} and elements == {
            json.dumps(element, sort_keys=True)
            for a in added
            if "set" in a
            for element in a["set"]["elem"]
        }

    def _wanted_docker_rules(self) -> list[list[str]]:
        comment = ["-m", "comment", "--comment", self._comment]
        answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
        return [
            ["-i", self._bridge, *comment, "-j", "ACCEPT"],
            ["-o", self._bridge, *answers, *comment, "-j", "ACCEPT"],
        ]

    def _ensure_docker_rules(self) -> None:
        for rule in self._missing_docker_rules():
            answer = _iptables("-I", DOCKER_CHAIN, "1", *rule)
            if answer is not None and answer.returncode != 0:
                raise NetworkFailure(
                    f"a rule for {self._bridge} cannot be put into {DOCKER_CHAIN}: "
                    f"{answer.stderr.strip()}"
                )

    def _missing_docker_rules(self) -> list[list[str]]:
        listed = _docker_chain()
        if listed is None:
            return []
        return [rule for rule in self._wanted_docker_rules() if sorted(rule) not in listed]

    def _our_docker_rules(self) -> list[list[str]]:
        listed = _docker_chain() or []
        return [rule for rule in self._wanted_docker_rules() if sorted(rule) in listed]


def generation() -> int | None:
    """Return the number that grows with every change of any nftables rule; None if unknown.

    One request to the kernel, so that "nothing has changed" costs no process.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as nfnetlink:
            nfnetlink.settimeout(1.0)
            nfnetlink.send(struct.pack("=IHHII4s", 20, _GET_GENERATION, _REQUEST, 1, 0, bytes(4)))
            answer = nfnetlink.recv(4096)
    except OSError:
        return None
    # Netlink header, family header, then the first attribute is the number, in network order.
    if len(answer) < 28 or struct.unpack_from("=H", answer, 4)[0] != 10 << 8 | 15:
        return None
    return int(struct.unpack_from("!I", answer, 24)[0])


def has_legacy_tables() -> bool:
    """Tell whether ``iptables`` is the old kind, whose changes ``generation`` does not show."""
    answer = _iptables("--version")
    return answer is not None and "legacy" in answer.stdout


def _docker_chain() -> list[list[str]] | None:
    """Return the sorted words of each rule in Docker's chain; None if there is no such chain."""
    answer = _iptables("-S", DOCKER_CHAIN)
    if answer is None or answer.returncode != 0:
        return None
    prefix = ["-A", DOCKER_CHAIN]
    lines = [shlex.split(line) for line in answer.stdout.splitlines()]
    return [sorted(words[2:]) for words in lines if words[:2] == prefix]


def _nft_apply(commands: list[dict[str, Any]]) -> None:
    answer = _run("nft", "-j", "-f", "-", text=json.dumps({"nftables": commands}))
    if answer.returncode != 0:
        raise NetworkFailure(f"nft refused our rules: {answer.stderr.strip()[:300]}")


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run iptables; None where it is not installed, and then Docker does not use it either."""
    try:
        return _run("iptables", "-w", str(_LOCK_WAIT_S), *arguments)
    except NetworkFailure as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def _run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except FileNotFoundError as error:
        mend = f"{command[0]} is not installed; install the package that holds it"
        raise NetworkFailure(mend) from error
    except subprocess.TimeoutExpired:
        raise NetworkFailure(f"{command[0]} did not answer within {_LIMIT_S:g} s") from None
