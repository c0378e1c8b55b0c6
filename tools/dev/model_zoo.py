# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Keep configs, metafiles and the tables of models together.

``configs/*/metafile.yml`` is where figures stand. Parameters and MACs are
counted from the configs; published accuracies are typed in there once. The
table in the README beside it is made from the metafile.

    python tools/dev/model_zoo.py          # check; exit status 1 if stale
    python tools/dev/model_zoo.py --write  # bring up to date
"""
import argparse
import os
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence, Tuple, Union

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADER = '''\
# FLOPs is the name that OpenMMLab's tools read: these are MACs (multiply-adds
# of convolutions and matrix products) of one image, to the last exit and to
# each exit. Counted by tools/dev/model_zoo.py --write.
# Rows of numbers are text, because mim only joins lists of words.
# Weights: no file is hosted. `mim download` wants an entry; './' gives it no
# file to fetch, so that it writes the config alone.
'''
NO_FILE = './'
BEGIN, END = '<!-- models -->', '<!-- end of models -->'


def metafiles() -> List[Path]:
    """All metafiles."""
    return sorted(ROOT.glob('configs/*/metafile.yml'))


def count(config_path: Path,
          shape: Sequence[int]) -> Tuple[int, Tuple[int, ...]]:
    """Parameters, and MACs to each exit.

    Args:
        config_path (Path): Config of any host's model that counts its MACs.
        shape (Sequence[int]): Shape of one input.
    """
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    config = Config.fromfile(config_path)
    config.model.pop('init_cfg', None)
    if config.default_scope == 'mmpretrain':
        config.model.pop('train_cfg', None)  # mixup and cutmix
    init_default_scope(config.default_scope)
    model = MODELS.build(config.model)
    parameters = sum(p.numel() for p in model.parameters())
    # Of a host's own detector the backbone is ours.
    counted = model if hasattr(model, 'macs_per_exit') else model.backbone
    return parameters, counted.macs_per_exit(tuple(shape))


def row(numbers: Iterable[int]) -> str:
    """Write numbers as a metafile keeps them."""
    return ', '.join(map(str, numbers))


def numbers_of(text: Union[str, Sequence[int]]) -> List[int]:
    """Read what :func:`row` wrote; a list serves as well."""
    parts = text.split(',') if isinstance(text, str) else text
    return [int(part) for part in parts]


def recount(content: Dict[str, Any]) -> None:
    """Fill in what follows from the configs."""
    for model in content['Models']:
        metadata = model.setdefault('Metadata', {})
        shape = numbers_of(metadata.get('Input Shape', (3, 224, 224)))
        if 'Input Shape' in metadata:
            metadata['Input Shape'] = row(shape)
        parameters, macs = count(ROOT / model['Config'], shape)
        metadata['FLOPs'] = macs[-1]
        metadata['Exit FLOPs'] = row(macs)
        metadata['Parameters'] = parameters
        model.setdefault('Weights', NO_FILE)


def table(content: Dict[str, Any]) -> str:
    """The models as a Markdown table."""
    detection = any('box AP' in result['Metrics']
                    for model in content['Models']
                    for result in model.get('Results', ()))
    measure = 'box AP (%)' if detection else 'top-1 at the exits (%)'
    lines = [
        '| config | parameters (M) | MACs to exits 0 / 1 / ... (M) | '
        f'{measure} |', '| --- | --- | --- | --- |'
    ]
    for model in content['Models']:
        metadata = model['Metadata']
        digits = 1 if metadata['FLOPs'] < 1e8 else 0
        macs = ' / '.join(f'{x / 1e6:,.{digits}f}'
                          for x in numbers_of(metadata['Exit FLOPs']))
        accuracies = [
            f'{value:.2f}' for result in model.get('Results', ())
            for key, value in result['Metrics'].items()
            if key.startswith('Exit') or key == 'box AP'
        ]
        name = os.path.basename(model['Config'])
        lines.append(f'| [{model["Name"]}]({name}) | '
                     f'{metadata["Parameters"] / 1e6:.1f} | {macs} | '
                     f'{" / ".join(accuracies) or "–"} |')
    return '\n'.join(lines)


def with_table(text: str, content: Dict[str, Any]) -> str:
    """A README's text with its table renewed."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f'{before}{BEGIN}\n{table(content)}\n{END}{after}'


def renewed(path: Path) -> Dict[Path, str]:
    """What a metafile and the README beside it should hold."""
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
    recount(content)
    readme = path.with_name('README.md')
    return {
        path: HEADER + yaml.safe_dump(content, sort_keys=False, width=79),
        readme: with_table(readme.read_text(encoding='utf-8'), content)
    }


def main() -> int:
    """Check, or bring up to date."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--write', action='store_true')
    args = parser.parse_args()
    stale = [(path, text) for metafile in metafiles()
             for path, text in renewed(metafile).items()
             if path.read_text(encoding='utf-8') != text]
    for path, text in stale:
        name = path.relative_to(ROOT)
        if args.write:
            path.write_text(text, encoding='utf-8')
        print(f'{name} {"is renewed" if args.write else "is stale"}')
    return 1 if stale and not args.write else 0


if __name__ == '__main__':
    sys.exit(main())
