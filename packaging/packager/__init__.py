"""Turns a checkout into packages: one tree of files, then a ``.deb`` and what an ``.rpm`` is made of.

Each module does one step and is told everything by its caller; ``packaging/build`` puts them
together. Nothing here runs on a host: it imports the agent only to read its commands and settings,
and never runs code of the architecture that it packages for.
"""


class PackagingError(Exception):
    """A package cannot be built; the text says what is wrong, where, and the mend."""
