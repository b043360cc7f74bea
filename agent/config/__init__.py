"""Settings of the agent: ``ECS_*`` variables from the environment, ``ecs.config``, and JSON.

``load`` is the only entry point. It reads files and nothing else, logs nothing, and raises
``ConfigError`` with one line per problem. ``Settings`` is frozen and is the table of settings; a
test checks that ``docs/configuration.md`` matches it.

::

    settings.py        the table: variable, syntax, default and text of each setting. Its other parts:
      joining.py               identity of the host, endpoint of control, what the host offers
      image_settings.py        images            task_endpoint_settings.py   what containers ask
      metrics_settings.py      metrics           task_network_settings.py    networks of tasks
    values.py          the syntaxes; network_values.py those of addresses, ports and links
    contradictions.py  rules between settings
    amazon.py          every setting of Amazon's agent, and what becomes of it here

Tests: ``tests/unit/config``.
"""

from __future__ import annotations

from agent.config.loader import DEFAULT_FILES, json_file_of, load
from agent.config.settings import Settings
from agent.config.values import SecretText

__all__ = ["DEFAULT_FILES", "SecretText", "Settings", "json_file_of", "load"]
