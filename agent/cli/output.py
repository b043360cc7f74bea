"""All printing of commands to standard output and standard error.

Everything that is printed goes through here; the linter refuses ``click.echo`` and ``print``
elsewhere. Control characters in texts become escapes (``agent.escapes``) and never reach the
terminal. Only ``styled`` adds colours, and they appear only on a terminal.
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
    """A text that is safe for a terminal: already escaped, with only our own colours."""

    __slots__ = ()


def styled(text: str, *, fg: str | None = None, bold: bool = False, dim: bool = False) -> Styled:
    """Return a text that is escaped and has only this style."""
    safe = text if isinstance(text, Styled) else escapes.shown(text)
    if fg or bold or dim:
        safe = click.style(safe, fg=fg, bold=bold or None, dim=dim or None)
    return Styled(safe)


def joined(parts: Iterable[str], between: str = "") -> Styled:
    """Join texts, each escaped as if printed alone."""
    return Styled(between.join(styled(part) for part in parts))


def line(text: str = "", *, err: bool = False) -> None:
    """Print a text as one line; on standard error if ``err`` is true."""
    click.echo(styled(text), err=err)


def lines(text: str, *, err: bool = False) -> None:
    """Print a text of several lines; its line breaks and tabs are preserved."""
    click.echo(escapes.shown(text, keep="\n\t"), err=err)


def over(text: str, *, last: bool) -> None:
    """Overwrite the current line on standard error; ``last`` ends the line."""
    click.echo(f"\r{escapes.shown(text)}", nl=last, err=True)


def json(value: Any, *, indent: int = 2) -> None:
    """Print a value as JSON; on one line if ``indent`` is 0."""
    encoded = msgspec.json.encode(value)
    document = (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    click.echo(escapes.in_json(document))


def for_shell(text: str) -> None:
    """Print a line for a program: unchanged in a pipe, escaped on a terminal."""
    click.echo(text if not on_terminal() else escapes.shown(text))


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def has_blocks() -> bool:
    """Return whether standard output can show block characters."""
    try:
        "█·▏".encode((sys.stdout and sys.stdout.encoding) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def asks() -> bool:
    """Return whether a person can be asked: standard input and standard error are terminals."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirmed(question: str) -> bool:
    """Ask a question on standard error; only ``y`` or ``yes`` is consent."""
    return click.confirm(escapes.shown(question), default=False, err=True)


def copy(chunks: Iterable[bytes]) -> None:
    """Print output of a container as it arrives: byte for byte in a pipe.

    A terminal gets text and colours; all other control characters are shown as escapes.
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


def container_line(prefix: Styled, text: bytes, *, is_whole: bool) -> None:
    """Print a line of a container after our own words: byte for byte in a pipe, as ``copy`` does.

    ``is_whole`` is false for a line without a line break.
    """
    if sys.stdout is None:
        return
    if on_terminal():
        colours = ColourFilter()
        shown = colours.feed(text.removesuffix(b"\r")) + colours.end()
        click.echo(prefix + shown, nl=is_whole)
        return
    end = b"\n" if is_whole else b""
    sys.stdout.buffer.write(click.unstyle(prefix).encode(errors="replace") + text + end)
    sys.stdout.buffer.flush()


def raw(data: bytes, *, err: bool = False) -> None:
    """Print output of a command in a container byte for byte: it drives our terminal like its own."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        stream.buffer.write(data)
        stream.buffer.flush()


def _write_all(stream: BinaryIO, chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        stream.write(chunk)
        stream.flush()


def _show(make: Callable[..., str], *arguments: bytes) -> None:
    sys.stdout.write(make(*arguments))
    sys.stdout.flush()


def ask_secret(what: str) -> str:
    """Ask for a value on the terminal, twice and without showing it; return it."""
    value: str = click.prompt(what, hide_input=True, confirmation_prompt=True, err=True)
    return value
