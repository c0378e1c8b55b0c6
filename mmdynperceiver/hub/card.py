# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The card of a saved model: what it is, what it costs, where it is from."""
from typing import Any, Dict, List, Mapping, Sequence

from ..calibration.risk_control import describe_certificate
from ..errors import first_few
from ..version import __version__

__all__ = ['TASKS', 'model_card']

# The Hub's names of the tasks, and the lines of Python that use a model.
TASKS = {
    'image-classification':
    "for result in net.classify(['a.jpg', 'photos/']):\n"
    '    print(result.path, result.name, result.score, result.exit_index)',
    'video-classification':
    'from mmaction.apis import inference_recognizer\n'
    "print(inference_recognizer(net, 'a.mp4'))",
    'object-detection':
    'from mmdet.apis import inference_detector\n'
    "print(inference_detector(net, 'a.jpg').pred_instances)"
}
_HOST_USE = 'from mmpretrain import ImageClassificationInferencer\n' \
            "print(ImageClassificationInferencer(net)('a.jpg'))"


def model_card(content: Mapping[str, Any], title: str) -> str:
    """Write the text of README.md.

    Args:
        content (Mapping): What :mod:`mmdynperceiver.hub` keeps of a model:
            ``task``, ``kind``, ``classes``, ``macs_per_exit``, ``policy``,
            ``operating_points`` and ``about``.
        title (str): Its heading.
    """
    task = content['task']
    use = TASKS[task]
    if content['kind'] == 'host' and task == 'image-classification':
        use = _HOST_USE
    parts = [
        '---', 'library_name: mmdynperceiver', f'pipeline_tag: {task}',
        'tags:', '- early-exit', '- dynamic-perceiver', '- vision', '---', '',
        f'# {title}', '',
        'A Dynamic Perceiver (arXiv 2306.11248): what is easy leaves at an '
        'early exit, the rest goes on.', '', '```python',
        'from mmdynperceiver.hub import from_pretrained', '',
        "net = from_pretrained('FOLDER_OR_REPOSITORY')", use, '```', '',
        *_costs(content), *_points(content), *_provenance(content)
    ]
    return '\n'.join(parts)


def _costs(content: Mapping[str, Any]) -> List[str]:
    """Classes, and what each exit costs."""
    lines: List[str] = []
    if content.get('classes'):
        names = list(content['classes'])
        lines += [f'{len(names)} classes: {first_few(names, 10, str)}.', '']
    macs = content.get('macs_per_exit')
    if macs:
        listed = ', '.join(f'{value / 1e6:,.1f} M' for value in macs)
        lines += [f'Multiply-adds up to each exit: {listed}.', '']
    return lines


def _points(content: Mapping[str, Any]) -> List[str]:
    """The policy, and the operating points with what they bring."""
    policy = content.get('policy') or {}
    thresholds = policy.get('thresholds')
    if thresholds is None:
        return [
            '## Operating points', '',
            'None: all inputs run to the last exit.', ''
        ]
    lines = [
        '## Operating points', '',
        f'An input leaves at the first exit whose {policy["criterion"]} '
        f'reaches {_numbers(thresholds)}{_together(policy)}.', ''
    ]
    if content.get('certificate'):
        lines += [describe_certificate(content['certificate']) + '.', '']
    points = content.get('operating_points') or []
    if points:
        lines += [
            'As measured on the held-out data that solved them, and on test '
            'data where there were some:', '',
            '| | thresholds | held-out accuracy | test accuracy | '
            'mean MACs (M) | share of each exit |',
            '| --- | --- | --- | --- | --- | --- |'
        ]
        lines += [_row(k, point, thresholds) for k, point in enumerate(points)]
        lines.append('')
    return lines


def _together(policy: Mapping[str, Any]) -> str:
    """How exits answer together."""
    ensemble = policy.get('ensemble')
    return f'; exits answer together ({ensemble["kind"]})' if ensemble else ''


def _row(number: int, point: Mapping[str, Any],
         thresholds: Sequence[float]) -> str:
    """One operating point; the one in force is marked."""
    brought = point.get('expected') or {}
    used = ' (in force)' if list(
        point['thresholds']) == list(thresholds) else ''
    good = ' | '.join(
        _accuracy(found) for found in (brought, brought.get('test') or {}))
    macs = f'{brought["macs"] / 1e6:,.1f}' if 'macs' in brought else ''
    shares = ' / '.join(f'{s:.0%}' for s in brought.get('shares', ()))
    return f'| {number}{used} | {_numbers(point["thresholds"])} | {good} | ' \
           f'{macs} | {shares} |'


def _accuracy(found: Mapping[str, Any]) -> str:
    """Accuracy, or what stands for it in a detector."""
    value = found.get('accuracy', found.get('utility'))
    return '' if value is None else f'{value:.4f}'


def _numbers(values: Sequence[float]) -> str:
    """Numbers of a text."""
    return ', '.join(f'{value:.3g}' for value in values)


def _provenance(content: Mapping[str, Any]) -> List[str]:
    """Where the model is from."""
    about: Dict[str, Any] = dict(content.get('about') or {})
    about['saved with'] = f'mmdynperceiver {__version__}'
    return [
        '## Provenance', '',
        *(f'- {key}: {value}' for key, value in about.items()), ''
    ]
