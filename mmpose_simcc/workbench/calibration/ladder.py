# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is tried on a trained model, in which order, and what of it is kept.

:data:`LADDER` is the order. A step has candidates, from the simplest to the finest, and fits them
on one half of the pictures. :func:`climb` compares them on the other half, and keeps one only where
these pictures support it.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from ..statistics import ERROR_RATE, Gain, adjust, paired_gain
from .samples import Decoding, Samples
from .steps import DecoderStep, FlipStep, OffsetStep, RadiusStep, ScoreStep, Step

LADDER = (
    DecoderStep(),  # argmax, quarter, second maximum, DARK with each kernel, DAEC with each D
    FlipStep(),  # the model's own, stock's, the exact one, none
    OffsetStep(),  # of all keypoints, along x and y, of each
    ScoreStep(),  # one map from score to similarity, or one for each keypoint
    RadiusStep(),  # of each keypoint, by its score
)


@dataclass
class Trial:
    """A candidate of a step.

    Attributes:
        name (str): The candidate.
        decoding (Decoding): Fitted.
        loss (float): Its mean loss on the held-out half.
        gain (Gain): How much less that is than the loss of the step's first candidate.
        supported (bool): Whether the held-out half supports it, see :func:`climb`.
        chosen (bool): Whether it is kept.
        words (str): What was fitted.
    """

    name: str
    decoding: Decoding
    loss: float
    gain: Gain
    supported: bool
    chosen: bool
    words: str


def climb(
    decoding: Decoding, samples: Samples, ladder: Sequence[Step] = LADDER
) -> Tuple[Decoding, List[Tuple[Step, List[Trial]]]]:
    """Go up the ladder.

    The first candidate of a step is to do nothing. Another one is supported if its loss on the
    held-out half is smaller than the first one's by a paired test, with p-values adjusted by Holm
    for all candidates of the step. Of the supported ones the simplest is kept that is not told
    apart from the best.

    Args:
        decoding (Decoding): Where to begin.
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
            Trial(
                name,
                candidate,
                float(np.nanmean(loss)),
                gain,
                i in supported,
                i == chosen,
                step.describe(candidate),
            )
            for i, (name, candidate, loss, gain) in enumerate(zip(names, fitted, losses, gains))
        ]
        tried.append((step, trials))
    return decoding, tried
