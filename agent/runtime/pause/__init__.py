"""The pause image: the program that holds a sandbox's namespaces open.

``scripts/build-pause`` builds ``pause.c`` into ``pause-amd64`` and ``pause-arm64``, which are part
of the package; ``pause.py`` builds an image from one of them and loads it. A host needs neither a
registry nor a compiler.

Touches the engine's images alone; fails with ``RuntimeFailure``. Tests:
``tests/unit/runtime/test_pause.py``, ``tests/integration/runtime/test_pause_image.py``.
"""

from agent.runtime.pause.pause import ensure_pause_image, image_archive, pause_reference

__all__ = ["ensure_pause_image", "image_archive", "pause_reference"]
