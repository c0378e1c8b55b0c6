# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Promises, ensembles and learned stopping through the tools."""
import json

import pytest
import torch
from tiny import split_lines

from mmdynperceiver.io.checkpoint_file import read_checkpoint


@pytest.mark.parametrize(
    'options, sure',
    [(['--certainty', '90%'], 'certified with 90 % certainty: disagreement'),
     (['--risk', 'accuracy-gap'], 'certified on average: accuracy-gap')])
def test_certificate(calibrate, options, sure):
    output, error, point = calibrate('--max-risk', '0.95', *options)
    assert error is None, error
    found = point.certificate
    assert found['max_risk'] == point.solved_for['max_risk'] == .95
    assert found['num_images'] == 6  # the other six chose the thresholds
    assert found.get('p_value', 0) <= .1 and found.get('bound', 0) <= .95
    assert sure in output and 'at most 95 %' in output


def test_a_certificate_is_of_weights_and_images(calibrate, checkpoint, folder,
                                                config, tool, tmp_path):
    out = tmp_path / 'model.operating_point.json'
    _, error, point = calibrate('--max-risk', '0.95', '--ensemble', 'average')
    assert error is None, error
    assert point.certificate['thresholds'] == list(point.thresholds)
    again = ['--thresholds-file', out, '--report', tmp_path / 'report']
    _, error, same = calibrate(*again)
    assert error is None and same.certificate == point.certificate
    page = ' '.join((tmp_path / 'report/index.html').read_text().split())
    assert 'certified on average: disagreement' in page
    assert '(max_prob of the average of the exits so far)' in page
    _, error = tool('export', config(), checkpoint, tmp_path / 'exported',
                    '--size', 32, 32, '--thresholds-file', out)
    assert error is None, error
    manifest = json.loads((tmp_path / 'exported/manifest.json').read_text())
    assert manifest['certificate'] == point.certificate
    # On other images, or weights, nothing is promised.
    before = out.read_bytes()
    _, error, _ = calibrate('--thresholds-file', out, '--split', 'test')
    assert 'the certificate is of other images' in error
    content = dict(read_checkpoint(checkpoint))
    content['state_dict']['backbone.net.latents'][0, 0] += 1e-3
    torch.save(content, checkpoint)
    _, error, _ = calibrate('--thresholds-file', out)
    assert 'the certificate is of other weights' in error
    for name, *options in (('export', tmp_path / 'other', '--size', 32, 32),
                           ('test', ), ('image_demo', folder / 'val')):
        _, error = tool(name, config(split_lines(folder, test='val')),
                        checkpoint, *options, '--thresholds-file', out)
        assert 'the certificate is of other weights' in error
    assert out.read_bytes() == before and not (tmp_path / 'other').exists()


def test_nothing_is_certified_by_few_images(calibrate, tmp_path):
    _, error, point = calibrate('--max-risk', '1%', '--certainty', '90%')
    assert 'no thresholds are certified' in error
    assert 'on 6 images; ' in error and point is None


@pytest.mark.parametrize('options', [
    ['--ensemble', 'geometric', '--criterion', 'patience'],
    ['--ensemble', 'product', '--temperature', 'fit'],
    [
        '--criterion', 'logistic', '--learner', 'jei-dnn', '--ensemble',
        'average'
    ],
])
def test_expected_is_measured(calibrate, config, tool, folder, tmp_path,
                              checkpoint, options):
    """By the replay, by really stopping and by the exported network."""
    from mmdynperceiver.deploy import Runner
    _, error, point = calibrate('--budget-macs', '80%', *options, '--embed')
    assert error is None, error
    out, measured = tmp_path / 'model.operating_point.json', []
    settings = config(split_lines(folder, test='val'))
    for name, extra in (('model.pth', ['--thresholds-file', out]),
                        ('model.calibrated.pth', ['--really-stop'])):
        _, error = tool('test', settings, tmp_path / name, '--work-dir',
                        tmp_path / 'test', '--out', tmp_path / 'm.json',
                        *extra)
        assert error is None, error
        metrics = json.loads((tmp_path / 'm.json').read_text())['metrics']
        measured.append(metrics['dynamic/top1'])
        assert [metrics[f'exit{k}/share']
                for k in range(4)] == pytest.approx(point.expected['shares'])
    assert measured == pytest.approx([100 * point.expected['accuracy']] * 2)
    _, error = tool('export', settings, checkpoint, tmp_path / 'exported',
                    '--size', 32, 32, '--thresholds-file', out)
    assert error is None, error
    results = Runner.load(
        tmp_path / 'exported', threads=1)(
            folder / 'val', batch_size=4)
    shares = [sum(r.exit_index == k for r in results) / 12 for k in range(4)]
    assert shares == pytest.approx(point.expected['shares'], abs=1 / 11)


@pytest.mark.parametrize('options, message', [
    (['--criterion', 'logistic', '--sweep', 'paper'], 'is learned for a'),
    (['--criterion', 'logistic', '--temperature', 'fit', '--max-risk', '5%'
      ], 'does not change logistic'),
    (['--learner', 'jei-dnn', '--budget-macs', '50%'], 'for max_prob: leave'),
    (['--ensemble', 'average', '--thresholds-file', 'x.json'
      ], '--ensemble is for new'),
])
def test_options_that_do_not_go_together(calibrate, options, message):
    _, error, point = calibrate(*options)
    assert message in error and point is None
