"""What the agent process leaves out of the libraries that it uses: a fifth of its memory, a third of its start.

Some libraries import far more than they need: pyroute2 and docker all of their parts, pyroute2 also the
whole of unittest for one mock object, structlog a renderer of coloured tracebacks, requests a detector
of character sets, docker archives to build images from, aiohttp the host's table of file types and the
certificates of all authorities. ``begin`` is called before any of them is imported, and ``end`` after the
last. Only for the agent process: nothing is ever taken out of a process that has loaded the whole library.

Tests: ``tests/unit/cli/test_lean_imports.py``, ``tests/unit/test_imports.py``.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import mimetypes
import ssl
import sys
import warnings
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_ABSENT: Final = ("rich", "colorama", "charset_normalizer", "chardet")
"""Optional for structlog and requests: the agent prints no coloured tracebacks, colours need no help on
Linux, and the engine's answers are JSON."""
_LAZY: Final = ("pyroute2", "docker", "unittest", "tarfile", "zipfile")
_DEFERRED: Final = ("attr.converters", "attr.filters", "attr.validators", "msgspec.inspect")
"""Parts that their package imports as a whole, and that the agent does not use."""


def begin() -> None:
    """Make this process load only the parts of libraries that the agent uses; may be repeated.

    Until ``end``, nothing looks for garbage: imports make next to none, and looking took a seventh of their time.
    """
    gc.disable()
    for name in _ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    warnings.filterwarnings("ignore", message="Unable to find acceptable character detection")
    # aiohttp reads the files with every known type to name those of files that it serves: we serve none.
    mimetypes.knownfiles.clear()
    for name in _LAZY:
        load_lazily(name)
    if not any(isinstance(finder, _Deferring) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Deferring())
    _import_aiohttp()


def end() -> None:
    """Look for garbage again, but not among what was loaded; may be repeated."""
    gc.freeze()
    gc.enable()


def _import_aiohttp() -> None:
    """Import what makes connections, without the system's certificates until the first that needs them.

    It makes its default context when it is imported: a twelfth of the start, and 2 MiB that stay.
    """
    if "aiohttp.connector" in sys.modules:
        return
    usual, names = ssl.create_default_context, vars(ssl)
    names["create_default_context"] = lambda: _CertificatesLater(ssl.PROTOCOL_TLS_CLIENT)
    try:
        importlib.import_module("aiohttp.connector")
    finally:
        names["create_default_context"] = usual


class _CertificatesLater(ssl.SSLContext):
    """Trusts the authorities of the system, as the usual context does; reads them for its first connection.

    Not for several threads: a context of aiohttp's default is used on the event loop only.
    """

    _is_complete = False

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Return what encrypts a connection; the first call blocks for some 50 ms."""
        if not self._is_complete:
            self.load_default_certs()
            self._is_complete = True
        return super().wrap_bio(*args, **options)


class _Deferring(MetaPathFinder):
    """Finds the deferred parts of packages; each is executed when something of it is first used."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def load_lazily(name: str) -> None:
    """Load a package without running its ``__init__``, so that only named submodules are loaded.

    Whoever uses a name that is not a submodule gets the whole package then. A module that is not a package is
    loaded when a name of it is used.

    Args:
        name: a package or module at the top level; nothing is done if it is loaded or not installed.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)

    is_package = spec.submodule_search_locations is not None

    def filled(attribute: str) -> Any:
        # The import that asks goes on to the submodule.
        if attribute.startswith("__") or (
            is_package and importlib.util.find_spec(f"{name}.{attribute}")
        ):
            raise AttributeError(attribute)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = filled
    sys.modules[name] = package
