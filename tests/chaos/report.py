"""What a run prints in the end, for a person and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.leftovers import KINDS
from tests.chaos.oracle import DOUBLE, LOSS, NEEDLESS, Violation, counted

_SHOWN = 12
_WIDTH = 80


@dataclass
class Report:
    """What happened, and what must not have."""

    seed: int
    minutes: float
    wires: list[str]
    orders: int = 0
    stops: int = 0
    changes: int = 0
    starts: int = 0
    """Containers of tasks that the engine started."""
    faults: dict[str, int] = field(default_factory=dict)
    boundaries: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    """Faults that found nothing to strike."""
    violations: list[Violation] = field(default_factory=list)
    leftovers: dict[str, list[str]] = field(default_factory=dict)
    forgotten_by_engine: int = 0
    """Proxies of published ports that an engine forgot as it was killed; no agent can know of them."""
    links_forgotten: int = 0
    """Links that an engine had made for a container as it was killed, and forgot."""
    starts_forgotten: int = 0
    """Starts that an engine made, forgot as it was killed, and made again."""
    codes_forgotten: int = 0
    """Containers that ended while the engine was dead, and of which it tells no exit code but 255."""
    trouble: list[str] = field(default_factory=list)
    """Processes that ended by themselves, calls that were refused, faults that failed."""
    quiet_after_s: float = 0.0
    """How long it took from the last fault until everything was as ordered."""
    evidence: list[str] = field(default_factory=list)
    """What the history and the logs tell about what went wrong."""
    kept: str = ""
    """Where the history is kept."""

    @property
    def left(self) -> int:
        """How many things are left over."""
        return sum(len(things) for things in self.leftovers.values())

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.violations or self.left or self.trouble)

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON's types."""
        told = asdict(self)
        told["violations"] = [each._asdict() for each in self.violations]
        counts = counted(self.violations)
        told |= {
            "losses": counts[LOSS],
            "doubles": counts[DOUBLE],
            "needlessRestarts": counts[NEEDLESS],
            "isClean": self.is_clean,
        }
        return told

    def as_text(self) -> str:
        """Return it in lines of at most 80 columns, but for what went wrong."""
        counts = counted(self.violations)
        wires = " and ".join(dict.fromkeys(self.wires))
        lines = [
            f"seed {self.seed}, {self.minutes:g} min, {len(self.wires)} agents by {wires}",
            f"orders {self.orders}, stops {self.stops}, changes of services {self.changes}",
            f"containers started {self.starts}",
            f"faults {sum(self.faults.values())}, and {self.skipped} that found nothing to strike",
            f"quiet {self.quiet_after_s:.0f} s after the last",
            *_columns(self.faults),
            f"at boundaries {sum(self.boundaries.values())}",
            *_columns(self.boundaries),
            "",
            f"losses            {counts[LOSS]}",
            f"doubles           {counts[DOUBLE]}",
            f"needless restarts {counts[NEEDLESS]}",
            f"leftovers         {self.left}   ({self._left_by_kind()})",
            f"starts that a killed engine forgot and made again: {self.starts_forgotten}",
            f"exit codes of containers that ended while it was dead: {self.codes_forgotten}",
            f"port proxies that a killed engine forgot: {self.forgotten_by_engine}",
            f"links that it forgot: {self.links_forgotten}",
        ]
        if not self.is_clean:
            lines += ["", *self._wrong()]
        return "\n".join(lines)

    def _left_by_kind(self) -> str:
        there = {kind: len(self.leftovers.get(kind, ())) for kind in KINDS}
        return ", ".join(f"{kind} {n}" for kind, n in there.items() if n) or "of no kind"

    def _wrong(self) -> list[str]:
        lines = [f"{each.kind}: {each.task}: {each.what}" for each in self.violations[:_SHOWN]]
        if len(self.violations) > _SHOWN:
            lines.append(f"and {len(self.violations) - _SHOWN} more")
        for kind, things in self.leftovers.items():
            lines += [f"left over: {kind}: {thing}" for thing in things[:_SHOWN]]
        lines += [*self.trouble[:_SHOWN], *self.evidence, ""]
        lines.append(f"The history is in {self.kept}")
        lines.append(f"To repeat the plan: make chaos SEED={self.seed} MINUTES={self.minutes:g}")
        return lines


def _columns(counts: dict[str, int]) -> list[str]:
    """Return counts in two columns."""
    shown = [f"{count:4d} {name}" for name, count in sorted(counts.items())]
    half = (len(shown) + 1) // 2
    left, right = shown[:half], [*shown[half:], ""]
    return [f"{a:<46}{b}".rstrip()[:_WIDTH] for a, b in zip(left, right, strict=False)]
