# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The doctor: its probes, its remedies and what it prints."""
import json
import platform
import sys

import pytest

from mmdynperceiver import doctor, remedies

EVERYTHING = dict.fromkeys(doctor.DISTRIBUTIONS, '1.0')
EVERYTHING.update(python=platform.python_version(), **{'mmcv-lite': None})
ONEDL = [name for name in EVERYTHING if name.startswith('onedl-')]
EVERYTHING.update(dict.fromkeys(ONEDL))
MMPRETRAIN, MMACTION, MMDET = remedies.HOSTS.values()


def without(*names, **changes):
    """Return the versions of a full environment, without some packages."""
    return {**EVERYTHING, **dict.fromkeys(names), **changes}


def failure(kind, error, module='mmcv', missing=None):
    """Return what a probe finds when an import fails."""
    return dict(kind=kind, error=error, module=module, missing=missing)


NOT_FOUND = failure(
    'ModuleNotFoundError', "No module named 'mmcv'", missing='mmcv')


@pytest.fixture
def short_pip(monkeypatch):
    """Make the commands independent of where Python is."""
    monkeypatch.setattr(
        remedies, 'installer', lambda action: 'pip ' + {
            'install': 'install',
            'uninstall': 'uninstall -y'
        }[action])
    monkeypatch.setattr(remedies.shutil, 'which', lambda name: '/bin/' + name)
    monkeypatch.setattr(remedies.sys, 'version_info', (3, 11, 7))


# ---------------------------------------------------------------- the probe
def test_probe_reports_success():
    assert doctor.probe(('json', 'email')) == {}


def test_probe_reports_the_root_cause(make_files, monkeypatch):
    fake = make_files({
        'outer.py':
        'try:\n    import missing_inner\n'
        'except ImportError as error:\n'
        '    raise ImportError("please install") from error\n'
    })
    monkeypatch.setenv('PYTHONPATH', f'{fake}:{":".join(sys.path)}')
    facts = doctor.probe(('json', 'outer', 'email'))
    assert facts['module'] == 'outer'
    assert facts['kind'] == 'ModuleNotFoundError'
    assert facts['missing'] == 'missing_inner'


def test_probe_survives_what_ends_python(make_files, monkeypatch):
    fake = make_files({
        'crash.py': 'import os\nos.abort()\n',
        'leave.py': 'import sys\nsys.exit(3)\n'
    })
    monkeypatch.setenv('PYTHONPATH', f'{fake}:{":".join(sys.path)}')
    crash = doctor.probe(('crash', ))
    assert crash['kind'] == 'Crash' and 'code -6' in crash['error']
    assert doctor.probe(('leave', ))['kind'] == 'SystemExit'


def test_a_torch_that_cannot_compute_does_not_work(make_files, monkeypatch,
                                                   short_pip):
    """It imports, and knows another NumPy than the one there is."""
    fake = make_files({
        'torch.py':
        'class Tensor:\n'
        '    def __call__(self, *_): return self\n'
        '    sum = backward = Linear = __call__\n'
        '    def numpy(self): raise RuntimeError("Numpy is not available")\n'
        'nn = ones = Tensor()\n'
        'nn.weight, nn.grad = nn, nn\n'
    })
    monkeypatch.setenv('PYTHONPATH', f'{fake}:{":".join(sys.path)}')
    facts = doctor.probe(('torch', ))
    assert (facts['module'], facts['kind']) == ('torch', 'RuntimeError')
    for task in ('classification', 'export'):
        result = doctor.examine_task(task, EVERYTHING, facts)
        assert result['commands'] == ["pip install 'numpy<2'"]
        assert result['error'].endswith('Numpy is not available')


def test_probe_gives_up_waiting(make_files, monkeypatch):
    fake = make_files({'endless.py': 'while True: pass\n'})
    monkeypatch.setenv('PYTHONPATH', f'{fake}:{":".join(sys.path)}')
    facts = doctor.probe(('endless', ), timeout=0.5)
    assert facts['kind'] == 'TimeoutError'


