# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Patch a module when it is imported, and what patches are made of.

A patcher takes a module and gives a context manager, which is entered before
the module's code runs and left when the code has run.
"""
from __future__ import annotations
import contextlib
import functools
import inspect
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import Any, Callable, ContextManager, Mapping

Patcher = Callable[[ModuleType], ContextManager[None]]


def after_import(patch: Callable[[ModuleType], None]) -> Patcher:
    """Decorate a function that changes a module once its code has run."""

    @contextlib.contextmanager
    @functools.wraps(patch)
    def patcher(module: ModuleType):
        yield
        patch(module)

    return patcher


def extends(name: str, method: str) -> Callable[[Callable], Patcher]:
    """Decorate a function that takes the place of a method of a class.

    Args:
        name (str): The class in the module.
        method (str): Its method. The function gets the module, the method as
            it was, and the method's own arguments.
    """

    def decorate(function: Callable) -> Patcher:

        @after_import
        @functools.wraps(function)
        def patch(module: ModuleType) -> None:
            kind = getattr(module, name)
            inner = getattr(kind, method)

            @functools.wraps(inner)
            def extended(*args: Any, **kwargs: Any) -> Any:
                return function(module, inner, *args, **kwargs)

            static = inspect.getattr_static(kind, method)
            setattr(
                kind, method,
                staticmethod(extended)
                if isinstance(static, staticmethod) else extended)

        return patch

    return decorate


def chain(*patchers: Patcher) -> Patcher:
    """Make one patcher of several, the outermost first."""

    @contextlib.contextmanager
    def chained(module: ModuleType):
        with contextlib.ExitStack() as stack:
            for patcher in patchers:
                stack.enter_context(patcher(module))
            yield

    return chained


def replace_everywhere(module: ModuleType, function: Callable) -> None:
    """Replace a function in its module and where it was imported already.

    That may be the script that is run, which sorts its imports.
    """
    name = function.__name__
    old = getattr(module, name)
    for other in (module, *sys.modules.values()):
        if getattr(other, '__dict__', {}).get(name) is old:
            setattr(other, name, function)


class PatchingFinder:
    """Let the ordinary finders find a module, then patch it as it executes.

    It never finds anything itself. The loader that the other finders chose
    stays in place, so that ``inspect``, ``pkgutil`` and resource readers work
    as ever; only its ``exec_module`` is wrapped, for one execution.

    Args:
        patchers (Mapping[str, Callable]): Full module name to its patcher.
    """

    def __init__(self, patchers: Mapping[str, Patcher]) -> None:
        self.patchers = dict(patchers)

    def find_spec(self, fullname, path=None, target=None):
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        patcher = self.patchers.get(fullname)
        for finder in sys.meta_path if patcher is not None else ():
            find_spec = getattr(finder, 'find_spec', None)
            if isinstance(finder, PatchingFinder) or find_spec is None:
                continue
            spec = find_spec(fullname, path, target)
            if spec is not None:
                _wrap_loader(spec.loader, patcher)
                return spec
        return None


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
    finders = (f for f in sys.meta_path if isinstance(f, PatchingFinder))
    return next(finders, None)


def install_finder(patchers: Mapping[str, Patcher]) -> None:
    """Patch modules when they are imported, or now if they already are."""
    if installed_finder() is not None:
        return
    # First in line: the ordinary finders would otherwise answer before it.
    sys.meta_path.insert(0, PatchingFinder(patchers))
    for name, patcher in patchers.items():
        if sys.modules.get(name) is not None:
            with patcher(sys.modules[name]):
                pass
