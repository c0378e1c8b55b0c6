# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The steps that set up an environment, and how each knows it is done."""
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from checks import Missing, check_compiler

# What each step installs by name. These come without their dependencies:
# requirements/demo.txt says why.
DEMO_HOSTS = ('mmengine', 'mmpretrain')
TEST_HOSTS = ('mmaction2', 'mmdet')


class Step:
    """One resumable step.

    Args:
        environment (Environment): What it works on.
    """

    name = ''
    title = ''
    hint = ''
    disk_gb = 0.0  # left on the disk, and needed meanwhile

    def __init__(self, environment):
        self.environment = environment
        self.stamp = environment.stamps / self.name

    def inputs(self):
        """List what the step's result depends on: strings and paths."""
        return [self.environment.constraints]

    def key(self):
        """Hash what the step's result depends on."""
        return self.environment.digest(self.name,
                                       self.environment.python_version(),
                                       *self.inputs())

    def is_done(self):
        """Tell whether the step was completed for these inputs."""
        return (self.environment.python_fits() and self.stamp.exists()
                and self.stamp.read_text() == self.key())

    def check(self):
        """Raise Missing if the step cannot succeed."""

    def work(self):
        """Do what the step is for."""
        raise NotImplementedError

    def perform(self):
        """Do the work, and leave the stamp if it succeeded."""
        self.environment.remove_debris()
        self.work()
        self.leave_stamp()

    def leave_stamp(self):
        """Write the stamp; it is never half there."""
        partial = self.stamp.with_name(self.name + '.partial')
        partial.write_text(self.key())
        os.replace(str(partial), str(self.stamp))

    def requirements(self, *names):
        """Return the paths of requirement files."""
        folder = self.environment.root / 'requirements'
        return [folder / '{}.txt'.format(name) for name in names]

    def install(self, *names):
        """Install requirement files, with their dependencies."""
        arguments = []
        for path in self.requirements(*names):
            arguments += ['-r', str(path)]
        self.environment.pip('install', *arguments)


class MakeVenv(Step):
    """Create the environment, with a pip that reports its progress."""

    name = 'venv'
    title = 'Python environment in .venv'
    hint = 'a few seconds'
    disk_gb = 0.1

    def inputs(self):
        """See :class:`Step`. Other pins do not call for a new .venv."""
        return self.requirements('build')

    def check(self):
        """See :class:`Step`."""
        self.environment.check_owner()

    def work(self):
        """See :class:`Step`."""
        self.environment.create()
        self.environment.pip('install', '--retries', '2', '-r',
                             str(self.requirements('build')[0]))


class InstallTorch(Step):
    """Install torch and torchvision."""

    name = 'torch'
    hint = 'the big one: up to 2.5 GB to download, 2 to 15 minutes'
    disk_gb = 6.5

    @property
    def title(self):
        """Name the versions."""
        pin = self.environment.pin
        return 'PyTorch {} and torchvision {}'.format(
            pin('torch'), pin('torchvision'))

    def inputs(self):
        """See :class:`Step`. Only these pins, for what they cost."""
        return [self.environment.pin(n) for n in ('torch', 'torchvision')]

    def work(self):
        """See :class:`Step`."""
        self.environment.pip('install', 'torch', 'torchvision')


class InstallDemo(Step):
    """Install what classification and the demo need, except mmcv."""

    name = 'demo'
    title = 'MMEngine, MMPretrain and their libraries'
    hint = 'about 250 MB, 1 to 3 minutes'
    disk_gb = 1.0

    def inputs(self):
        """See :class:`Step`."""
        return super().inputs() + self.requirements('demo') + [*DEMO_HOSTS]

    def work(self):
        """See :class:`Step`."""
        self.install('demo')
        self.environment.pip('install', '--no-deps', *DEMO_HOSTS)


class InstallTools(Step):
    """Install mmaction2, mmdet, the runtimes, and what tests and lint need."""

    name = 'test'
    title = 'MMAction2, MMDetection, runtimes, test and lint tools'
    hint = 'about 200 MB, 1 to 3 minutes'
    disk_gb = 0.8

    def inputs(self):
        """See :class:`Step`."""
        files = self.requirements('hosts', 'deploy', 'tests', 'lint')
        return super().inputs() + files + [*TEST_HOSTS]

    def work(self):
        """See :class:`Step`."""
        self.install('hosts', 'deploy', 'tests', 'lint')
        self.environment.pip('install', '--no-deps', *TEST_HOSTS)


