# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The mathematics: pure batched functions of tensors."""

from .decode import (
    blur_kernel_size_of,
    daec_radius,
    decode_daec,
    decode_daec_1d,
    heatmap_argmax,
    peak_mass,
    refine_dark,
    refine_dark_1d,
    shift_quarter,
    shift_second_max,
    vector_argmax,
)
from .flip import average_flip_simcc, flip_simcc
from .labels import (
    gaussian_heatmaps,
    heatmap_in_reach,
    simcc_equal,
    simcc_gaussian,
    simcc_inside,
    simcc_laplace,
    simcc_one_hot,
)
from .losses import kl_divergence, kl_divergence_equal

__all__ = [
    'average_flip_simcc',
    'blur_kernel_size_of',
    'daec_radius',
    'decode_daec',
    'decode_daec_1d',
    'flip_simcc',
    'gaussian_heatmaps',
    'heatmap_argmax',
    'heatmap_in_reach',
    'kl_divergence',
    'kl_divergence_equal',
    'peak_mass',
    'refine_dark',
    'refine_dark_1d',
    'shift_quarter',
    'shift_second_max',
    'simcc_equal',
    'simcc_gaussian',
    'simcc_inside',
    'simcc_laplace',
    'simcc_one_hot',
    'vector_argmax',
]
