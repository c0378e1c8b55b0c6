# Copyright (c) mmdynperceiver contributors. All rights reserved.
import argparse
import os

import pytest
import torch
from mmengine.config import Config

from mmdynperceiver.cli import common
from mmdynperceiver.cli.run import TRACEBACK_VARIABLE
from mmdynperceiver.core.policy import check_thresholds
from mmdynperceiver.errors import InputError
from mmdynperceiver.hosts.build import check_data_folders


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Let no test set LOCAL_RANK for the next."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)


@pytest.fixture
def parse(tmp_path):
    """Read a config with a command line."""

    def run(text, *options):
        path = tmp_path / 'some.py'
        path.write_text(text)
        parser = argparse.ArgumentParser()
        parser.add_argument('config')
        common.add_common_options(parser)
        return common.load_config(parser.parse_args([str(path), *options]))

    return run


LOADER = '''
data_root = 'old'
train_dataloader = dict(num_workers=0, persistent_workers=True, dataset=dict(
    type='RepeatDataset', dataset=dict(type='Folder', data_root='old')))
val_dataloader = dict(num_workers=2, dataset=dict(
    type='Folder', data_root='elsewhere'))
'''


def test_data_root_reaches_every_data_set(parse):
    config = parse(LOADER, '--cfg-options', 'data_root=new')
    assert config.train_dataloader.dataset.dataset.data_root == 'new'
    assert config.val_dataloader.dataset.data_root == 'elsewhere'


@pytest.mark.parametrize('before', ['None', "'x'", 'dict(a=1, b=2)'])
def test_a_dict_takes_the_place_of_what_is_none(parse, before):
    config = parse(f'model = dict(init={before})', '--cfg-options',
                   'model.init=dict(a=3)', 'other.new=dict(c=4)')
    merged = dict(a=3, b=2) if 'dict' in before else dict(a=3)
    assert config.model.init == merged
    assert config.other.new == dict(c=4)


def test_no_persistent_workers_without_workers(parse):
    config = parse(LOADER)
    assert config.train_dataloader.persistent_workers is False
    assert config.val_dataloader.persistent_workers is True


def test_persistence_may_be_switched_off(parse):
    config = parse('val_dataloader = dict(num_workers=2, '
                   'persistent_workers=False)')
    assert config.val_dataloader.persistent_workers is False


def test_precedence_of_work_dir(parse):
    assert parse('a = 1').work_dir == os.path.join('work_dirs', 'some')
    text = "work_dir = 'here'"
    assert parse(text).work_dir == 'here'
    assert parse(text, '--work-dir', 'there').work_dir == 'there'


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_both_spellings_of_local_rank(parse, monkeypatch, spelling):
    monkeypatch.delenv('LOCAL_RANK')
    parse('a = 1', spelling, '3')
    assert os.environ['LOCAL_RANK'] == '3'


@pytest.mark.parametrize('text, message', [
    ('a = (', "config '.*some.py': .* line 1"),
    ("_base_ = 'gone.py'", 'gone.py'),
    ("custom_imports = dict(imports=['nothing_here'])", 'nothing_here'),
])
def test_configs_that_cannot_be_read(parse, text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


def test_data_folders(tmp_path):
    config = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(data_root=str(tmp_path / 'gone')))))
    with pytest.raises(InputError, match='gone.*train_dataloader'):
        check_data_folders(config, ['train_dataloader'])
    check_data_folders(config, ['val_dataloader'])
    config.train_dataloader.dataset.data_root = str(tmp_path)
    check_data_folders(config, ['train_dataloader'])


def test_output_that_cannot_be_written(tmp_path):
    blocked = tmp_path / 'file'
    blocked.write_text('')
    with pytest.raises(InputError, match="folder '.*file/sub'"):
        common.check_writable_folder(str(blocked / 'sub'))
    with pytest.raises(InputError, match='must end with .json'):
        common.check_writable_file(str(tmp_path / 'a.txt'), ['.json'])
    (tmp_path / 'a.json').mkdir()
    with pytest.raises(InputError, match='it is a folder'):
        common.check_writable_file(str(tmp_path / 'a.json'), ['.json'])
    common.check_writable_file(str(tmp_path / 'new/b.json'), ['.json'])
    assert os.listdir(tmp_path / 'new') == []


def test_without_a_gpu_only_torchrun_starts_processes(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    common.start_processes(Config(dict(launcher='none')))
    with pytest.raises(InputError, match="got 'slurm'"):
        common.start_processes(Config(dict(launcher='slurm')))
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(InputError, match='RANK'):
        common.start_processes(Config(dict(launcher='pytorch')))


def fail(error):

    def main():
        raise error

    return main


@pytest.mark.parametrize('error, line', [
    (InputError('two\nlines'), 'error: two lines'),
    (InputError('Caught X in DataLoader worker process 0.\nOriginal Traceback '
                '(most recent call last):\n  File ...\npkg.X: no image'),
     'error: no image'),
])
def test_errors_of_use_are_one_line(error, line):
    with pytest.raises(SystemExit) as caught:
        common.run_tool(fail(error))
    assert caught.value.code == line


def test_errors_that_this_package_raises_are_one_line():
    with pytest.raises(SystemExit, match='error: 4 exits need 3'):
        common.run_tool(lambda: check_thresholds([1]))


@pytest.mark.parametrize('error', [ValueError('x'), RuntimeError('x')])
def test_faults_keep_their_traceback(error):
    with pytest.raises(type(error)):
        common.run_tool(fail(error))


def test_ctrl_c_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        common.run_tool(fail(KeyboardInterrupt()), 'stopped; go on so')
    assert caught.value.code == 130
    assert capsys.readouterr().err.strip() == 'stopped; go on so'


def test_traceback_on_demand(monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, '1')
    with pytest.raises(InputError):
        common.run_tool(fail(InputError('x')))


def test_a_failed_custom_import_says_why(parse, tmp_path, monkeypatch):
    """mmengine itself only says that it failed."""
    (tmp_path / 'broken_adapter.py').write_text(
        'from mmdynperceiver.compat.broken_host import HostImportError\n'
        'raise HostImportError("pip install it")\n')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match='some.py.*: pip install it$'):
        parse("custom_imports = dict(imports=['broken_adapter'], "
              'allow_failed_imports=False)\n')


def test_a_full_disk_is_one_line_whoever_writes():

    def write():
        try:
            exec("raise OSError(28, 'No space left on device', 'log.json')")
        except OSError as error:
            raise RuntimeError('of a host\nin two lines') from error

    with pytest.raises(SystemExit) as stop:
        common.run_tool(write)
    assert stop.value.code == ("error: [Errno 28] No space left on device: "
                               "'log.json'")
