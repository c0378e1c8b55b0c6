# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Run a patcher around the import of a named module."""
from __future__ import annotations
import contextlib
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import Callable, ContextManager, Mapping

Patcher = Callable[[ModuleType], ContextManager[None]]


class PatchingFinder:
    """Let the ordinary finders find a module, then patch it as it executes.

    It never finds anything itself. The loader that the other finders chose
    stays in place, so that ``inspect``, ``pkgutil`` and resource readers work
    as ever; only its ``exec_module`` is wrapped, for one execution.

    Args:
        patchers (Mapping[str, Callable]): Full module name to a context
            manager factory. It is entered with the still empty module before
            the module's code runs, and left when the code has run.
    """

    def __init__(self, patchers: Mapping[str, Patcher]) -> None:
        self.patchers = dict(patchers)

    def find_spec(self, fullname, path=None, target=None):
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        patcher = self.patchers.get(fullname)
        if patcher is None:
            return None
        for finder in sys.meta_path:
            if isinstance(finder, PatchingFinder):
                continue
            find_spec = getattr(finder, 'find_spec', None)
            spec = find_spec and find_spec(fullname, path, target)
            if spec is not None:
                _wrap_loader(spec.loader, patcher)
                return spec
        return None


def chain(*patchers: Patcher) -> Patcher:
    """Make one patcher of several, the outermost first."""

    @contextlib.contextmanager
    def chained(module: ModuleType):
        with contextlib.ExitStack() as stack:
            for patcher in patchers:
                stack.enter_context(patcher(module))
            yield

    return chained


def _wrap_loader(loader, patcher: Patcher) -> None:
    """Make the next ``loader.exec_module`` run inside the patcher."""
    # These are made anew for each module. Any other loader may be shared
    # between modules (a zip file's is), so that wrapping it would leak.
    if not isinstance(loader, (SourceFileLoader, SourcelessFileLoader)):
        return
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module  # the wrapper; the method is back
        with patcher(module):
            execute(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


def installed_finder() -> PatchingFinder | None:
    """Return the finder that :func:`install_finder` put in place, if any."""
    for finder in sys.meta_path:
        if isinstance(finder, PatchingFinder):
            return finder
    return None


def install_finder(patchers: Mapping[str, Patcher]) -> None:
    """Patch the modules when they are imported, or now if they already are.

    Args:
        patchers (Mapping[str, Callable]): See :class:`PatchingFinder`.
    """
    if installed_finder() is not None:
        return
    # First in line: the ordinary finders would otherwise answer before it.
    sys.meta_path.insert(0, PatchingFinder(patchers))
    for name, patcher in patchers.items():
        module = sys.modules.get(name)
        if module is not None:
            with patcher(module):
                pass
