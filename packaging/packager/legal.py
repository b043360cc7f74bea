"""``/usr/share/doc/ecs-agent/copyright``: the licenses of the package and its contents.

Reads the metadata of the libraries in the tree, so that new libraries are listed automatically.
"""

from __future__ import annotations

import re
from email.parser import HeaderParser
from typing import TYPE_CHECKING

from packager import PackagingError

if TYPE_CHECKING:
    from pathlib import Path

_LIB = "opt/ecs-agent/lib"
_HEAD = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: ecs-host-agent
Comment: The libraries below /opt/ecs-agent/lib come from the Python Package
 Index, in the versions that the agent is tested with. The full license of
 each is in its .dist-info folder there.

Files: *
Copyright: 2026, the ecs-host-agent maintainers
License: Apache-2.0
"""
_APACHE = """\
License: Apache-2.0
 Licensed under the Apache License, Version 2.0; you may not use these files
 except in compliance with the License. Unless required by applicable law or
 agreed to in writing, the software is distributed on an "AS IS" BASIS, WITHOUT
 WARRANTIES OR CONDITIONS OF ANY KIND.
 .
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
"""
_SHORT = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache-2.0 license": "Apache-2.0",
    "dual license": "Apache-2.0 or BSD-3-Clause",
    "mit": "Expat",
    "mit license": "Expat",
    "psf-2.0": "PSF-2.0",
}


def copyright_file(libraries: Path) -> str:
    """Return the text of the file.

    Args:
        libraries: the directory with the libraries and their ``.dist-info`` folders.

    Raises:
        PackagingError: a library does not name its license.
    """
    stanzas = [_HEAD]
    for folder in sorted(libraries.glob("*.dist-info")):
        metadata = HeaderParser().parsestr((folder / "METADATA").read_text())
        short = _short_name(metadata["License-Expression"] or metadata["License"] or "")
        if not short:
            short = _classified(metadata.get_all("Classifier", []))
        if not short:
            raise PackagingError(f"{folder.name} does not name its license; look it up and add it")
        who = metadata["Author"] or metadata["Author-email"] or metadata["Maintainer"]
        where = "" if short == "Apache-2.0" else f"\n See the files in /{_LIB}/{folder.name}."
        stanzas.append(
            f"Files: {' '.join(_places(libraries, folder))}\n"
            f"Copyright: {who or 'the authors of ' + metadata['Name']}\n"
            f"License: {short}{where}\n"
            f"Comment: {metadata['Name']} {metadata['Version']}\n"
        )
    return "\n".join([*stanzas, _APACHE])


def _short_name(license_text: str) -> str:
    words = " ".join(license_text.split())
    if not words or len(words) > 60:  # the full text instead of a name
        return ""
    known = _SHORT.get(words.lower(), words)
    return re.sub(r"(?i) (and|or) ", lambda found: f" {found[1].lower()} ", known)


def _classified(classifiers: list[str]) -> str:
    names = [c.rsplit(" :: ", 1)[1] for c in classifiers if c.startswith("License :: ")]
    return " and ".join(_short_name(name) for name in sorted(set(names)))


def _places(libraries: Path, folder: Path) -> list[str]:
    """Return the patterns of a library's own files: its metadata, and modules with its name."""
    name = folder.name.split("-", 1)[0]
    modules = [name, name.lower(), name.removeprefix("python_")]
    if (folder / "top_level.txt").exists():
        modules = (folder / "top_level.txt").read_text().split()
    found = {
        f"/{_LIB}/{module}{suffix}"
        for module in modules
        for suffix in ("/*", ".py")
        if (libraries / f"{module}{suffix}".removesuffix("/*")).exists()
    }
    return [*sorted(found), f"/{_LIB}/{folder.name}/*"]
