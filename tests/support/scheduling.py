"""Which worker of pytest-xdist runs which file: some begin with unit tests while others run integration tests.

Integration tests wait most of the time, for engines, processes and clocks, and unit tests compute. Where all workers
ran the ones before the others, processors would first be idle and then have to be shared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xdist.workermanage import WorkerController

COMPUTING = "tests/unit/"
"""Where the files are whose tests compute."""


def begins_with_computing(number: int, workers: int) -> bool:
    """Return whether a worker begins with files that compute, which is every fourth one. Pure."""
    return number < workers // 4


def next_file(waiting: Iterable[str], *, computing: bool) -> str:
    """Return the first file of the kind that a worker begins with; the first of all if there is none left. Pure.

    Raises:
        StopIteration: no file is left.
    """
    files = list(waiting)
    mine = (file for file in files if file.startswith(COMPUTING) is computing)
    return next(mine, None) or next(iter(files))


class MixedFiles(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Gives out whole files, as ``--dist loadfile`` does, in the order of the command line for each kind."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        nodes = self.nodes
        computing = begins_with_computing(nodes.index(node), len(nodes))
        file = next_file(self.workqueue, computing=computing)
        self.workqueue.move_to_end(file, last=False)
        super()._assign_work_unit(node)
