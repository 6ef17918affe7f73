# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The papers' equations: pure batched functions of tensors."""

from .decode import (
    blur_kernel_size_of,
    daec_radius,
    decode_daec,
    decode_daec_1d,
    empirical_delta,
    heatmap_argmax,
    refine_dark,
    refine_dark_1d,
    shift_quarter,
    shift_second_max,
    vector_argmax,
)
from .flip import average_flip, flip_heatmaps, flip_simcc, mirror, mirror_images
from .frames import cell_pitch, decoded_pitch
from .labels import (
    gaussian_heatmaps,
    gaussian_touches_map,
    nearest_cells,
    simcc_equal,
    simcc_gaussian,
    simcc_inside,
    simcc_laplace,
    udp_heatmaps,
)
from .losses import kl_divergence
from .scores import map_scores, peak_mass, simcc_score, step_values

__all__ = [
    'average_flip',
    'blur_kernel_size_of',
    'cell_pitch',
    'daec_radius',
    'decode_daec',
    'decode_daec_1d',
    'decoded_pitch',
    'empirical_delta',
    'flip_heatmaps',
    'flip_simcc',
    'gaussian_heatmaps',
    'gaussian_touches_map',
    'heatmap_argmax',
    'kl_divergence',
    'map_scores',
    'mirror',
    'mirror_images',
    'nearest_cells',
    'peak_mass',
    'refine_dark',
    'refine_dark_1d',
    'shift_quarter',
    'shift_second_max',
    'simcc_equal',
    'simcc_gaussian',
    'simcc_inside',
    'simcc_laplace',
    'simcc_score',
    'step_values',
    'udp_heatmaps',
    'vector_argmax',
]
