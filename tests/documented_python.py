# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The blocks of Python in README and docs are run, or built if they are parts
of configs."""
import doctest
import re
from typing import Any, Dict, Optional

import numpy as np
from documented_commands import ROOT, Command

# Blocks that are not run, by what they say, and why.
CODE_NOT_RUN = {
    r'reg800m_perceiver_t128': "needs the authors' code",
    r"urlopen\(request": 'asks a server; test_other_servers.py does',
    r'class TwoExits|TwoExitsBackbone': 'test_networks.py trains it',
}
# In a block: a pattern, and what takes its place.
CODE = [
    (r'randn\(\d, 3, 224, 224\)', 'randn(2, 3, 64, 64)'),
    (r'size=(256|\[224, 224\])', 'size=\\1'),
    (r'epoch_\d+\.pth', 'epoch_1.pth'),
    (r'budget_ms=5\)', "budget_ms=5, arch='resnet18', width=0.125, "
     "num_latents=8, image_size=32, batch_size=8, passes=1, threads=1)"),
    (r', \.\.\.\)', ')'),
]
WHOLE = 'configs/imagenet/dyn-perceiver_regnety-800mf_8xb128_in1k.py'
DETECTOR = 'configs/coco/retinanet_dyn-perceiver-regnety-1600mf_fpn_1x_coco.py'


def code_not_run(code: str) -> Optional[str]:
    """Why a block is not run, or None."""
    for pattern, reason in CODE_NOT_RUN.items():
        if re.search(pattern, code):
            return reason
    return None


def starting_names() -> Dict[str, Any]:
    """What a page takes for granted."""
    import torch
    rng = np.random.default_rng(0)
    return dict(
        images=torch.randn(2, 3, 64, 64),
        batch=rng.standard_normal((2, 3, 64, 64)).astype(np.float32),
        frames=rng.integers(0, 255, (9, 64, 64, 3), np.uint8))


def run_block(place: Any, step: Command, names: Dict[str, Any]) -> None:
    """Run a block with the names that those before left."""
    code = step.code
    for pattern, new in CODE:
        code = re.sub(pattern, new, code)
    names.update(step.variables)
    config = step.variables.get('CONFIG')
    if config and (ROOT / config).is_file():
        place.config(config)
    for word in re.findall(r"'([^'\n]+)'", code):
        place.provide(word, config)
    with place.as_process(['python']):
        if '>>>' in code:
            test = doctest.DocTestParser().get_doctest(code, names, step.page,
                                                       None, 0)
            runner = doctest.DocTestRunner(verbose=False)
            runner.run(test, clear_globs=False)
            names.update(test.globs)
            assert not runner.failures, step.page
            return
        exec(compile(code, step.page, 'exec'), names)
        if re.match(r'(model|arch|backbone) ?= ?dict', code):
            build(names, code.split('=')[0].strip())


def build(names: Dict[str, Any], name: str) -> None:
    """Build what a part of a config says, in place of that of a whole one."""
    from mmdet.registry import MODELS as DETECTORS
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmpretrain.registry import MODELS
    part = names.pop(name)
    for parent in dict(
            backbone=['backbone'], arch=['arch', 'backbone']).get(name, []):
        part = {parent: part}
    backbone = part.get('backbone', {})
    if isinstance(backbone.get('arch'), dict):  # as any-backbone.md says
        backbone['arch'] = dict(backbone['arch'], _delete_=True)
    detector = part.get('type') == 'RetinaNet'
    config = Config.fromfile(str(ROOT / (DETECTOR if detector else WHOLE)))
    config.merge_from_dict(dict(model=part))
    scope = 'mmdet' if detector else 'mmpretrain'
    with DefaultScope.overwrite_default_scope(scope):
        (DETECTORS if detector else MODELS).build(config.model)
