# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Keep a broken host package to its own task, and say what fixes it."""
from __future__ import annotations
from types import ModuleType

from .import_hooks import around_import

PACKAGE = __name__.partition('.')[0]
TASK_OF_HOST = {
    'mmpretrain': 'classification',
    'mmaction': 'recognition',
    'mmdet': 'detection'
}


class HostImportError(ImportError):
    """A package that one task needs is broken or missing.

    The message names the cause and the commands that fix it.
    """


@around_import(*TASK_OF_HOST, *(f'{host}.models' for host in TASK_OF_HOST),
               *(f'{PACKAGE}.{task}' for task in TASK_OF_HOST.values()))
def explain_broken_host(module: ModuleType):
    """Turn what goes wrong while a host or its adapter is imported.

    mmpretrain and mmaction2 use mmdet, and mmaction2 uses mmpretrain, if they
    can be imported; but they know an ImportError only, so that whatever else
    is wrong with one host would break the other two. And mmengine leaves out
    the cause when a custom import fails.
    """
    try:
        yield
    except HostImportError:
        raise
    except Exception as error:
        if _is_ours(error):
            raise
        raise _explain(module.__name__, error) from error


def _explain(module: str, error: Exception) -> HostImportError:
    """Write the message, with the doctor's remedies."""
    from .. import doctor
    package, _, name = module.partition('.')
    task = TASK_OF_HOST.get(package, name)
    facts = doctor.failure(error)
    commands = doctor.remedies(task, doctor.installed_versions(),
                               dict(facts, module=facts['missing'] or ''))
    return HostImportError(
        f'{task} does not work: {facts["kind"]}: {facts["error"]}. This fixes '
        f'it: {"; ".join(commands)}. More: python -m {PACKAGE}.doctor')


def _is_ours(error: Exception) -> bool:
    """Tell faults of this package from those of others."""
    if isinstance(error, ImportError) and error.name:
        return error.name.partition('.')[0] == PACKAGE
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    name = trace.tb_frame.f_globals.get('__name__', '') if trace else ''
    return name.partition('.')[0] == PACKAGE
