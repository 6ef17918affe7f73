# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Choosing factors, and whether a finer choice generalises. Pure functions
of arrays."""

from typing import Callable, List, NamedTuple, Sequence, Tuple

import numpy as np

RESAMPLES = 1000


def candidate_deltas(low: float, high: float, step: float) -> np.ndarray:
    """Factors from ``low`` to ``high``, whole ones among them, shape (D,)."""
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


def is_whole(deltas: np.ndarray) -> np.ndarray:
    return np.abs(deltas - deltas.round()) < 1e-6


def hold_out(img_ids: np.ndarray, part: float) -> np.ndarray:
    """Draw a part of the images, always the same.

    Args:
        img_ids (np.ndarray): The image of each person, shape (N,).
        part (float): Share of the images, in (0, 1).

    Returns:
        np.ndarray: Which people are held out, bool, shape (N,).

    Raises:
        ValueError: There are too few images for two parts.
    """
    images = np.unique(img_ids)
    number = round(part * len(images))
    if not 0 < number < len(images):
        raise ValueError(
            f'{len(images)} images cannot be split into a part to fit and {part:g} of them held out'
        )
    drawn = np.random.default_rng(1).permutation(len(images))[:number]
    return np.isin(img_ids, images[drawn])


def best_candidates(
    values: np.ndarray, deltas: np.ndarray, empirical: float, number: int
) -> np.ndarray:
    """The best factors of a curve or of a surface.

    Args:
        values (np.ndarray): Larger is better, shape (D,), or (D, D) for
            pairs.
        deltas (np.ndarray): The factors, shape (D,).
        empirical (float): Of equally good ones the nearest to it wins.
        number (int): How many.

    Returns:
        np.ndarray: Best first: pairs (x, y), shape (number, 2).
    """
    if values.ndim == 1:
        pairs = np.stack([deltas, deltas], axis=-1)
    else:
        pairs = np.stack(np.meshgrid(deltas, deltas, indexing='ij'), axis=-1)
    pairs = pairs.reshape(-1, 2)
    far = np.abs(pairs - empirical).sum(-1)
    return pairs[np.lexsort((far, -values.ravel()))[:number]]


class Gain(NamedTuple):
    """A difference of mean similarity with its uncertainty.

    Attributes:
        value (float): New minus old.
        low (float): Of the 95 % interval.
        high (float): Of the 95 % interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]'


def bootstrap_gain(
    new: np.ndarray, old: np.ndarray, counts: np.ndarray, img_ids: np.ndarray
) -> Gain:
    """Paired bootstrap over images of a difference of mean similarity.

    Args:
        new (np.ndarray): Summed similarity of each person, shape (N,).
        old (np.ndarray): The same by the other choice, shape (N,).
        counts (np.ndarray): Annotated keypoints of each person, shape (N,).
        img_ids (np.ndarray): The image of each person, shape (N,). Images
            are drawn, not people, since those of an image are alike.

    Returns:
        Gain: Percentiles of 1000 resamples around the difference.
    """
    images, image_of = np.unique(img_ids, return_inverse=True)
    difference = np.bincount(image_of, new - old)
    counts = np.bincount(image_of, counts)
    if counts.sum() == 0:
        return Gain(0.0, 0.0, 0.0)
    rng = np.random.default_rng(2)
    even = np.full(len(images), 1 / len(images))
    gains = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.multinomial(len(images), even)
        gains[i] = (drawn @ difference) / max(drawn @ counts, 1)
    low, high = np.percentile(gains, (2.5, 97.5))
    value = difference.sum() / counts.sum()
    return Gain(float(value), float(low), float(high))


class Step(NamedTuple):
    """A choice against the last simpler one that was supported.

    Attributes:
        against (int): Index of that one.
        gain (Gain): In similarity, on the held-out data.
        supported (bool): See :func:`climb`.
    """

    against: int
    gain: Gain
    supported: bool


def climb(gain: Callable[[int, int], Gain], metrics: Sequence[float]) -> Tuple[int, List[Step]]:
    """Walk from the simplest choice to the finest that held-out data
    support.

    A choice is supported when the interval of its gain in similarity over
    the last supported one lies above 0 and the metric does not fall.

    Args:
        gain (callable): ``gain(i, j)`` is that of choice i over choice j.
        metrics (Sequence[float]): Of each choice on the held-out data, larger
            is better.

    Returns:
        tuple: Index of the finest supported choice, and a step for each
        choice but the first.
    """
    chosen, steps = 0, []
    for i in range(1, len(metrics)):
        step_gain = gain(i, chosen)
        supported = step_gain.low > 0 and metrics[i] >= metrics[chosen]
        steps.append(Step(chosen, step_gain, bool(supported)))
        if supported:
            chosen = i
    return chosen, steps
