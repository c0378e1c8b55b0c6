# Copyright (c) mmdynperceiver contributors. All rights reserved.
import pytest
from PIL import Image

from mmdynperceiver.report import latency, plot_accuracy_latency


@pytest.fixture
def rows():
    """Two networks with accuracies, one without."""
    exits = [dict(exit=k, median_ms=8. * (k + 1)) for k in range(2)]
    dynamic = dict(mean_ms=10.)
    return [
        dict(
            name='ours',
            mode='eager',
            batch_size=4,
            exits=exits,
            dynamic=dynamic,
            top1=dict(exits=[70, 80], dynamic=78)),
        dict(
            name='static',
            mode='eager',
            batch_size=4,
            exits=exits[:1],
            top1=dict(exits=[75])),
        dict(name='other', mode='eager', batch_size=4, exits=exits)
    ]


def test_draws(rows, tmp_path, monkeypatch):
    drawn = []
    plot = latency.plot_accuracy_macs
    monkeypatch.setattr(
        latency, 'plot_accuracy_macs', lambda *args, **kwargs: drawn.append(
            (args, kwargs)) or plot(*args, **kwargs))
    plot_accuracy_latency(rows, tmp_path / 'x.png')
    assert Image.open(tmp_path / 'x.png').size[0] > 100
    (curves, *_), kwargs = drawn[0]
    assert [curve.name for curve in curves] == ['ours, eager', 'static, eager']
    assert curves[0].macs == [2, 4] and curves[1].macs == [2]
    assert kwargs['chosen'] == [(2.5, 78, 'leaving early, ours, eager')]


def test_one_graph_has_a_name_of_its_own(rows, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(latency, 'plot_accuracy_macs',
                        lambda curves, *_, **__: drawn.extend(curves))
    rows[1].update(name='ours_net_8xb1_data (one graph)', mode='openvino')
    plot_accuracy_latency(rows, tmp_path / 'x.png')
    assert drawn[1].name == 'ours_net (one graph), openvino'


def test_networks_of_torchvision(rows, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(latency, 'plot_accuracy_macs',
                        lambda curves, *_, **kw: drawn.append((curves, kw)))
    rows[1].update(name='torchvision:regnet_y_3_2gf')
    del rows[0]['top1']['dynamic']  # of published accuracies
    plot_accuracy_latency(rows, tmp_path / 'x.png')
    (curves, kwargs), = drawn
    assert [c.name for c in curves] == ['ours, eager', 'regnet_y_3_2gf, eager']
    assert kwargs['chosen'] == []


def test_refuses_nothing_to_draw(rows, tmp_path):
    with pytest.raises(ValueError, match='at least one curve'):
        plot_accuracy_latency(rows[2:], tmp_path / 'x.png')
