# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The order in which steps are tried on a trained model, and the rule by which one is kept.

A step of the :data:`LADDER` has candidates, from the simplest to the finest, and fits them on one
half of the pictures. :func:`climb` compares them on the other half.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from ..statistics import ERROR_RATE, Gain, adjust, paired_gain
from .samples import Decoding, Samples
from .steps import DecoderStep, FlipStep, OffsetStep, RadiusStep, ScoreStep, Step

LADDER = (
    DecoderStep(),  # argmax, quarter, second maximum, DARK with each kernel, DAEC with each D
    FlipStep(),  # the model's own flip test, stock's, the exact one, none
    OffsetStep(),  # the same for all keypoints, for x and y, or for each keypoint
    ScoreStep(),  # one map from score to similarity, or one for each keypoint
    RadiusStep(),  # for each keypoint, by its score
)


@dataclass
class Trial:
    """A candidate of a step, and how it fared.

    Attributes:
        name (str): The candidate.
        decoding (Decoding): As fitted.
        loss (float): Its mean loss on the held-out half.
        gain (Gain): By how much that is lower than the loss of the step's first candidate.
        supported (bool): Whether the held-out half supports it, see :func:`climb`.
        chosen (bool): Whether it is kept.
    """

    name: str
    decoding: Decoding
    loss: float
    gain: Gain
    supported: bool
    chosen: bool


def climb(
    decoding: Decoding, samples: Samples, ladder: Sequence[Step] = LADDER
) -> Tuple[Decoding, List[Tuple[Step, List[Trial]]]]:
    """Try steps one after another, each with the decoding that the one before kept.

    The first candidate of a step changes nothing. Another one is supported if its loss on the
    held-out half is significantly lower by a paired test, with p-values adjusted by Holm's method
    for all candidates of the step. Of those that are supported, the simplest is kept that is not
    significantly worse than the best.

    Args:
        decoding (Decoding): The decoding to begin with.
        samples (Samples): The people.
        ladder (sequence[Step]): The steps.

    Returns:
        tuple: The decoding that is kept, and the trials of each step.
    """
    held, tried = samples.held_out, []
    for step in ladder:
        names = step.candidates(decoding, samples)
        fitted = [step.fit(name, decoding, samples) for name in names]
        losses = [step.loss(candidate, samples)[held] for candidate in fitted]
        images = samples.img_ids[held]
        gains = [paired_gain(losses[0], loss, images) for loss in losses]
        p_values = adjust([gain.p_value for gain in gains[1:]], len(gains) - 1)
        supported = [
            i
            for i, p_value in enumerate(p_values, 1)
            if p_value < ERROR_RATE and gains[i].value > 0
        ]
        chosen = 0
        if supported:
            best = max(supported, key=lambda i: gains[i].value)
            chosen = next(
                i for i in supported if paired_gain(losses[i], losses[best], images).low <= 0
            )
        decoding = fitted[chosen]
        trials = [
            Trial(name, candidate, float(np.nanmean(loss)), gain, i in supported, i == chosen)
            for i, (name, candidate, loss, gain) in enumerate(zip(names, fitted, losses, gains))
        ]
        tried.append((step, trials))
    return decoding, tried
