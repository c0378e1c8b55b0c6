# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What is changed in a documented command so that it takes a second or two,
and which commands no test runs."""
import importlib.util
import re
import socket
from typing import Any, List, Optional

# Commands that are not run, by what they say, and why.
DEMO_CONFIG = 'configs/demo/dyn-perceiver_resnet22-w025_1xb128_digits.py'
SIZE = 64
NOT_RUN = {
    r'^python -m (venv|http\.server|zipfile) ':
    'a program of Python itself',
    r'^python -m mmdynperceiver(\.| )doctor':
    'starts processes that import the hosts; test_doctor.py runs it',
    r'^python tools/dev/stacks\.py ':
    'makes environments, by network; test_stacks.py has its own',
    r'^python -m projects\.cifar10_evidence':
    'hours of trainings in processes of their own; '
    'test_cifar10_evidence.py runs main() with stand-ins for them',
    r'configs/(imagenet|coco)/CONFIG\.py':
    'needs ImageNet or COCO; test_tools runs the same programs',
    r'^python tools/benchmark\.py configs/':
    'times whole networks for minutes; test_tools runs the same program',
    r'configs/(sthv1|sthv2|kinetics400)/|check_sthv1':
    'needs videos of 174 or 400 classes, and minutes for a step; '
    'test_recognition runs these configs and the checker',
    r'^python -m projects\.fit_evidence\.':
    'changes the clocks of its process; fit itself is run',
}
# Pages whose commands another test runs: test_tools/test_documented_runs.py.
ELSEWHERE = ('docs/training.md', )
# Commands that are run where a package is there, which no test needs.
NEEDED = {
    r'litert': 'ai_edge_litert',
    r'Tensorboard': 'tensorboard',
    r'sthv|kinetics|clips|video': 'mmaction',
    r'bccd|coco|scenes|detect': 'mmcv._ext',
}
# Other programs, and what stands for running them.
OTHER_PROGRAMS = {
    'cd': 'of the shell',
    'source': 'of the shell',
    'export': 'of the shell; the variable is set',
    '(echo': 'of the shell, on a file that is downloaded',
    'git': 'needs the network',
    'pip': 'needs the network; the extras are checked',
    'make': 'makes an environment; that the target is there is checked',
    'mim': 'test_mim.py runs it',
    'curl': 'the path is checked',
    'serve': "needs a cluster; test_ray_segments.py starts Ray's replicas",
    'tensorboard': "another project's program"
}
# Choices that a page leaves to the reader.
PLACEHOLDERS = {
    'CONFIG': DEMO_CONFIG,
    'OTHER_CONFIG':
    'configs/cifar/multi-exit_resnet22-w025_1xb128-10e_cifar10-folder.py',
    'CHECKPOINT': 'work_dirs/demo/epoch_1.pth',
    'OTHER_CHECKPOINT': 'other.pth',
    'DATA': 'data/cifar10',
}
OF_DETECTORS = {
    'CONFIG':
    'configs/demo/early-exit-retinanet_resnet22-w025_1xb16_scenes.py',
    'CHECKPOINT': 'detector.pth',
}
# In words: a pattern, and what takes its place.
WORDS = [
    (r'epoch_\d+\.pth', 'epoch_1.pth'),
    (r'hold_out_(\w+)_\d+\.txt', r'hold_out_\1_20.txt'),
    (r'train_cfg\.max_epochs=\d+', 'train_cfg.max_epochs=1'),
]
# After these options: what takes the place of the numbers that follow.
OPTIONS = {
    '--hold-out': '20',
    '--runs': '2',
    '--num-images': '4',
    '--minutes': '0.01',
    # Of a network that has learned nothing, on few images.
    '--max-risk': '90%',
    '--min-accuracy': '0.01',
    '--slo-ms': '100000',
}
# After these the first is enough.
ONE_IS_ENOUGH = ('--batch-size', '--budgets', '--replicas')
# Modes that run what others do, in another precision.
MODES_LIKE_OTHERS = ('prepared', 'openvino-bf16')
# What is added to a program's arguments.
FIT = ('--arch resnet18 --width 0.125 --num-latents 8 --image-size 32 '
       '--batch-size 8 --passes 1 --threads 1')
ADDED = {
    r'^python -m projects\.digits ':
    '--train 16 --val 16 --test 16',
    r'^python -m mmdynperceiver fit (?!.*--pretrained)':
    FIT,
    r'^python -m mmdynperceiver fit .*--pretrained':
    '--passes 1 --threads 1',
    # Tests of Ray's are test_ray_segments.py and test_ray_jobs.py.
    r'^python -m mmdynperceiver(\.| )serve ':
    '--engine local --port {port}',
    r'--engine ray$':
    '--engine local',
    r'^python tools/benchmark\.py (?!.*--runs)':
    '--runs 2',
    # Its other parts want more images.
    r'^python tools/dev/measure_policies\.py (?!.*--only)':
    '--only microseconds',
    # In place of a download.
    r'^python -m projects\.web_demo ':
    '--onnxruntime-web node_modules/onnxruntime-web',
    r'^python tools/check_gpu\.py ':
    '--device cpu --quick',
    r'^python tools/(export|model_converters/checkpoint_to_folder)\.py .*'
    r'/(imagenet|folder)/':
    '--size 64 64',
}
# Networks of torchvision that take less time, by the order of their names.
SMALL = ('squeezenet1_1', 'mobilenet_v3_small', 'mnasnet0_5', 'resnet18',
         'squeezenet1_0', 'shufflenet_v2_x0_5')


def not_run(text: str) -> Optional[str]:
    """Why a command is not run, or None."""
    for pattern, reason in NOT_RUN.items():
        if re.search(pattern, text):
            return reason
    return None


def reduce_words(words: List[str], page: str = '') -> List[str]:
    """The same arguments for a moment's work."""
    placeholders = dict(PLACEHOLDERS)
    if page == 'docs/detection.md':
        placeholders.update(OF_DETECTORS)
    if 'CONFIG' in words:  # the demo's, and of its data
        words = [re.sub('^data/imagenet', 'data/digits', w) for w in words]
    static = re.findall(r'(?<=torchvision:)\w+', ' '.join(words))
    static = list(dict.fromkeys(static))
    reduced: List[str] = []
    option = ''
    for word in words:
        option = word if word.startswith('--') else option
        word = placeholders.get(word, word)
        word = re.sub(r'(?<=torchvision:)\w+',
                      lambda name: SMALL[static.index(name.group())], word)
        for pattern, new in WORDS:
            word = re.sub(pattern, new, word)
        if option in ONE_IS_ENOUGH and reduced[-1] != option != word:
            continue
        if option == '--modes' and word in MODES_LIKE_OTHERS:
            continue
        if option == '--files' != word:
            word = 'my.jpg'
        if option == '--size' and word.isdigit():
            word = str(min(int(word), SIZE))
        if option in OPTIONS and re.match(r'[\d.]+%?$', word):
            word = OPTIONS[option]
        reduced.append(word)
    for pattern, more in ADDED.items():
        if re.search(pattern, ' '.join(reduced)):
            reduced += more.format(port=free_port()).split()
    return reduced


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        return server.getsockname()[1]


def reduce_config(node: Any, key: str = '') -> Any:
    """The same settings for small images, few of them, and one epoch."""
    if isinstance(node, dict):
        for name, value in node.items():
            node[name] = reduce_config(value, name)
        if key.endswith('_dataloader'):
            node['num_workers'] = 0
            node['persistent_workers'] = False
            if 'batch_size' in node:
                node['batch_size'] = min(node['batch_size'], 16)
        for name in ('max_epochs', 'val_interval'):
            if key == 'train_cfg' and name in node:
                node[name] = 1
        return node
    if isinstance(node, (list, tuple)):
        return type(node)(reduce_config(value, key) for value in node)
    if isinstance(node, str):
        return re.sub(*WORDS[0], node)
    if key == 'max_per_img':
        return min(node, 5)
    if key in ('scale', 'crop_size', 'input_size') and node > SIZE:
        return SIZE + (node > 224)
    return node


def missing(text: str) -> Optional[str]:
    """The package that a command needs and that is not there, or None."""
    for pattern, name in NEEDED.items():
        if re.search(pattern, text) and not _found(name):
            return name
    return None


def _found(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
