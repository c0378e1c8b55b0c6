# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What of a runner's log reaches the console, and what the file."""
import contextlib
import io
import logging
import warnings

import pytest
from mmengine.logging import MMLogger

from mmdynperceiver.cli.console import ignore_routine_warnings, quiet_console

SHOWN = ('Epoch(train) [1][3/3]  loss: 3.2149',
         'Saving checkpoint at 1 epochs')
HIDDEN = ('\nSystem environment:\n    sys.platform: linux',
          'Config:\nmodel = dict()\n', 'Exp name: tiny_2026',
          'paramwise_options -- backbone.net.latents:lr=0.001')


@pytest.fixture
def written(tmp_path):
    """Write to a logger; gives the text on the console and in the file."""

    def write(*records):
        console, file = io.StringIO(), tmp_path / 'run.log'
        with contextlib.redirect_stdout(console):
            logger = MMLogger('test', log_file=str(file))
        quiet_console(logger)
        for level, text in records:
            logger.log(level, text)
        return console.getvalue(), file.read_text()

    return write


def test_lists_go_to_the_file(written):
    console, file = written(*((logging.INFO, t) for t in (*SHOWN, *HIDDEN)))
    assert len(console.splitlines()) == len(SHOWN)
    for text in SHOWN:
        assert text in console
    for text in (*SHOWN, *HIDDEN):
        assert text in file


def test_warnings_are_shown_whole(written):
    console, _ = written(
        (logging.WARNING, 'missing keys:\nbackbone.net.latents'),
        (logging.WARNING, '"FileClient" will be deprecated in future.'))
    assert 'backbone.net.latents' in console
    assert 'FileClient' not in console


def test_macs_are_in_millions(written):
    line = 'Epoch(val) [1][5/5]  exit0/top1: 36.3  dynamic/macs: 41234567.0000'
    console, file = written((logging.INFO, line))
    assert 'dynamic/macs: 41.23M' in console
    assert 'dynamic/macs: 41234567.0000' in file


def test_routine_warnings_of_the_stack():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        ignore_routine_warnings()
        for text in ('Fail to import ``MultiScaleDeformableAttention`` from',
                     'pkg_resources is deprecated as an API. See', 'Other'):
            warnings.warn(text)
    assert [str(found.message) for found in caught] == ['Other']
