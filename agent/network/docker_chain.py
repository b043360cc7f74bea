"""Our rules in Docker's chain for the rules of others, ``DOCKER-USER``; where there is one.

Docker drops what is forwarded and not of its own networks, and an ``accept`` in a table of ours could not
overrule that. So tasks are let out here, and only out: by links that lead outside of the host, and from
task to task. What goes to Docker's own networks is left to Docker's rules, which know what is
published and what is internal. All rules carry our comment. Everything here blocks.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from agent.errors import NetworkFailure
from agent.network import nft

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Iterable

CHAIN: Final = "DOCKER-USER"
_LOCK_WAIT_S: Final = "5"


def wanted(bridge: str, outside: Iterable[str]) -> list[list[str]]:
    """Return the words of each rule. Pure."""
    comment = ["-m", "comment", "--comment", comment_of(bridge), "-j", "ACCEPT"]
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    return [
        *(["-i", bridge, "-o", link, *comment] for link in sorted({bridge, *outside})),
        ["-o", bridge, *answers, *comment],
    ]


def comment_of(bridge: str) -> str:
    """Return the comment by which our rules are known. Pure."""
    return f"ecs-host-agent {bridge}"


class DockerChain:
    """The rules of one agent. One caller at a time."""

    def __init__(self, bridge: str) -> None:
        self._bridge = bridge

    def ensure(self, outside: Collection[str]) -> None:
        """Add what is missing and remove what is of ours and not wanted, in one go; repeatable.

        Raises:
            NetworkFailure: ``iptables`` refused or does not answer.
        """
        missing, excess = self._compare(outside)
        self._change(
            [f"-D {rule}" for rule in excess], [f"-I {CHAIN} 1 {rule}" for rule in missing]
        )

    def is_intact(self, outside: Collection[str]) -> bool:
        """Tell whether the chain is as ``ensure`` leaves it; one that Docker did not make is.

        Raises:
            NetworkFailure: ``iptables`` does not answer.
        """
        return self._compare(outside) == ([], [])

    def remove(self) -> None:
        """Remove every rule of ours.

        Raises:
            NetworkFailure: ``iptables`` refused or does not answer.
        """
        self._change([f"-D {CHAIN} {_line(words)}" for words in self._ours(_listed() or [])])

    def _compare(self, outside: Collection[str]) -> tuple[list[str], list[str]]:
        """Return the missing rules, without the chain's name, and those that are too much, with it."""
        listed = _listed()
        if listed is None:
            return [], []
        rules = wanted(self._bridge, outside)
        # iptables lists the words of a rule in an order of its own.
        present = [sorted(words) for words in listed]
        missing = [_line(rule) for rule in rules if sorted(rule) not in present]
        left = [sorted(rule) for rule in rules]
        excess = []
        for words in self._ours(listed):
            if sorted(words) in left:
                left.remove(sorted(words))
            else:
                excess.append(f"{CHAIN} {_line(words)}")
        return missing, excess

    def _ours(self, listed: Iterable[list[str]]) -> list[list[str]]:
        return [words for words in listed if comment_of(self._bridge) in words]

    def _change(self, *changes: Collection[str]) -> None:
        lines = [line for part in changes for line in part]
        if not lines:
            return
        text = "\n".join(["*filter", *lines, "COMMIT", ""])
        answer = nft.run("iptables-restore", "-w", _LOCK_WAIT_S, "--noflush", text=text)
        if answer.returncode != 0:
            raise NetworkFailure(
                f"rules for {self._bridge} cannot be put into {CHAIN}: {answer.stderr.strip()}"
            )


def has_legacy_tables() -> bool:
    """Tell whether ``iptables`` is the old kind, whose changes nftables does not tell of."""
    answer = _iptables("--version")
    return answer is not None and "legacy" in answer.stdout


def _line(words: Iterable[str]) -> str:
    # iptables-restore knows double quotes alone.
    escaped = (word.replace("\\", r"\\").replace('"', r"\"") for word in words)
    return " ".join(f'"{word}"' if " " in word else word for word in escaped)


def _listed() -> list[list[str]] | None:
    """Return the words of each rule in the chain; None if there is no such chain."""
    answer = _iptables("-S", CHAIN)
    if answer is None or answer.returncode != 0:
        return None
    lines = [shlex.split(line) for line in answer.stdout.splitlines()]
    return [words[2:] for words in lines if words[:2] == ["-A", CHAIN]]


def _iptables(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run iptables; None where it is not installed, and then Docker does not use it either."""
    try:
        return nft.run("iptables", "-w", _LOCK_WAIT_S, *arguments)
    except NetworkFailure as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
