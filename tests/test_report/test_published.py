# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest

from mmdynperceiver.report import (published_curves, published_figures,
                                   read_curves)
from mmdynperceiver.report.__main__ import main


def test_figures():
    assert published_figures() == ('fig8a', 'fig8b', 'fig8c', 'fig9', 'fig10')


def test_a_network():
    curve, = published_curves('fig8a', 'BAS-ResNet')
    assert curve.name == 'BAS-ResNet'
    assert curve.macs == pytest.approx([1.75e9, 2.07e9, 2.62e9])
    assert curve.accuracy == [74.6, 75.7, 76.0]


def test_all_of_a_figure():
    curves = {curve.name: curve for curve in published_curves('fig9')}
    assert set(curves) == {'Dyn-Perceiver (MobileNet-v3)', 'MobileNet-v3'}
    assert len(curves['Dyn-Perceiver (MobileNet-v3)'].macs) == 17
    assert len(published_curves(network='dyn-perceiver')) == 6
    for curve in published_curves():
        assert list(curve.macs) == sorted(curve.macs)
        assert all(0 < accuracy < 100 for accuracy in curve.accuracy)


@pytest.mark.parametrize('arguments, message', [
    (dict(figure='fig7'), "fig8a, fig8b.*got 'fig7'"),
    (dict(figure='fig9', network='VGG'), r"\(MobileNet-v3\), got 'VGG'"),
])
def test_unknown(arguments, message):
    with pytest.raises(ValueError, match=message):
        published_curves(**arguments)


def test_own_file(tmp_path):
    path = tmp_path / 'own.csv'
    path.write_text('name,macs,top1\nb,2e9,71\na,5,60\nb,1e9,70\n')
    first, second = read_curves(path)
    assert (first.name, first.macs, first.accuracy) == ('b', [1e9,
                                                              2e9], [70., 71.])
    assert (second.name, second.macs) == ('a', [5.])


@pytest.mark.parametrize('text, message', [
    ('name,top1\na,1\n', 'line 2: curves need the columns name, macs'),
    ('name,macs,top1\na,1,2\na,x,2\n', "line 3.*'x'"),
    ('name,macs,top1\n', 'holds no points'),
])
def test_bad_file(tmp_path, text, message):
    path = tmp_path / 'own.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_curves(path)


def test_command(tmp_path, png_size, capsys):
    own = tmp_path / 'own.csv'
    own.write_text('name,macs,top1\nmine,5e8,74\nmine,1e9,76\n')
    out = tmp_path / 'plot.png'
    assert main([str(own), '--out', str(out), '--published', 'fig8b']) == 0
    assert png_size(out)[0] > 800
    assert f'wrote {out}' in capsys.readouterr().out


def test_command_errors(tmp_path, capsys):
    out = str(tmp_path / 'plot.png')
    assert main(['missing.csv', '--out', out]) == 1
    assert "no file of curves at 'missing.csv'" in capsys.readouterr().err
    for arguments in ([], ['a.csv', '--network', 'x'], ['--published',
                                                        'fig0']):
        with pytest.raises(SystemExit):
            main([*arguments, '--out', out])
    with pytest.raises(SystemExit):
        main(['a.csv', '--out', 'plot.jpg'])
    assert not list(tmp_path.iterdir())


def test_some_of_the_curves(tmp_path, capsys):
    own = tmp_path / 'own.csv'
    own.write_text('name,macs,top1\na,1e9,70\nb,2e9,80\n')
    out = str(tmp_path / 'plot.png')
    assert main([str(own), '--only', 'b', '--out', out]) == 0
    assert main([str(own), '--only', 'c', 'd', '--out', out]) == 1
    assert 'none of the curves' in capsys.readouterr().err