class InstallMmcvLite(Step):
    """Install mmcv without compiled operators."""

    name = 'mmcv-lite'
    title = 'mmcv-lite, which needs no compiler'
    hint = 'a few seconds'

    def is_done(self):
        """Leave a compiled mmcv where it is: it can do all of this."""
        compiled = self.environment.stamps / InstallMmcv.name
        usable = compiled.exists() and self.environment.python_fits()
        return usable or super().is_done()

    def inputs(self):
        """See :class:`Step`."""
        return [self.environment.pin('mmcv-lite')]

    def work(self):
        """See :class:`Step`."""
        # Both install the module mmcv. The other must go first, or going
        # later it would take files of this one along.
        if self.environment.installed('mmcv'):
            self.environment.pip('uninstall', '-y', 'mmcv')
        self.environment.pip('install', '--no-deps', '--force-reinstall',
                             'mmcv-lite')


class InstallMmcv(Step):
    """Install mmcv with compiled operators, building the wheel once."""

    name = 'mmcv'
    disk_gb = 2.0

    @property
    def version(self):
        """Take the version of mmcv-lite for both."""
        return self.environment.pin('mmcv-lite')

    @property
    def title(self):
        """Name the version."""
        return 'mmcv {} with compiled operators'.format(self.version)

    @property
    def hint(self):
        """Tell a build from a use of the cache."""
        if self.cached_wheel(self.environment.pin('torch') + '*'):
            return 'from the cache, a few seconds'
        return 'compiled once and kept: about 7 minutes on two cores'

    def inputs(self):
        """See :class:`Step`."""
        pin = self.environment.pin
        return [self.version, pin('torch'), self.environment.tag()]

    def check(self):
        """Ask for a compiler only if there is something to compile."""
        if not self.cached_wheel(self.environment.pin('torch') + '*'):
            check_compiler()

    def cached_wheel(self, torch_version):
        """Find the wheel for a version of torch; it may be a pattern."""
        pattern = 'torch{}-{}/mmcv-{}-*.whl'.format(torch_version,
                                                    self.environment.tag(),
                                                    self.version)
        found = sorted(self.environment.wheel_cache().glob(pattern))
        return found[0] if found else None

    def torch_version(self):
        """Return the full version of the installed torch, as 2.11.0+cpu."""
        return subprocess.check_output([
            str(self.environment.python), '-c',
            'import torch; print(torch.__version__)'
        ],
                                       env=self.environment.variables(),
                                       stdin=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL,
                                       universal_newlines=True).strip()

    def work(self):
        """See :class:`Step`."""
        torch_version = self.torch_version()
        wheel = self.cached_wheel(torch_version)
        if wheel is None:
            check_compiler()
            wheel = self.build(torch_version)
        lite = self.environment.stamps / InstallMmcvLite.name
        if lite.exists():
            lite.unlink()
        if self.environment.installed('mmcv-lite'):
            self.environment.pip('uninstall', '-y', 'mmcv-lite')
        self.environment.pip('install', '--no-deps', '--force-reinstall',
                             str(wheel))

    def build(self, torch_version):
        """Build the wheel and move it into the cache in one go."""
        folder = self.environment.wheel_cache() / 'torch{}-{}'.format(
            torch_version, self.environment.tag())
        folder.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix='.partial-', dir=str(folder)))
        try:
            # pip's own cache does not know torch's version: a wheel from it
            # may be for another one. Isolation would build against a torch
            # of its own.
            self.environment.pip('wheel', '-v', '--no-deps',
                                 '--no-build-isolation', '--no-cache-dir',
                                 '--no-binary', 'mmcv', '--wheel-dir',
                                 str(partial), 'mmcv=={}'.format(self.version),
                                 **build_variables())
            wheel = next(partial.glob('mmcv-*.whl'))
            with zipfile.ZipFile(str(wheel)) as archive:
                names = archive.namelist()
            if not any(n.startswith('mmcv/_ext.') for n in names):
                raise Missing(
                    'mmcv was built without its operators; see '
                    '.venv/bootstrap.log for the compiler\'s messages')
            os.replace(str(wheel), str(folder / wheel.name))
        finally:
            shutil.rmtree(str(partial), ignore_errors=True)
        return folder / wheel.name


