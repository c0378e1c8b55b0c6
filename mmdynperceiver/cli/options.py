# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Options and checks that need neither torch nor OpenMMLab."""
import argparse
import os
import os.path as osp
import tempfile
from typing import Any, Optional, Sequence, Union

from ..errors import InputError, input_errors
from ..exit_settings import add_policy_options
from ..io.result_file import positive
from ..progress import add_quiet_option
from .run import TRACEBACK_VARIABLE

__all__ = [
    'CfgOptions', 'add_common_options', 'add_device_option',
    'add_policy_options', 'add_quiet_option', 'add_threads_option',
    'check_positive', 'check_writable_file', 'check_writable_folder',
    'input_errors', 'is_verbose', 'positive'
]

# Set to show the whole log on the console.
VERBOSE_VARIABLE = 'MMDYNPERCEIVER_VERBOSE'


class CfgOptions(argparse.Action):
    """Read ``key=value`` pairs as mmengine does, and dicts besides.

    mmengine's own action ends in a RecursionError at
    ``key="dict(type='A', b=1)"``, which is how a config writes it.
    """

    def __call__(self,
                 parser: argparse.ArgumentParser,
                 namespace: argparse.Namespace,
                 values: Union[str, Sequence[Any], None],
                 option_string: Optional[str] = None) -> None:
        """See :class:`argparse.Action`."""
        from .cfg_options import parse_value
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in values or ():
            key, equals, text = pair.partition('=')
            if not equals or not key.strip():
                parser.error(f'{option_string} takes key=value, got {pair!r}')
            try:
                options[key.strip()] = parse_value(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        setattr(namespace, self.dest, options)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that OpenMMLab's users know from every tool."""
    parser.add_argument(
        '--work-dir',
        help='folder for logs and checkpoints; by default '
        "the config's, or work_dirs/<name of the config>")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=CfgOptions,
        help='change the config, as key=value with dots in the key: '
        'data_root=/data/imagenet model.head.num_classes=10. A list is '
        'written key="[a,b]" or key=a,b, a dict key="dict(type=\'A\', b=1)"; '
        'data_root is set in all data sets')
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        '--verbose',
        action='store_true',
        help=f'show the whole log on the console, which otherwise is in the '
        f'log file of the work folder (or set {VERBOSE_VARIABLE}=1)')
    add_quiet_option(output)
    add_threads_option(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes of a distributed run')
    # torch.distributed.launch passes one spelling or the other.
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help=argparse.SUPPRESS)
    parser.epilog = (f'Errors of use are one line; set {TRACEBACK_VARIABLE}=1 '
                     f'to see where they come from.')


def add_threads_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that :func:`apply_run_options` reads."""
    parser.add_argument(
        '--threads',
        type=positive,
        help="threads on the CPU, in the runtimes too (default: PyTorch's "
        'choice)')


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that :func:`apply_run_options` reads."""
    parser.add_argument(
        '--device',
        help='where the network runs, cpu or cuda:0 for instance (default: a '
        'GPU if there is one)')


def check_positive(parser: argparse.ArgumentParser, args: argparse.Namespace,
                   *names: str) -> None:
    """Refuse numbers, or lists of them, below 1."""
    for name in names:
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < 1:
                parser.error(f'--{name.replace("_", "-")} must be at least '
                             f'1, got {value}')


def is_verbose(args: argparse.Namespace) -> bool:
    """Whether the console is to show the whole log."""
    return bool(
        getattr(args, 'verbose', False) or os.environ.get(VERBOSE_VARIABLE))


def check_writable_folder(path: str) -> None:
    """Make a folder and try to write into it.

    Raises:
        InputError: If that fails.
    """
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f'cannot write into the folder {path!r}: '
                         f'{error.strerror or error}') from error


def check_writable_file(path: Optional[str], endings: Sequence[str]) -> None:
    """Check an output file, if any, before the work of which it is the result.

    Raises:
        InputError: If it has none of the endings or its folder is not
            writable.
    """
    if path is None:
        return
    if not path.endswith(tuple(endings)):
        raise InputError(
            f'an output file must end with {" or ".join(endings)}, got '
            f'{path!r}')
    if osp.isdir(path):
        raise InputError(f'cannot write the file {path!r}: it is a folder')
    check_writable_folder(osp.dirname(path) or '.')
