"""The one way of commands to standard output and error.

Everything that is printed goes through here, and the linter refuses ``click.echo`` and ``print``
elsewhere. A text is shown, never sent: its control characters become escapes (``agent.escapes``). Only
what ``styled`` made of a text is coloured, and only on a terminal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from agent import escapes
from agent.cli.colours import ColourFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO


class Styled(str):
    """A text that may go to a terminal as it is: escaped already, with colours of our own."""

    __slots__ = ()


def styled(text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> Styled:
    """Return a text, of which nothing but this style reaches a terminal."""
    safe = text if isinstance(text, Styled) else escapes.shown(text)
    if fg or bold or dim:
        safe = click.style(safe, fg=fg, bold=bold or None, dim=dim or None)
    return Styled(safe)


def joined(parts: Iterable[str], between: str = "") -> Styled:
    """Return texts in a row, each as it would be printed by itself."""
    return Styled(between.join(styled(part) for part in parts))


def line(text: str = "", *, err: bool = False) -> None:
    """Print a text as one line, on standard error with ``err``."""
    click.echo(styled(text), err=err)


def lines(text: str, *, err: bool = False) -> None:
    """Print a text of several lines: its line breaks and tabs stay."""
    click.echo(escapes.shown(text, keep="\n\t"), err=err)


def over(text: str, *, last: bool) -> None:
    """Print over the line of standard error that was printed so before; ``last`` ends it."""
    click.echo(f"\r{escapes.shown(text)}", nl=last, err=True)


def json(value: Any, *, indent: int = 2) -> None:
    """Print a value as JSON, in one line with an ``indent`` of 0."""
    encoded = msgspec.json.encode(value)
    document = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    click.echo(escapes.in_json(document))


def for_shell(text: str) -> None:
    """Print a line that a program reads: exactly as it is in a pipe, escaped on a terminal."""
    click.echo(text if not on_terminal() else escapes.shown(text))


def on_terminal() -> bool:
    """Return whether a person reads along."""
    return sys.stdout is not None and sys.stdout.isatty()


def copy(chunks: Iterable[bytes]) -> None:
    """Print what a container wrote as it comes: in a pipe byte for byte.

    A terminal gets text and colours, and everything else that could command it as escapes.
    """
    if sys.stdout is None:
        return
    if not on_terminal():
        _write_all(sys.stdout.buffer, chunks)
        return
    colours = ColourFilter()
    try:
        for chunk in chunks:
            _show(colours.feed, chunk)
    finally:
        _show(colours.end)


def _write_all(stream: BinaryIO, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        stream.write(chunk)
        stream.flush()


def _show(make: Callable[..., str], *arguments: bytes) -> None:
    sys.stdout.write(make(*arguments))
    sys.stdout.flush()