# ------------------------------------------------------------- the remedies
def test_missing_hosts_are_installed_in_one_command(short_pip):
    versions = without('mmpretrain', 'mmcv')
    assert remedies.remedies('classification', versions, NOT_FOUND) == [
        f'pip install {MMPRETRAIN} {remedies.MMCV_LITE}'
    ]


def test_mmaction_comes_without_a_second_opencv(short_pip, monkeypatch):
    monkeypatch.setattr(remedies.platform, 'machine', lambda: 'x86_64')
    versions = without('mmaction2')
    commands = remedies.remedies('recognition', versions, NOT_FOUND)
    assert commands[0].startswith('pip install decord ')
    assert commands[1] == f'pip install --no-deps {MMACTION}'
    monkeypatch.setattr(remedies.platform, 'machine', lambda: 'arm64')
    commands = remedies.remedies('recognition', versions, NOT_FOUND)
    assert commands[0].startswith('pip install eva-decord ')


def test_detection_compiles_mmcv_in_place_of_the_lite_one(short_pip):
    versions = without('mmcv', 'mmdet', **{'mmcv-lite': '2.1.0'})
    commands = remedies.remedies('detection', versions, NOT_FOUND)
    assert commands == [
        f'pip install {MMDET}', 'pip uninstall -y mmcv-lite',
        "pip install 'setuptools<81' wheel ninja psutil packaging",
        'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
        f'--no-cache-dir --no-binary mmcv {remedies.MMCV}'
    ]


def test_compiler_is_asked_for(short_pip, monkeypatch):
    monkeypatch.setattr(remedies.shutil, 'which', lambda name: None)
    assert 'apt install g++' in remedies.build_mmcv(EVERYTHING)[0]


def test_python_that_cannot_build_mmcv_is_told(short_pip, monkeypatch):
    monkeypatch.setattr(remedies.sys, 'version_info', (3, 13, 0))
    commands = remedies.build_mmcv(EVERYTHING)
    assert len(commands) == 1 and 'Python 3.11' in commands[0]


@pytest.mark.parametrize('task, facts, expected', [
    ('classification',
     failure('ImportError', 'libGL.so.1: cannot open shared',
             'cv2'), 'pip install opencv-python-headless'),
    ('classification',
     failure('ImportError', 'libxcb.so.1: cannot open shared object file',
             'mmpretrain'), 'pip install opencv-python-headless'),
    ('recognition', failure('AssertionError', 'MMEngine==0.5.0 is used but'),
     f'pip install {remedies.MMENGINE}'),
    ('classification',
     failure('ValueError', 'numpy.dtype size changed, may indicate'),
     "pip install 'numpy<2'"),
    ('recognition',
     failure('ModuleNotFoundError', 'No module named einops', 'x',
             'einops'), 'pip install einops'),
    ('detection',
     failure('ImportError', 'undefined symbol: _ZN3c10', 'mmcv.ops'),
     'MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
     f'--no-cache-dir --no-binary mmcv {remedies.MMCV}'),
    ('detection', failure('KeyError', 'odd', 'mmdet.models'),
     f'pip install --no-deps --force-reinstall {MMDET}'),
])
def test_known_causes_have_their_remedy(short_pip, task, facts, expected):
    assert remedies.remedies(task, EVERYTHING, facts)[-1] == expected


def test_two_mmcv_at_once_are_disentangled(short_pip):
    versions = without(**{'mmcv-lite': '2.1.0'})
    facts = failure('ImportError', 'odd')
    assert remedies.remedies('classification', versions, facts) == [
        'pip uninstall -y mmcv mmcv-lite',
        f'pip install --no-deps {remedies.MMCV_LITE}'
    ]
    commands = remedies.remedies('detection', versions, facts)
    assert commands[0] == 'pip uninstall -y mmcv mmcv-lite'
    assert commands[-1].endswith(remedies.MMCV)


