"""Writes manual pages: converts text to ``man(7)`` markup. Pure.

Texts come from help strings. They are plain except for `` `code` ``, which becomes bold; everything
else in them is escaped.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field


def escape(text: str) -> str:
    """Return text that roff prints literally; ``-`` can be copied into a shell."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace("`", "\\(ga").replace("'", "\\(aq")
    # A dot at the start of a line would start a roff request.
    return "\n".join("\\&" + line if line[:1] == "." else line for line in escaped.split("\n"))


def prose(text: str) -> str:
    """Return one paragraph, with white space collapsed and `` `code` `` in bold."""
    words = " ".join(text.split())
    parts = re.split(r"`([^`]+)`", words)
    return "".join(
        f"\\fB{escape(part)}\\fR" if number % 2 else escape(part)
        for number, part in enumerate(parts)
    )


@dataclass
class Page:
    """One manual page, written from top to bottom.

    Attributes:
        name: as in ``man NAME``.
        section: 1, 5 or 8.
        summary: the line that ``apropos`` shows.
        version: version of the package, for the footer.
        epoch_s: the date of the page, in seconds since 1970.
    """

    name: str
    section: int
    summary: str
    version: str
    epoch_s: int
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the header."""
        date = dt.datetime.fromtimestamp(self.epoch_s, tz=dt.UTC).date().isoformat()
        title = escape(self.name.upper())
        self._lines.append(
            f'.TH "{title}" "{self.section}" "{date}" "ecs\\-agent {escape(self.version)}" ""'
        )
        self._lines.append(".nh\n.ad l")  # options and variables must not be broken
        self.heading("Name")
        self._lines.append(f"{escape(self.name)} \\- {escape(self.summary.rstrip('.'))}")

    def heading(self, text: str) -> None:
        """Start a section."""
        self._lines.append(f'.SH "{escape(text.upper())}"')

    def paragraphs(self, text: str) -> None:
        """Write paragraphs, separated by blank lines in the text."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            if not self._lines[-1].startswith(".SH"):
                self._lines.append(".PP")
            self._lines.append(prose(paragraph))

    def synopsis(self, command: str, pieces: list[str]) -> None:
        """Write how to call a command: its words in bold, then its arguments."""
        self._lines.append(f"\\fB{escape(command)}\\fR {escape(' '.join(pieces))}".rstrip())

    def item(self, term: str, text: str) -> None:
        """Write one entry of a list, for example an option and what it does."""
        self._lines.append(f".TP\n\\fB{escape(term)}\\fR\n{prose(text) or chr(92) + '&'}")

    def code(self, *lines: str) -> None:
        """Write lines that are not wrapped."""
        self._lines.append(".PP\n.RS 4\n.nf")
        self._lines += [escape(line) or "\\&" for line in lines]
        self._lines.append(".fi\n.RE")

    def see_also(self, pages: list[tuple[str, int]]) -> None:
        """Write the list of related pages, without the page itself."""
        others = sorted({page for page in pages if page[0] != self.name})
        self.heading("See also")
        self._lines.append(
            ",\n".join(f"\\fB{escape(name)}\\fR({section})" for name, section in others)
        )

    def text(self) -> str:
        """Return the page as roff source."""
        return "\n".join(self._lines) + "\n"

    @property
    def file_name(self) -> str:
        """Path below ``/usr/share/man``, without compression suffix."""
        return f"man{self.section}/{self.name}.{self.section}"
