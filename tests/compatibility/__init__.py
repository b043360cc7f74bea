"""Runs task definitions that other people published, and writes docs/compatibility.md.

::

    sudo scripts/own-host .venv/bin/python -m tests.compatibility FOLDER

FOLDER holds ``OWNER+NAME/PATH.json`` files and ``sources.json`` (a list of repository, commit and path).
The definitions are not part of this repository; only where they come from and what became of them is.

Each is registered, run on a real engine by a control endpoint and an agent of ours, and looked at in the
engine. Only images are replaced (``stand_ins``) and account ids filled in where the author left a
placeholder (``definitions``). An AWS on the loopback has the roles, secrets and files that they name.
"""
