"""Turns a checkout into packages: a tree of files, then a ``.deb`` and the sources of an ``.rpm``.

Each module does one step and gets all its inputs from its caller; ``packaging/build`` combines
them. Nothing here runs on a host: it imports the agent only to read its commands and settings, and
never runs code of the target architecture.
"""


class PackagingError(Exception):
    """A package cannot be built; the text says what is wrong, where, and how to fix it."""
