"""``ecs-agent doctor``: checks this host, says what to fix, and writes the support archive.

Prints what ``agent.doctor`` finds: a coloured table on a terminal, plain lines in a pipe, JSON for
programs. Works without an agent, without Docker and with invalid settings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli import output, render
from agent.cli.client import CliError
from agent.config import DEFAULT_FILES, load
from agent.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from agent.doctor.findings import Finding, Report
    from agent.doctor.host import HostFacts

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}
_HERE = "*"
"""Value of ``--bundle`` without a file."""


@click.command()
@click.option("--config", default="", metavar="FILE", help="Settings file, as for `ecs-agent run`.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quick", is_flag=True, help="Skip the checks that take longer than a moment.")
@click.option(
    "--bundle",
    is_flag=False,
    flag_value=_HERE,
    default="",
    metavar="[FILE]",
    help="Also write an archive for support, with secrets removed. "
    "[default: ecs-agent-bundle-HOST-DATE.tar.gz]",
)
def doctor(config: str, bundle: str, *, as_json: bool, quick: bool) -> int:
    """Check this host and say what to fix.

    Run it before and after joining. Each line is ok, a warning (works, but read it) or an error, and
    says what to do. Nothing on the host is changed.

    Exit codes: 0 no errors, 1 errors. With --bundle: 0 if the archive was written, else 1.
    """
    _keep_quiet()
    if bundle == "-":
        raise CliError(
            "--bundle -: the archive cannot go to standard output; name a file, or omit the name",
            exit_code=ExitCode.USAGE,
        )
    files = (Path(config),) if config else DEFAULT_FILES
    target = _target(bundle)
    report, written = asyncio.run(_work(files, bool(config), target, quick=quick))
    if as_json:
        render.as_json(report)
    else:
        _show(report)
    if target is not None:
        output.line(written, err=as_json)
        return ExitCode.SUCCESS
    return ExitCode.ERROR if report.errors else ExitCode.SUCCESS


def _keep_quiet() -> None:
    """Discard log lines of called code: this command prints all results itself."""
    import structlog  # noqa: PLC0415 - only here

    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


async def _work(
    files: tuple[Path, ...], required: bool, target: Path | None, *, quick: bool
) -> tuple[Report, str]:
    """Run the checks and write the archive; return the report and a line about the archive."""
    from agent.doctor.examine import examine  # noqa: PLC0415 - takes half a second, not for --help

    host = await asyncio.to_thread(_host, files, required=required)
    try:
        with _patience():
            report = await examine(host, quick=quick)
        return report, await _bundle(host, report, target) if target is not None else ""
    finally:
        await host.close()


def _patience() -> contextlib.AbstractContextManager[object]:
    """Return a progress display for a terminal: checks of a slow host take a while."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from rich.console import Console  # noqa: PLC0415 - takes 60 ms, only for a terminal

    return Console(stderr=True).status("checking this host")


def _host(files: tuple[Path, ...], *, required: bool) -> HostFacts:
    from agent.doctor.host import HostFacts  # noqa: PLC0415 - as above
    from agent.doctor.salvage import usable, without_what_files_give  # noqa: PLC0415

    environ = without_what_files_give(os.environ, files)
    try:
        settings = load(environ, files, required=required)
        return HostFacts(settings=settings, files=files, environ=environ)
    except ConfigError as error:
        problems = tuple(str(error).splitlines())
        settings = usable(environ, files)
        return HostFacts(settings=settings, files=files, problems=problems, environ=environ)


async def _bundle(host: HostFacts, report: Report, target: Path) -> str:
    from agent.doctor.bundle import write  # noqa: PLC0415 - only for --bundle

    try:
        size = await write(host, report, target, progress=_progress)
    except OSError as error:
        mend = "another name" if isinstance(error, FileExistsError) else "another path"
        raise CliError(f"{target}: {error.strerror}; choose {mend} with --bundle FILE") from None
    return (
        f"wrote {target} ({render.size(size)}); known secrets were removed, but check the archive "
        "before you share it"
    )


def _progress(ready: int, all_: int) -> None:
    """Show progress on one line of a terminal; nothing in a pipe."""
    if sys.stderr.isatty():
        output.over(f"collecting {ready} of {all_} pieces", last=ready == all_)


def _target(bundle: str) -> Path | None:
    if not bundle:
        return None
    if bundle != _HERE:
        return Path(bundle).absolute()
    from agent.doctor.bundle import default_name  # noqa: PLC0415 - only for --bundle

    return Path.cwd() / default_name()


def _show(report: Report) -> None:
    on_terminal = render.on_terminal()
    width = max((len(finding.check) for finding in report.findings), default=0)
    show = _on_terminal if on_terminal else _plain
    for finding in report.findings:
        show(finding, width)
    if report.left_out:
        output.line(f"skipped by --quick: {', '.join(report.left_out)}")
    output.line(_sum(report))


def _plain(finding: Finding, width: int) -> None:
    output.line(f"{finding.level.value:<7}  {finding.check:<{width}}  {finding.seen}")
    margin = " " * (7 + 2 + width + 2)
    if finding.mend:
        output.line(f"{margin}fix: {finding.mend}")
    if finding.command:
        output.line(f"{margin}$ {finding.command}")


def _on_terminal(finding: Finding, width: int) -> None:
    margin = " " * (7 + 2 + width + 2)
    level = output.styled(f"{finding.level.value:<7}", fg=_COLOURS[finding.level.value], bold=True)
    check = output.styled(f"{finding.check:<{width}}", bold=True)
    quiet = finding.level.value == "ok" and not finding.mend
    render.sentence(
        finding.seen, indent=margin, mark=output.joined([level, check, ""], "  "), dim=quiet
    )
    if finding.mend:
        render.sentence(finding.mend, indent=margin, colour="cyan")
    if finding.command:  # never wrapped, so that it can be copied and pasted
        output.line(output.styled(f"{margin}$ {finding.command}", fg="cyan", bold=True))


def _sum(report: Report) -> str:
    def count(number: int, what: str) -> str:
        return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

    return f"{count(report.errors, 'error')}, {count(report.warnings, 'warning')}"