def test_pip_is_that_of_the_running_python(monkeypatch):
    monkeypatch.setattr(remedies.shutil, 'which', lambda name: None)
    monkeypatch.setattr(remedies.sys, 'executable', '/a b/python')
    assert remedies.installer('install') == "'/a b/python' -m pip install"
    assert remedies.installer('uninstall').endswith(' -m pip uninstall -y')


def test_an_environment_of_uv_has_no_pip(monkeypatch):
    monkeypatch.setattr(remedies.importlib.util, 'find_spec', lambda _: None)
    monkeypatch.setattr(remedies.shutil, 'which', lambda name: '/bin/' + name)
    monkeypatch.setattr(remedies.sys, 'executable', '/a b/python')
    assert remedies.install('x') == "uv pip install --python '/a b/python' x"
    assert remedies.uninstall(
        {'x': '1'}, 'x', 'y') == ["uv pip uninstall --python '/a b/python' x"]


ONEDL_ALONE = without('mmengine', 'mmcv', 'mmpretrain', 'mmdet',
                      **dict.fromkeys(ONEDL, '1.0'))


def test_the_fork_is_not_overwritten(short_pip):
    """Nor said to be incomplete, where its distributions are all there."""
    rows = dict(
        doctor.version_rows(
            dict(
                versions=ONEDL_ALONE,
                facts=dict.fromkeys(
                    ('cuda', 'gpu', 'opencv', 'mmcv_operators')))))
    assert 'mmpretrain' not in rows and 'mmcv or mmcv-lite' not in rows
    bare = {**ONEDL_ALONE, 'onedl-mmpretrain': None, 'onedl-mmcv': None}
    assert remedies.remedies('classification', bare, NOT_FOUND) == [
        'pip install onedl-mmpretrain==1.3.6 onedl-mmcv==2.3.6'
    ]
    bare = {**ONEDL_ALONE, 'onedl-mmdetection': None, 'onedl-mmcv': None}
    # Built apart from torch it would have no operators.
    build = [
        "pip install 'setuptools<81' wheel ninja psutil packaging",
        'pip install --no-build-isolation --no-deps --no-cache-dir '
        '--no-binary onedl-mmcv --force-reinstall onedl-mmcv==2.3.6'
    ]
    assert remedies.remedies('detection', bare, NOT_FOUND) == [
        'pip install onedl-mmdetection==3.5.1', *build
    ]
    facts = failure('ImportError', "No module named 'mmcv._ext'", 'mmcv.ops')
    assert remedies.remedies('detection', ONEDL_ALONE, facts) == build
    for facts, package in (
        (failure('AssertionError', 'MMCV==9 is used'), 'onedl-mmcv==2.3.6'),
        (failure('KeyError', 'odd',
                 'mmpretrain.models'), 'onedl-mmpretrain==1.3.6'),
    ):
        command, = remedies.remedies('classification', ONEDL_ALONE, facts)
        assert command == 'pip install --no-deps --force-reinstall ' + package


def test_two_families_are_disentangled(short_pip):
    both = {**ONEDL_ALONE, 'mmengine': '1.0', 'mmpretrain': '1.0'}
    note, remove, add = remedies.remedies('classification', both, NOT_FOUND)
    assert note.startswith('#') and remove == (
        'pip uninstall -y mmengine mmpretrain onedl-mmcv onedl-mmdetection '
        'onedl-mmengine onedl-mmpretrain')
    assert add == ('pip install onedl-mmcv==2.3.6 onedl-mmdetection==3.5.1 '
                   'onedl-mmengine==0.10.12 onedl-mmpretrain==1.3.6')


def test_a_version_too_old_for_the_graphs_is_told(short_pip, monkeypatch):
    versions = {'onnxruntime': '1.9.0', 'pillow': '12.0'}
    monkeypatch.setattr(doctor, 'version', versions.__getitem__)
    result = doctor.examine_task('deployment, ONNX Runtime', {}, {})
    assert result == dict(
        works=False,
        error='onnxruntime 1.9.0 is older than 1.23',
        commands=["pip install 'onnxruntime>=1.23' pillow"])
    versions['onnxruntime'] = '1.23.1'
    assert doctor.examine_task('deployment, ONNX Runtime', {}, {})['works']


