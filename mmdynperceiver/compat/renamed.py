# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Old names of modules, classes and functions, for one more release.

``mmdynperceiver.engine`` became the packages ``hosts``, ``calibration``,
``benchmark``, ``datasets``, ``io`` and ``cli``; much else has a better name.
An old name still works and says in a DeprecationWarning what the new one is.
"""
import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from types import ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

__all__ = ['RenamedFinder', 'moved_names']

PACKAGE = __name__.partition('.')[0]

# Old module -> new module.
MODULES: Dict[str, str] = {
    'core.calibration': 'calibration.held_out',
    'core.checkpoint_file': 'io.checkpoint_file',
    'core.checkpoint_scan': 'io.checkpoint_scan',
    'core.compiled': 'core.accelerate.compiled',
    'core.copies': 'core.accelerate.copies',
    'core.feature_branch.narrow': 'core.accelerate.onednn_workaround',
    'core.files': 'io.atomic',
    'core.folding': 'core.accelerate.folding',
    'core.inference': 'core.accelerate.prepared',
    'core.intervals': 'calibration.intervals',
    'core.lean_linear': 'core.accelerate.recompute',
    'core.pieces': 'core.accelerate.micro_batches',
    'core.plain': 'core.accelerate.replace',
    'core.share_solver': 'calibration.held_out',
    'core.threshold_search': 'calibration.held_out',
    'core.thresholds_file': 'calibration.held_out',
    'deploy.lean_graphs': 'deploy.graph_forms',
    'deploy.tidy': 'deploy.simplify',
    'engine': 'hosts',
    'engine.benchmark': 'benchmark.compare',
    'engine.benchmark_options': 'cli.benchmark_options',
    'engine.broken_files': 'datasets.checked_files',
    'engine.calibrate': 'calibration.operating_points',
    'engine.calibrate_options': 'cli.calibrate_options',
    'engine.cfg_options': 'cli.cfg_options',
    'engine.checkpoints': 'io.checkpoints',
    'engine.class_names': 'datasets.class_names',
    'engine.cli': 'cli.common',
    'engine.collect': 'hosts.exit_logits',
    'engine.console': 'cli.console',
    'engine.contenders': 'benchmark.entries',
    'engine.content_digests': 'io.fingerprints',
    'engine.convert': 'hosts.convert',
    'engine.deployed': 'benchmark.deployed',
    'engine.errors': 'errors',
    'engine.exit_head': 'hosts.exit_head',
    'engine.exit_model': 'hosts.exit_model',
    'engine.feature_branch': 'hosts.feature_branch',
    'engine.file_predictions': 'cli.file_predictions',
    'engine.fingerprints': 'io.fingerprints',
    'engine.goals': 'calibration.goals',
    'engine.held_out_data': 'hosts.held_out',
    'engine.hold_out': 'datasets.hold_out',
    'engine.hooks': 'hosts.hooks',
    'engine.image_stream': 'hosts.image_stream',
    'engine.latency': 'benchmark.latency',
    'engine.lists': 'datasets.lists',
    'engine.logit_cache': 'calibration.logit_cache',
    'engine.metrics': 'hosts.metrics',
    'engine.optim_wrapper': 'hosts.optim_wrapper',
    'engine.optimizer_state': 'hosts.optimizer_state',
    'engine.peak_memory': 'benchmark.peak_memory',
    'engine.progress': 'hosts.progress',
    'engine.resume': 'hosts.resume',
    'engine.schedule': 'hosts.schedule',
    'engine.standalone': 'hosts.build',
    'engine.tables': 'cli.tables',
    'engine.tool_runner': 'cli.tool_runner',
    'engine.trunk_backbone': 'hosts.trunk_backbone',
    'engine.unread_options': 'cli.cfg_options',
    'engine.views': 'hosts.views',
    'engine.weight_average': 'hosts.weight_average',
    'engine.zoo': 'hosts.model_index',
    'files': 'io.atomic',
    'image_files': 'datasets.image_files',
    'kinds': 'io.describe',
    'report.published': 'report.curve_files',
    'report.sweep_file': 'report.curve_files',
    'result_file': 'io.result_file',
}

# Old name -> new name, wherever it was.
NAMES: Dict[str, str] = {
    'Arrived': 'ExitBatch',
    'Carried': 'LoopState',
    'Contender': 'BenchmarkEntry',
    'Pieces': 'MicroBatches',
    'SampledConv2d': 'SubsampledConv2d',
    'early_exit_contender': 'early_exit_entry',
    'expected_macs': 'expected_cost',
    'graph_contender': 'graph_entry',
    'is_plain': 'is_unmodified',
    'lean_copies': 'copies_for_export',
    'leave_early': 'early_exit_loop',
    'listed': 'first_few',
    'load_part': 'load_matching',
    'load_whole': 'load_strict',
    'measure_pieces': 'measure_micro_batches',
    'new_folder': 'atomic_folder',
    'put_rows': 'scatter_rows',
    'replacing': 'atomic_file',
    'runner_contender': 'runner_entry',
    'sample_before_narrow': 'avoid_onednn_overrun',
    'save_whole': 'atomic_save',
    'static_contender': 'static_entry',
    'tidy': 'simplify',
}

# What a package exported: package -> module that has it now -> old names.
EXPORTS: Dict[str, Dict[str, Tuple[str, ...]]] = {
    'core': {
        'calibration.held_out':
        ('HeldOut', 'Outcome', 'ThresholdSearch', 'area_under_curve',
         'evaluate', 'expected_calibration_error', 'failure_auroc',
         'fit_temperature', 'load_thresholds', 'paper_shares',
         'random_exit_outcome', 'save_thresholds', 'search_thresholds',
         'share_solution_for_budget', 'solve_by_shares'),
        'calibration.intervals':
        ('mean_interval', 'paired_interval', 'wilson_interval'),
        'core.accelerate.compiled': ('BUCKETS', 'MODES', 'in_mode'),
        'core.complexity': ('CountsMacs', 'expected_macs'),
        'core.criteria':
        ('CRITERIA', 'check_temperature', 'confidence', 'confidences'),
        'core.dyn_perceiver': ('build_exits', ),
        'core.early_exit':
        ('Arrived', 'Carried', 'as_images', 'average_groups', 'leave_early',
         'put_rows', 'run_step', 'running_stats_for_one'),
        'core.exits': ('PAPER_KINDS', ),
        'core.feature_branch': ('feature_branch_from_stages', ),
        'core.image_checks': ('check_images', ),
        'core.losses': ('self_distillation', ),
        'core.official': ('infer_variant', 'published_weights'),
        'core.operating_point': ('describe_model', ),
        'core.policy': ('check_thresholds', ),
        'core.segments': ('Half', 'TrunkState'),
        'core.trunk': ('EXIT_PLANS', 'Stage', 'TokenMixer'),
        'io.checkpoint_file': ('atomic_save', 'check_weights', 'conversions',
                               'dtype_fault', 'read_checkpoint'),
        'io.checkpoint_scan': ('check_file', ),
    },
    'engine': {
        'errors': ('InputError', ),
        'hosts.exit_head':
        ('build_loss_weights', 'check_classes', 'check_one_label',
         'exit_settings', 'fill_predictions'),
        'hosts.exit_logits': ('ExitLogits', 'collect_exit_logits'),
        'hosts.exit_model': ('EarlyExitModel', ),
        'hosts.feature_branch': ('build_arch', ),
        'hosts.hooks':
        ('CheckDataHook', 'EvaluateAllExitsHook', 'InferenceModeHook'),
        'hosts.metrics':
        ('EarlyExitMetric', 'SampleResult', 'exit_statistics', 'label_ranks'),
        'hosts.optim_wrapper': ('BFloat16OptimWrapper', ),
        'hosts.progress': ('ProgressBarHook', ),
        'hosts.resume': ('CheckCheckpointHook', 'check_resumable'),
        'hosts.trunk_backbone': ('TrunkBackbone', ),
        'hosts.weight_average': ('WarmupEMAHook', ),
        'hosts.wrappers': ('unwrap_model', ),
        'progress': ('progress_bar', ),
    },
}


def moved_names(package: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a package, which finds what it exported.

    Args:
        package (str): Full name of the package.

    Returns:
        Callable: Takes a name; raises AttributeError if there never was one.
    """
    places = {
        name: module
        for module, names in EXPORTS.get(package.partition('.')[2],
                                         {}).items()
        for name in names
    }

    def getattribute(name: str) -> Any:
        if name not in places:
            raise AttributeError(
                f'module {package!r} has no attribute {name!r}')
        module, new = f'{PACKAGE}.{places[name]}', NAMES.get(name, name)
        _warn(f'{package}.{name}', f'{module}.{new}')
        return getattr(importlib.import_module(module), new)

    return getattribute


class RenamedFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import an old module's name as the new module with the old names."""

    def find_spec(self,
                  fullname: str,
                  path: Any = None,
                  target: Optional[ModuleType] = None) -> Any:
        """See :class:`importlib.abc.MetaPathFinder`."""
        package, _, name = fullname.partition('.')
        if package != PACKAGE or name not in MODULES:
            return None
        return importlib.util.spec_from_loader(
            fullname, self, is_package=name == 'engine')

    def exec_module(self, module: ModuleType) -> None:
        """See :class:`importlib.abc.Loader`."""
        old = module.__name__.partition('.')[2]
        new = f'{PACKAGE}.{MODULES[old]}'
        _warn(module.__name__, new)
        content = vars(importlib.import_module(new))
        if old == 'engine':
            setattr(module, '__getattr__', moved_names(module.__name__))
            content = {}
        for name, value in content.items():
            if not (name.startswith('__') and name.endswith('__')):
                setattr(module, name, value)
        for name, value in NAMES.items():
            if value in content:
                setattr(module, name, content[value])


def _warn(old: str, new: str) -> None:
    """Say what an old name is called now."""
    warnings.warn(
        f'{old} is now {new}; the old name goes with the next release',
        DeprecationWarning,
        stacklevel=3)


def install() -> None:
    """Let old modules be imported; calling it again changes nothing."""
    if not any(isinstance(finder, RenamedFinder) for finder in sys.meta_path):
        # Before the folder that an older checkout may have left behind.
        sys.meta_path.insert(0, RenamedFinder())
