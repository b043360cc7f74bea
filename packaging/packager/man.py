"""The manual pages, generated from the program's commands, options and settings.

``ecs-agent(1)``, one page per command, and ``ecs.config(5)``. Reads the click tree of
``agent.cli.app`` and the table of ``agent.config.settings``. A new command or setting gets its page
or entry with the next build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agent.cli import app
from agent.config.known import WITHOUT_EFFECT
from agent.config.settings import variables
from packager import PackagingError
from packager.roff import Page

if TYPE_CHECKING:
    from agent.config.variable import Variable

PROGRAM = "ecs-agent"
_FOR_ADMINISTRATORS = frozenset({"run", "control", "standalone", "join", "doctor"})
"""Commands whose page is in section 8; the others only show what runs and are in section 1."""
_FILES = (
    ("/etc/ecs/ecs.config", "Settings of this host; see ecs.config(5)."),
    ("/var/lib/ecs/ecs.config", "Settings written by the image or by an installer."),
    ("/etc/ecs/ecs.config.json", "Settings as JSON; see ecs.config(5)."),
    ("/var/lib/ecs/data", "State of the agent: its tasks and reports that are not sent yet."),
    ("/run/ecs-agent/agent.sock", "Socket that the commands use to query the agent; root only."),
)
_EXIT_CODES = (
    ("0", "Success, or stopped on request."),
    ("1", "Failure; trying again may help."),
    ("2", "The command line is wrong."),
    ("5", "Failure that trying again cannot help: fix a setting first."),
)


def pages(version: str, epoch_s: int) -> list[Page]:
    """Return every page.

    Args:
        version: version of the package, shown in the footer.
        epoch_s: the date of the pages, in seconds since 1970.

    Raises:
        PackagingError: the command line has something that these pages cannot show.
    """
    context = click.Context(app.group, info_name=PROGRAM)
    summaries = {name: app.summary(name) for name in app.group.list_commands(context)}
    related = [(PROGRAM, 1), ("ecs.config", 5)]
    related += [(f"{PROGRAM}-{name}", _section(name)) for name in summaries]
    made = [_program(context, summaries, version, epoch_s)]
    for name, summary in summaries.items():
        page = Page(f"{PROGRAM}-{name}", _section(name), summary, version, epoch_s)
        _command(page, context, name)
        made.append(page)
    made.append(_settings(version, epoch_s))
    for page in made:
        page.see_also(related)
    return made


def _section(command: str) -> int:
    return 8 if command in _FOR_ADMINISTRATORS else 1


def _program(context: click.Context, summaries: dict[str, str], version: str, epoch_s: int) -> Page:
    page = Page(PROGRAM, 1, "run Amazon ECS tasks on your own hosts", version, epoch_s)
    page.heading("Synopsis")
    page.synopsis(PROGRAM, ["COMMAND", "[OPTIONS]", "[ARGUMENTS]"])
    page.heading("Description")
    page.paragraphs(_help_of(context.command))
    page.heading("Commands")
    for name, summary in summaries.items():
        page.item(name, f"{summary} See `{PROGRAM}-{name}({_section(name)})`.")
    page.heading("Options")
    _options(page, context)
    _common(page)
    return page


def _command(page: Page, parent: click.Context, name: str) -> None:
    command = app.group.get_command(parent, name)
    if command is None:
        raise PackagingError(f"packager.man cannot show the command {name}; add support for it")
    context = click.Context(command, info_name=name, parent=parent)
    below = _below(command, context)
    page.heading("Synopsis")
    page.synopsis(context.command_path, command.collect_usage_pieces(context))
    for one in below:
        page.synopsis(one.command_path, one.command.collect_usage_pieces(one))
    page.heading("Description")
    page.paragraphs(_help_of(command))
    page.heading("Options")
    _options(page, context)
    for one in below:
        page.heading(f"{page.name} {one.info_name}".removeprefix(f"{PROGRAM}-"))
        page.paragraphs(_help_of(one.command))
        _options(page, one)
    _common(page)


def _below(command: click.Command, context: click.Context) -> list[click.Context]:
    """Return the subcommands of a command; there are no deeper levels."""
    if not isinstance(command, click.Group):
        return []
    names = command.list_commands(context)
    found = [command.get_command(context, name) for name in names]
    return [
        click.Context(one, info_name=name, parent=context)
        for name, one in zip(names, found, strict=True)
        if one is not None
    ]


def _help_of(command: click.Command) -> str:
    return (command.help or "").partition("\f")[0].replace("\b\n", "")


def _options(page: Page, context: click.Context) -> None:
    for parameter in context.command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            page.item(*record)


def _common(page: Page) -> None:
    page.heading("Exit status")
    for code, text in _EXIT_CODES:
        page.item(code, text)
    page.heading("Files")
    for path, text in _FILES:
        page.item(path, text)


def _settings(version: str, epoch_s: int) -> Page:
    page = Page("ecs.config", 5, "settings of ecs-agent", version, epoch_s)
    page.heading("Synopsis")
    page.paragraphs("`/etc/ecs/ecs.config`, `/var/lib/ecs/ecs.config`, `/etc/ecs/ecs.config.json`")
    page.heading("Description")
    page.paragraphs(
        "The first two files contain lines NAME=value; a line that begins with # or ; is a "
        "comment. "
        "The environment overrides /etc/ecs/ecs.config, which overrides /var/lib/ecs/ecs.config. "
        "`systemctl reload ecs-agent` makes the agent read the files again: it logs the changes, "
        "and a file with an error changes nothing."
        "\n\n"
        "A value may be in single or double quotes; there are no escapes inside them. A value that "
        "begins with { or [ is JSON. If the agent finds an unknown name or an invalid value, it "
        "exits with status 5 and one line that says how to fix it."
        "\n\n"
        "The third file has the lowest precedence. It is one JSON object with the names that the "
        "Amazon ECS agent uses, such as `Cluster` or `DockerStopTimeout`, and durations in "
        "nanoseconds."
        "\n\n"
        "With ECS_CONTROL_ENDPOINT, the host takes orders from a control endpoint; without it, "
        "from Amazon ECS in the region AWS_DEFAULT_REGION. A host has only one control: with "
        "ECS_CONTROL_ENDPOINT, ECS_EXTERNAL and ECS_BACKEND_HOST are refused."
    )
    page.heading("Example")
    page.code("ECS_CLUSTER=shop", "ECS_CONTROL_ENDPOINT=http://10.0.0.1:6820")
    page.paragraphs("A host of Amazon ECS that is not an EC2 instance:")
    page.code("ECS_CLUSTER=shop", "AWS_DEFAULT_REGION=eu-central-1", "ECS_EXTERNAL=true")
    page.heading("Settings")
    for variable in variables().values():
        page.item(variable.name, _meaning(variable))
    page.heading("Settings without effect")
    page.paragraphs(
        "These settings of the Amazon ECS agent have no effect here; they are accepted with a "
        "warning: " + ", ".join(sorted(WITHOUT_EFFECT)) + "."
    )
    page.heading("Files")
    for path, text in _FILES[:3]:
        page.item(path, text)
    return page


def _meaning(variable: Variable) -> str:
    default = variable.note or variable.default_text or "none"
    kind = variable.kind.label
    if variable.bounds is not None:
        low, high = variable.bounds.low, variable.bounds.high
        kind += f" from {low:g}" if low is not None else ""
        kind += f" to {high:g}" if high is not None else ""
    # The label is for a Markdown table; its markup would show up here.
    kind = kind.replace("\\|", "|").replace("`", "").replace("*", "")
    default = default.replace("`", "") if variable.note else default
    scope = " Only with Amazon ECS." if variable.amazon_only else ""
    return f"{variable.doc}{scope} Syntax: {kind}. Default: {default}."
