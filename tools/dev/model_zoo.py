# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Keep configs, metafiles and the tables of models together.

``configs/*/metafile.yml`` is where figures stand. Parameters and MACs are
counted from the configs; published accuracies are typed in there once. The
table in the README beside it is made from the metafile.

    python tools/dev/model_zoo.py          # check; exit status 1 if stale
    python tools/dev/model_zoo.py --write  # bring up to date
"""
import argparse
import sys
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple, Union

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEADER = '''\
# FLOPs, the name that OpenMMLab's tools read, are MACs of one input to the
# last exit; tools/dev/model_zoo.py --write counts them. Rows of numbers are
# text, because mim only joins lists of words; Weights is './', because none
# are hosted and `mim download` wants an entry.
'''
BEGIN, END = '<!-- models -->', '<!-- end of models -->'
HEAD = ('| config | parameters (M) | MACs to exits 0 / 1 / ... (M) | {} |\n'
        '| --- | --- | --- | --- |\n')


def count(config_path: Path,
          shape: Sequence[int]) -> Tuple[int, Tuple[int, ...]]:
    """Parameters of any host's model, and MACs to each exit."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    config = Config.fromfile(config_path)
    if config.default_scope == 'mmpretrain':
        config.model.pop('train_cfg', None)  # mixup and cutmix
    init_default_scope(config.default_scope)
    model = MODELS.build(config.model)
    # Of a host's own detector the backbone is ours.
    counted = model if hasattr(model, 'macs_per_exit') else model.backbone
    parameters = sum(p.numel() for p in model.parameters())
    return parameters, counted.macs_per_exit(tuple(shape))


def numbers_of(row: Union[str, int]) -> List[int]:
    """Read a row of numbers, or one."""
    return [int(number) for number in str(row).split(',')]


def recount(content: Dict[str, Any]) -> None:
    """Fill in what follows from the configs."""
    shared = content['Collections'][0]['Metadata']
    for model in content['Models']:
        metadata = model.setdefault('Metadata', {})
        shape = numbers_of({**shared, **metadata}['Input Shape'])
        parameters, macs = count(ROOT / model['Config'], shape)
        metadata['FLOPs'] = macs[-1]
        if len(macs) > 1:
            metadata['Exit FLOPs'] = ', '.join(map(str, macs))
        metadata['Parameters'] = parameters
        model.setdefault('Weights', './')


def table(models: Sequence[Dict[str, Any]]) -> str:
    """The models as a Markdown table."""
    measure, lines = 'top-1 at the exits (%)', []
    for model in models:
        metrics = [
            item for result in model.get('Results', ())
            for item in result['Metrics'].items()
        ]
        if 'box AP' in dict(metrics):
            measure = 'box AP (%)'
        values = ' / '.join(f'{value:.2f}' for key, value in metrics
                            if key.startswith('Exit') or key == 'box AP')
        metadata = model['Metadata']
        digits = 1 if metadata['FLOPs'] < 1e8 else 0
        exits = metadata.get('Exit FLOPs', metadata['FLOPs'])
        macs = ' / '.join(f'{x / 1e6:,.{digits}f}' for x in numbers_of(exits))
        lines.append(f'| [{model["Name"]}]({Path(model["Config"]).name}) | '
                     f'{metadata["Parameters"] / 1e6:.1f} | {macs} | '
                     f'{values or "–"} |\n')
    return HEAD.format(measure) + ''.join(lines)


def with_table(text: str, content: Dict[str, Any]) -> str:
    """A README's text with its table renewed."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return f'{before}{BEGIN}\n{table(content["Models"])}{END}{after}'


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
    write = parser.parse_args().write
    stale = 0
    for metafile in sorted(ROOT.glob('configs/*/metafile.yml')):
        for path, text in renewed(metafile).items():
            if path.read_text(encoding='utf-8') == text:
                continue
            stale += 1
            if write:
                path.write_text(text, encoding='utf-8')
            print(
                path.relative_to(ROOT), 'is', 'renewed' if write else 'stale')
    return int(stale > 0 and not write)


if __name__ == '__main__':
    sys.exit(main())
