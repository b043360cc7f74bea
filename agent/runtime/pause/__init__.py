"""The pause image: the one program that holds a sandbox's namespaces open.

``pause.c`` is built by ``scripts/build-pause`` into ``pause-amd64`` and ``pause-arm64``, which are
shipped with the package; ``pause.py`` makes an image of one of them and loads it. No registry and
no compiler is needed on a host.
"""

from agent.runtime.pause.pause import ensure_pause_image, image_archive, pause_reference

__all__ = ["ensure_pause_image", "image_archive", "pause_reference"]
