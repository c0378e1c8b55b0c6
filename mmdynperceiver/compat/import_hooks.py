# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Patch a module when it is imported.

A patcher takes a module and gives a context manager, which is entered before
the module's code runs and left when the code has run. Patches register
themselves for the modules that they name.
"""
from __future__ import annotations
import contextlib
import functools
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import ModuleType
from typing import Any, Callable, ContextManager

Patcher = Callable[[ModuleType], ContextManager[None]]
# Full names of modules and their patchers, the outermost first.
PATCHES: dict[str, list[Patcher]] = {}


def around_import(*modules: str) -> Callable[[Callable], Patcher]:
    """Decorate a generator that patches modules while their code runs."""

    def register(function: Callable) -> Patcher:
        patcher = contextlib.contextmanager(function)
        for name in modules:
            PATCHES.setdefault(name, []).append(patcher)
        return patcher

    return register


def after_import(*modules: str) -> Callable[[Callable], Patcher]:
    """Decorate a function that patches modules when their code has run."""

    def register(function: Callable[[ModuleType], None]) -> Patcher:

        @around_import(*modules)
        @functools.wraps(function)
        def patcher(module: ModuleType):
            yield
            function(module)

        return patcher

    return register


def extends(module: str, name: str, method: str) -> Callable:
    """Decorate a function that takes the place of a method.

    Args:
        module (str): Where the class is defined.
        name (str): The class.
        method (str): Its method, if it has this one. The function gets the
            module, the method as it was, and the method's own arguments.
    """

    def decorate(function: Callable) -> Patcher:

        @after_import(module)
        @functools.wraps(function)
        def patch(module: ModuleType) -> None:
            import inspect  # takes long
            kind = getattr(module, name)
            inner = getattr(kind, method, None)
            if inner is None:
                return

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
    """

    def find_spec(self, fullname, path=None, target=None):
        """See :meth:`importlib.abc.MetaPathFinder.find_spec`."""
        for finder in sys.meta_path if fullname in PATCHES else ():
            find_spec = getattr(finder, 'find_spec', None)
            if isinstance(finder, PatchingFinder) or find_spec is None:
                continue
            spec = find_spec(fullname, path, target)
            if spec is not None:
                _wrap_loader(spec.loader, fullname)
                return spec
        return None


def _patched(module: ModuleType, name: str) -> contextlib.ExitStack:
    """Enter the patchers of a module."""
    stack = contextlib.ExitStack()
    for patcher in PATCHES[name]:
        stack.enter_context(patcher(module))
    return stack


def _wrap_loader(loader, name: str) -> None:
    """Make the next ``loader.exec_module`` run inside the patchers."""
    # These are made anew for each module. Any other loader may be shared
    # between modules (a zip file's is), so that wrapping it would leak.
    if not isinstance(loader, (SourceFileLoader, SourcelessFileLoader)):
        return
    execute = loader.exec_module

    def exec_module(module):
        del loader.exec_module  # the wrapper; the method is back
        with _patched(module, name):
            execute(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


def install_finder() -> None:
    """Patch modules when they are imported, or now if they already are."""
    if any(isinstance(finder, PatchingFinder) for finder in sys.meta_path):
        return
    # First in line: the ordinary finders would otherwise answer before it.
    sys.meta_path.insert(0, PatchingFinder())
    for name in PATCHES:
        if sys.modules.get(name) is not None:
            with _patched(sys.modules[name], name):
                pass
