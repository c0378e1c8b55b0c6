# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What leaving early saves, in tables, pictures and one page."""
from .activation_maps import activation_maps
from .criteria_table import CriterionRow, compare_criteria
from .curve import Curve, plot_accuracy_macs
from .curve_files import (published_curves, published_figures, read_curves,
                          read_early_exits, read_sweep, sweep_curve)
from .folder import check_report_folder, replacing_report
from .gallery import (GalleryImage, MappedImage, plot_activation_maps,
                      plot_gallery)
from .latency import plot_accuracy_latency
from .pictures import plot_reliability, plot_shares
from .samples import FileImages, PipelineImages, Sample
from .sweep import SweepRow, static_rows, sweep_budgets, sweep_rows
from .write import write_report

__all__ = [
    'CriterionRow', 'Curve', 'FileImages', 'GalleryImage', 'MappedImage',
    'PipelineImages', 'Sample', 'SweepRow', 'activation_maps',
    'check_report_folder', 'compare_criteria', 'plot_accuracy_latency',
    'plot_accuracy_macs', 'plot_activation_maps', 'plot_gallery',
    'plot_reliability', 'plot_shares', 'published_curves', 'published_figures',
    'read_curves', 'read_early_exits', 'read_sweep', 'replacing_report',
    'static_rows', 'sweep_budgets', 'sweep_curve', 'sweep_rows', 'write_report'
]