def build_variables():
    """Choose the operators of mmcv, and how many files compile at once."""
    variables = {'MMCV_WITH_OPS': '1'}
    if os.environ.get('FORCE_CUDA') != '1':
        # The tests run on the CPU. A machine with a GPU but without nvcc
        # could not compile the rest, and one with nvcc takes far longer.
        variables['CUDA_VISIBLE_DEVICES'] = ''
    try:
        pages, size = os.sysconf('SC_AVPHYS_PAGES'), os.sysconf('SC_PAGE_SIZE')
        by_memory = int(pages * size / 1.5e9)  # of one compiler, at its peak
    except (ValueError, OSError):
        by_memory = 2
    jobs = max(1, min(os.cpu_count() or 1, by_memory))
    variables['MAX_JOBS'] = os.environ.get('MAX_JOBS', str(jobs))
    return variables


class InstallPackage(Step):
    """Install this package so that edits take effect at once."""

    name = 'package'
    title = 'mmdynperceiver itself, editable'
    hint = 'a few seconds'

    def inputs(self):
        """See :class:`Step`."""
        root = self.environment.root
        files = [root / 'setup.py', root / 'setup.cfg']
        files += [root / 'mmdynperceiver' / 'version.py']
        files += sorted((root / 'requirements').glob('*.txt'))
        # .mim links to these once they exist
        linked = [
            '{} {}'.format(name, (root / name).exists())
            for name in ('configs', 'tools', 'model-index.yml')
        ]
        # the checkout may have been moved
        return files + linked + [str(root)]

    def is_done(self):
        """See :class:`Step`; `git clean` may have taken the links."""
        mim = self.environment.root / 'mmdynperceiver' / '.mim'
        return mim.exists() and super().is_done()

    def work(self):
        """See :class:`Step`."""
        self.environment.pip('install', '--no-deps', '--no-build-isolation',
                             '-e', '.')


class InstallMim(Step):
    """Install openmim out of the way, for the tests of mim."""

    name = 'mim'
    title = 'openmim in .venv/mim, for its tests only'
    hint = 'about 15 MB, a few seconds'
    disk_gb = 0.1

    def inputs(self):
        """See :class:`Step`."""
        return self.requirements('mim')

    def work(self):
        """See :class:`Step`."""
        folder = self.environment.folder / 'mim'
        shutil.rmtree(str(folder), ignore_errors=True)
        self.environment.pip('install', '--no-deps', '--target', str(folder),
                             '-r', str(self.requirements('mim')[0]))


class CheckImports(Step):
    """Import what was installed, to fail here rather than in the tests."""

    title = 'Check that everything imports'
    hint = 'about half a minute'

    def __init__(self, environment):
        self.name = 'imports-' + environment.profile
        super().__init__(environment)

    def modules(self):
        """List the modules that this profile needs."""
        modules = ['cv2', 'mmcv', 'mmpretrain.models']
        if self.environment.profile == 'test':
            modules += ['mmcv.ops', 'mmaction.models', 'mmdet.models']
            modules += ['onnxruntime', 'openvino']
        return modules

    def inputs(self):
        """See :class:`Step`."""
        stamps = self.environment.stamps
        names = ('torch', 'demo', 'test', 'mmcv', 'mmcv-lite', 'package')
        return super().inputs() + [stamps / name for name in names]

    def work(self):
        """See :class:`Step`."""
        self.environment.console.run([
            str(self.environment.python), '-W', 'ignore', '-c',
            'import mmdynperceiver, {}'.format(', '.join(self.modules()))
        ], self.environment.variables())


def make_steps(environment):
    """List the steps of the environment's profile, in order.

    Args:
        environment (Environment): What they work on.

    Returns:
        list[Step]: The steps.
    """
    steps = [MakeVenv, InstallTorch, InstallDemo]
    if environment.profile == 'test':
        steps += [InstallTools, InstallMim, InstallMmcv]
    else:
        steps += [InstallMmcvLite]
    steps += [InstallPackage, CheckImports]
    return [step(environment) for step in steps]
