# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Logits of held-out images are kept, and used where they are right."""
import shutil

import pytest
import torch

from mmdynperceiver.hosts import held_out
from mmdynperceiver.hosts.build import iter_batches
from mmdynperceiver.io.checkpoint_file import read_checkpoint


def test_runs_the_network_once(calibrate, checkpoint, folder, tmp_path):
    output, _, _ = calibrate('--budget-macs', '80%')
    assert 'run before' not in output
    output, _, _ = calibrate('--budget-macs', '90%', '--criterion', 'margin')
    assert '12 of the 12 held-out images were run before' in output
    # Neither thresholds nor an embedded point make other logits.
    output, _, _ = calibrate(
        '--budget-macs', '80%', '--embed', cfg=['model.exit_index=1'])
    assert '12 of the 12' in output
    output, error, _ = calibrate(
        '--budget-macs', '80%', path=tmp_path / 'model.calibrated.pth')
    assert error is None and '12 of the 12' in output


def change_weights(calibrate, checkpoint, folder, tmp_path):
    content = dict(read_checkpoint(checkpoint))
    content['state_dict']['backbone.net.latents'][0, 0] += 1e-3
    torch.save(content, checkpoint)
    return {}


def change_data(calibrate, checkpoint, folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / 'copy')
    (moved / 'val/ant/0.png').unlink()
    return dict(cfg=[f'val_dataloader.dataset.data_root={moved}'])


def change_transform(calibrate, checkpoint, folder, tmp_path):
    return dict(more="test_dataloader['dataset']['pipeline'] = [pipeline[0], "
                "dict(type='CenterCrop', crop_size=32), pipeline[1]]\n")


def change_preprocessor(calibrate, checkpoint, folder, tmp_path):
    return dict(cfg=['data_preprocessor.mean=[1,1,1]'])


@pytest.mark.parametrize(
    'change',
    [change_weights, change_data, change_transform, change_preprocessor])
def test_no_cache_of_something_else(calibrate, checkpoint, folder, tmp_path,
                                    change):
    calibrate('--budget-macs', '80%')
    changes = change(calibrate, checkpoint, folder, tmp_path)
    output, error, _ = calibrate('--budget-macs', '80%', **changes)
    assert error is None and 'run before' not in output
    assert len(list((tmp_path / 'work/logits').glob('*/identity.json'))) == 2


def test_goes_on_after_an_interrupt(calibrate, monkeypatch):

    def stop_soon(*args):
        for number, batch in enumerate(iter_batches(*args)):
            if number == 2:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(held_out, 'iter_batches', stop_soon)
        assert calibrate('--budget-macs', '80%')[1] == 130
    output, error, interrupted = calibrate('--budget-macs', '80%')
    assert error is None and '8 of the 12 held-out' in output
    _, _, whole = calibrate('--budget-macs', '80%')
    assert interrupted == whole
