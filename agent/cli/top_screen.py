"""The live screen of ``ecs-agent top``: draws what a reader thread got, and takes keys.

The terminal is in cbreak mode meanwhile and restored whatever happens. It is drawn anew for new
figures, for a key, and when the window changes its size; nothing happens in between.

Tests: ``tests/unit/cli/test_top_terminal.py``.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from agent.cli.client import CliError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from agent.cli.top_text import Line

_STDIN: Final = 0
_RETRY_S: Final = 2.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Figures = TypeVar("_Figures")


class LiveScreen(Generic[_Figures]):
    """Shows figures until a person ends it."""

    def __init__(
        self,
        fetch: Callable[[], _Figures],
        draw: Callable[[_Figures, str, int, int], Sequence[Line]],
        press: Callable[[str], bool],
    ) -> None:
        """Nothing happens before ``run``.

        Args:
            fetch: waits for the next figures and returns them; called in a thread of its own. A
                ``CliError`` is shown, and it is called again a little later.
            draw: returns the lines for figures, a text about trouble, and the terminal's width and
                height.
            press: takes a key; returns False if it ends the screen.
        """
        self._fetch = fetch
        self._draw = draw
        self._press = press
        self._news: queue.SimpleQueue[_Figures | CliError] = queue.SimpleQueue()
        self._ended = threading.Event()

    def run(self) -> None:
        """Show figures until ``q`` or a signal; the main thread only.

        Raises:
            CliError: there never were any figures.
        """
        with contextlib.ExitStack() as cleanup:
            wake, woken = os.pipe()
            cleanup.callback(os.close, wake)
            cleanup.callback(os.close, woken)
            os.set_blocking(woken, False)
            signals = cleanup.enter_context(_signals(woken))
            threading.Thread(target=self._read, args=(woken,), daemon=True).start()
            cleanup.callback(self._ended.set)
            figures = self._first(wake, signals)
            if figures is None:
                return
            has_keys = cleanup.enter_context(_keys())
            live = cleanup.enter_context(
                Live(console=Console(highlight=False), screen=True, auto_refresh=False)
            )
            self._show(live, figures, wake, signals, has_keys=has_keys)

    def _first(self, wake: int, signals: list[int]) -> _Figures | None:
        """Return the first figures; None if the person left before."""
        while self._news.empty():
            os.read(wake, 4096)
            if _is_end(signals):
                return None
        first = self._news.get()
        if isinstance(first, CliError):
            raise first
        return first

    def _show(
        self, live: Live, figures: _Figures, wake: int, signals: list[int], *, has_keys: bool
    ) -> None:
        trouble = ""
        watched = [wake, *([_STDIN] if has_keys else [])]
        while True:
            size = live.console.size
            lines = self._draw(figures, trouble, size.width, size.height)
            live.update(_rendered(lines), refresh=True)
            ready, _, _ = select.select(watched, [], [])
            if wake in ready:
                os.read(wake, 4096)
            if _is_end(signals):
                return
            if _STDIN in ready:
                typed = os.read(_STDIN, 64)
                if not typed:  # the terminal is gone
                    return
                if not all(self._press(key) for key in typed.decode(errors="replace")):
                    return
            while not self._news.empty():
                news = self._news.get()
                if isinstance(news, CliError):
                    trouble = str(news)
                else:
                    figures, trouble = news, ""

    def _read(self, woken: int) -> None:
        while not self._ended.is_set():
            try:
                news: _Figures | CliError = self._fetch()
            except CliError as error:
                news = error
            if self._ended.is_set():
                return
            self._news.put(news)
            with contextlib.suppress(OSError):  # it has been woken often enough, or has ended
                os.write(woken, b"\0")
            if isinstance(news, CliError):
                self._ended.wait(_RETRY_S)


@contextlib.contextmanager
def _signals(woken: int) -> Iterator[list[int]]:
    """Have signals wake the screen; yield those that came and end it."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number in _ENDING:
            came.append(number)

    before = {number: signal.signal(number, note) for number in (*_ENDING, signal.SIGWINCH)}
    descriptor = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        yield came
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _keys() -> Iterator[bool]:
    """Have keys arrive one by one and unseen; yield whether there are any."""
    if not sys.stdin or not os.isatty(_STDIN):
        yield False
        return
    before = termios.tcgetattr(_STDIN)
    tty.setcbreak(_STDIN)
    try:
        yield True
    finally:
        termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)


def _is_end(signals: list[int]) -> bool:
    return bool(signals)


def _rendered(lines: Sequence[Line]) -> Group:
    return Group(
        *(Text(line.text, style=line.style, no_wrap=True, overflow="crop") for line in lines)
    )
