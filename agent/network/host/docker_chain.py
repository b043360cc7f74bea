"""Our rules in Docker's chain for user rules, ``DOCKER-USER``, if it exists.

Docker drops forwarded packets that are not of its own networks, and an ``accept`` in a table of
ours cannot override that. So rules here let packets of tasks pass, but only through links that lead
out of the host, and between tasks. Traffic to Docker's own networks is left to Docker's rules,
which know what is published and what is internal. All our rules have our comment. Everything here
blocks.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from agent.errors import NetworkFailure
from agent.network.kernel import nft

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Collection, Iterable

CHAIN: Final = "DOCKER-USER"
_LOCK_WAIT_S: Final = "5"


def wanted(bridge: str, outside: Iterable[str], owner: str = "") -> list[list[str]]:
    """Return the arguments of each rule; ``owner`` is in their comments. Pure."""
    comment = ["-m", "comment", "--comment", comment_of(owner or bridge), "-j", "ACCEPT"]
    answers = ["-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"]
    return [
        *(["-i", bridge, "-o", link, *comment] for link in sorted({bridge, *outside})),
        ["-o", bridge, *answers, *comment],
    ]


def comment_of(bridge: str) -> str:
    """Return the comment that identifies our rules. Pure."""
    return f"ecs-host-agent {bridge}"


class DockerChain:
    """The rules of one agent. One caller at a time."""

    def __init__(self, bridge: str, owner: str = "", *, program: str = "iptables") -> None:
        """Take the names; nothing is changed.

        Args:
            bridge: the link of tasks, or a pattern for theirs.
            owner: marks the rules of the latter.
            program: ``iptables`` or ``ip6tables``.
        """
        self._bridge = bridge
        self._owner = owner or bridge
        self._program = program

    def ensure(self, outside: Collection[str]) -> None:
        """Add missing rules of ours and remove extra ones, in one transaction; idempotent.

        Raises:
            NetworkFailure: ``iptables`` failed or did not answer.
        """
        missing, excess = self._compare(outside)
        self._change(
            [f"-D {rule}" for rule in excess], [f"-I {CHAIN} 1 {rule}" for rule in missing]
        )

    def is_intact(self, outside: Collection[str]) -> bool:
        """Return whether our rules are as ``ensure`` leaves them; true if Docker has no such chain.

        Raises:
            NetworkFailure: ``iptables`` did not answer.
        """
        return self._compare(outside) == ([], [])

    def remove(self) -> None:
        """Remove all our rules.

        Raises:
            NetworkFailure: ``iptables`` failed or did not answer.
        """
        self._change([f"-D {CHAIN} {_line(words)}" for words in self._ours(self._listed() or [])])

    def _compare(self, outside: Collection[str]) -> tuple[list[str], list[str]]:
        """Return the missing rules, without the chain's name, and the extra ones, with it."""
        listed = self._listed()
        if listed is None:
            return [], []
        rules = wanted(self._bridge, outside, self._owner)
        # iptables lists the arguments of a rule in its own order.
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
        return [words for words in listed if comment_of(self._owner) in words]

    def _listed(self) -> list[list[str]] | None:
        """Return the arguments of each rule in the chain; None if there is no such chain."""
        answer = _iptables(self._program, "-S", CHAIN)
        if answer is None or answer.returncode != 0:
            return None
        lines = [shlex.split(line) for line in answer.stdout.splitlines()]
        return [words[2:] for words in lines if words[:2] == ["-A", CHAIN]]

    def _change(self, *changes: Collection[str]) -> None:
        lines = [line for part in changes for line in part]
        if not lines:
            return
        text = "\n".join(["*filter", *lines, "COMMIT", ""])
        answer = nft.run(f"{self._program}-restore", "-w", _LOCK_WAIT_S, "--noflush", text=text)
        if answer.returncode != 0:
            raise NetworkFailure(
                f"rules for {self._bridge} cannot be added to {CHAIN}: {answer.stderr.strip()}"
            )


def has_legacy_tables() -> bool:
    """Return whether this is legacy ``iptables``, whose changes nftables does not report."""
    answer = _iptables("iptables", "--version")
    return answer is not None and "legacy" in answer.stdout


def _line(words: Iterable[str]) -> str:
    # iptables-restore understands only double quotes.
    escaped = (word.replace("\\", r"\\").replace('"', r"\"") for word in words)
    return " ".join(f'"{word}"' if " " in word else word for word in escaped)


def _iptables(program: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    """Run iptables; None if it is not installed, in which case Docker does not use it either."""
    try:
        return nft.run(program, "-w", _LOCK_WAIT_S, *arguments)
    except NetworkFailure as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