@pytest.mark.parametrize('tool, module, expected', [
    ('export', 'torch', "'onnx>=1.18' 'onnxruntime>=1.23' torch"),
    ('export', 'onnx', "'onnx>=1.18' 'onnxruntime>=1.23'"),
    ('export', 'cv2', 'opencv-python-headless'),
    ('deployment, LiteRT', 'ai_edge_litert', "'ai-edge-litert>=2.3' pillow"),
])
def test_a_tool_gets_what_it_lacks(short_pip, tool, module, expected):
    facts = failure('ModuleNotFoundError', f'No {module}', module, module)
    if module == 'cv2':
        facts = failure('ImportError', 'libGL.so.1: cannot open', module)
    result = doctor.examine_task(tool, EVERYTHING, facts)
    assert result['commands'][-1] == f'pip install {expected}'


def test_what_the_tools_need_is_what_the_requirements_say(repo_root):
    """Or what a host brings, in the version that was tested with it."""
    lines = '\n'.join((repo_root / f'requirements/{name}.txt').read_text()
                      for name in ('deploy', 'demo', 'litert', 'constraints'))
    known = {line.partition('==')[0] for line in lines.splitlines()}
    for packages in remedies.PACKAGES.values():
        assert set(packages) <= known


# --------------------------------------------------------------- the program
@pytest.fixture
def probes(monkeypatch):
    """Replace the imports; classification works, detection does not."""
    results = dict.fromkeys(doctor.TASKS, {})
    results['detection'] = failure('OSError', '[odd] cause', 'mmdet.models')

    def probe(modules):
        for task, names in doctor.TASKS.items():
            if modules[:len(names)] == names:
                return results[task]
        if 'sklearn' in modules:
            return failure('ModuleNotFoundError', 'No sklearn', 'sklearn')
        return {} if modules in doctor.TOOLS.values() else dict(
            error='no operators')

    monkeypatch.setattr(doctor, 'probe', probe)
    return results


@pytest.mark.parametrize('rich', [True, False])
def test_report(probes, capsys, monkeypatch, rich):
    if rich:
        pytest.importorskip('rich')
    else:
        monkeypatch.setitem(sys.modules, 'rich', None)
    assert doctor.main([]) == 0
    printed = capsys.readouterr().out
    assert platform.python_version() in printed
    assert 'import mmdet.models: OSError: [odd] cause' in printed
    lines = [' '.join(line.split()) for line in printed.splitlines()]
    assert 'classification works' in lines
    assert 'detection does not work' in lines
    assert 'export works' in lines
    assert 'demo data does not work' in lines
    assert 'demo data does not work: import sklearn: ModuleNotFoundError: ' \
        'No sklearn' in lines
    assert [line for line in printed.splitlines() if '-m pip install' in line]


def test_json_and_exit_code(probes, capsys):
    assert doctor.main(['--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['tasks']['classification'] == dict(
        works=True, error=None, commands=[])
    assert report['tasks']['detection']['commands']
    assert report['facts']['mmcv_operators'] is False
    assert report['tools']['report']['works'] is True
    command, = report['tools']['demo data']['commands']
    assert command.endswith('install scikit-learn opencv-python-headless')
    probes['classification'] = failure('OSError', 'odd')
    assert doctor.main(['--json']) == 1


def test_the_real_environment_is_examined(run_python):
    """Whatever is installed here, the report and the exit code agree."""
    result = run_python('import sys\nfrom mmdynperceiver.doctor import main\n'
                        'sys.exit(main(["--json"]))')
    report = json.loads(result.stdout)
    assert report['versions']['python'] == platform.python_version()
    assert set(
        report['tasks']) == {'classification', 'recognition', 'detection'}
    works = report['tasks']['classification']['works']
    assert result.returncode == (0 if works else 1)
    assert set(report['tools']) == set(doctor.TOOLS)
    for task in (*report['tasks'].values(), *report['tools'].values()):
        assert task['works'] == (not task['commands']) == (not task['error'])
