# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest

from mmdynperceiver.report import (plot_accuracy_macs, published_curves,
                                   published_figures, read_curves,
                                   read_early_exits)
from mmdynperceiver.report.__main__ import main
from mmdynperceiver.report.figure import COLOURS
from .helpers import colour_at


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


REPORT = '''series,data,macs,accuracy,share_0,share_1
exit 0,test,10,0.5,1,0
exit 1,test,20,0.8,0,1
search,test,15,0.75,0.5,0.5
random,test,15,0.6,0.5,0.5
search,held-out,14,0.9,0.6,0.4
exit 0,held-out,10,0.6,1,0
exit 1,held-out,20,0.9,0,1
'''


def test_curves_of_a_report_go_from_exit_to_exit(tmp_path):
    path = tmp_path / 'curve.csv'
    path.write_text(REPORT)
    curves = {curve.name: curve for curve in read_curves(path)}
    search = curves['search, test']
    assert (search.macs, search.accuracy) == ([10, 15, 20], [50, 75, 80])
    assert curves['search, held-out'].accuracy == [60, 90, 90]
    exits = curves['static exits, test']
    assert exits.macs == [10, 20] and exits.labels == ['exit 0', 'exit 1']


def test_points_of_leaving_early(tmp_path):
    path = tmp_path / 'curve.csv'
    path.write_text(REPORT)
    assert read_early_exits(path) == [
        dict(shares=[1, 0], macs=10, top1=50),
        dict(shares=[0.5, 0.5], macs=15, top1=75),
        dict(shares=[0, 1], macs=20, top1=80)
    ]
    path.write_text(REPORT.replace(',test,', ',other,'))
    assert [p['top1'] for p in read_early_exits(path)] == [60, 90, 90]
    path.write_text('name,macs,top1\nb,2,71\na,5,60\nb,1,70\n')
    assert read_early_exits(path) == [
        dict(macs=1, top1=70), dict(macs=2, top1=71)
    ]
    with pytest.raises(FileNotFoundError, match='no file of curves'):
        read_early_exits(tmp_path / 'none.csv')


def test_reports_side_by_side_have_a_colour_each(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('mmdynperceiver.report.__main__.plot_accuracy_macs',
                        lambda curves, *_: drawn.extend(curves))
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / 'curve.csv').write_text(REPORT)
    assert main([
        str(tmp_path / 'a/curve.csv'),
        str(tmp_path / 'b/curve.csv'), '--only', 'search, test', 'exits, test',
        '--out', 'x.png'
    ]) == 0
    assert [curve.name for curve in drawn] == [
        'a: static exits, test', 'a: search, test', 'b: static exits, test',
        'b: search, test'
    ]
    colours = [curve.colour for curve in drawn]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_numbers_are_finite(tmp_path):
    path = tmp_path / 'own.csv'
    for line in ('a,nan,70', 'a,1e9,inf'):
        path.write_text(f'name,macs,top1\n{line}\n')
        with pytest.raises(ValueError, match='line 2: curves need .* numbers'):
            read_curves(path)


def test_command(tmp_path, capsys):
    own = tmp_path / 'own.csv'
    own.write_text('name,macs,top1\nmine,5e8,74\nmine,1e9,76\n')
    out = tmp_path / 'plot.png'
    assert main([str(own), '--out', str(out), '--published', 'fig8b']) == 0
    assert f'wrote {out}' in capsys.readouterr().out
    axes, = plot_accuracy_macs([*read_curves(own),
                                *published_curves('fig8b')]).axes
    assert colour_at(out, axes, 1e9 / 1e9, 76) == COLOURS[0]


@pytest.mark.parametrize('content', [
    b'name,macs,top1\n' + b'x' * 200_000 + b',1e9,70\n',
    b'name,macs,top1\n\xff,1e9,70\n',
])
def test_what_is_no_table_is_one_line(tmp_path, content):
    path = tmp_path / 'own.csv'
    path.write_bytes(content)
    with pytest.raises(ValueError, match='own.csv.* is no table') as caught:
        read_curves(path)
    assert '\n' not in str(caught.value)


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
