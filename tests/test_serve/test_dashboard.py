# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The dashboard asks for metrics that there are."""
import json
import re
from importlib.resources import files

import pytest

from mmdynperceiver.serve.metrics import KINDS, PrometheusMetrics

SUFFIXES = dict(
    counter=('_total', ),
    gauge=('', ),
    histogram=('_bucket', '_sum', '_count'))


def test_names_only_metrics_that_exist():
    pytest.importorskip('prometheus_client')
    content = json.loads(
        files('mmdynperceiver.serve').joinpath('grafana.json').read_text())
    metrics = PrometheusMetrics()
    for name, (_, label, *_) in KINDS.items():
        metrics.add(name, '0' if label else '', 1)
    text = metrics.text().decode()
    used = set()
    for panel in content['panels']:
        for target in panel['targets']:
            expression = target['expr']
            found = re.findall(r'\$\{ray\}(mmdynperceiver_\w+)', expression)
            assert found and expression.count('mmdynperceiver') == len(found)
            known = {'le'}
            for name in found:
                assert re.search(rf'^{name}[ {{]', text, re.MULTILINE), name
                kind, = [
                    key for key, (type_, *_) in KINDS.items()
                    if name in (f'mmdynperceiver_{key}{suffix}'
                                for suffix in SUFFIXES[type_])
                ]
                used.add(kind)
                known.add(KINDS[kind][1])
            labels = re.findall(r'by \(([^)]*)\)|\{(\w+)=', expression)
            labels += re.findall(r'\{\{(\w+)\}\}', target['legendFormat'])
            for each in labels:
                text_ = each if isinstance(each, str) else ''.join(each)
                assert set(text_.split(', ')) <= known, (expression, each)
    assert used == set(KINDS)
    places = [tuple(panel['gridPos'].values()) for panel in content['panels']]
    assert len(set(places)) == len(places)
    assert [each['name'] for each in content['templating']['list']
            ] == ['datasource', 'ray']
