# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Measures how often the truth lies within the radii."""

from typing import Dict, List

import numpy as np
from scipy.stats import norm

from ...codecs.calibration import LEVELS, Radii
from .samples import Decoding, Samples, hold_out_half
from .steps import RadiusStep


def coverage(decoding: Decoding, samples: Samples) -> List[dict]:
    """How often the truth lies within the radii, on pictures that nothing was fitted on: radii of
    one half of the held-out pictures are tested on the other half.

    Args:
        decoding (Decoding): The decoding that is kept.
        samples (Samples): The people.

    Returns:
        list[dict]: Rows with the ``group``, its number of ``keypoints`` and, for each of
        :data:`LEVELS`, the share of them within the radius and under ``± LEVEL`` the half-width of
        its 95% interval, to which the sampling of both halves adds.
    """
    held = samples.held_out
    first = held.copy()
    first[held] = hold_out_half(samples.img_ids[held])
    second = held & ~first
    radii = Radii(**RadiusStep().fit_on(first, decoding, samples).radii)
    scores, distances = decoding.scores(samples), decoding.distances(samples)
    ratio = 1 + (~np.isnan(distances[second])).sum() / (~np.isnan(distances[first])).sum()
    scores, distances = scores[second], distances[second]
    within = distances[..., None] <= radii(scores)
    return [
        dict(group=name, keypoints=int(members.sum()))
        | _coverage(within, members, samples.img_ids[second], ratio)
        for name, members in _groups(scores, distances, samples.scale[second]).items()
        if members.any()
    ]


def _groups(scores: np.ndarray, distances: np.ndarray, scale: np.ndarray) -> Dict[str, np.ndarray]:
    """The groups of a coverage table by their names: masks (N, K) of their keypoints."""
    known = ~np.isnan(distances)
    K = known.shape[1]
    size = np.broadcast_to(scale.mean(1)[:, None], known.shape)
    groups = {'all': known}
    for name, values in (('score', scores), ('size', size)):
        edges = np.unique(np.quantile(values[known], np.linspace(0, 1, 6)))
        for low, high in zip(edges, edges[1:]):
            inside = (values >= low) & ((values < high) | (high == edges[-1]))
            unit = ' image px per input px' if name == 'size' else ''
            groups[f'{name} {low:.2f} to {high:.2f}{unit}'] = known & inside
    for k in range(K):
        groups[f'keypoint {k}'] = known & (np.arange(K) == k)
    return groups


def _coverage(
    within: np.ndarray, members: np.ndarray, img_ids: np.ndarray, ratio: float
) -> Dict[str, float]:
    """The share of a group within each radius, and the half-width of its interval."""
    number, found = members.sum(), {}
    _, image_of = np.unique(img_ids, return_inverse=True)
    for level, inside in zip(LEVELS, np.moveaxis(within, -1, 0)):
        # keypoints of a picture depend on each other; at least the variance of independent ones
        excess = np.bincount(image_of, np.where(members, inside - level, 0).sum(1))
        variance = max(level * (1 - level) / number, (excess**2).sum() / number**2)
        found[f'{level:g}'] = float(inside[members].mean())
        found[f'± {level:g}'] = float(norm.isf(0.025) * np.sqrt(ratio * variance))
    return found
