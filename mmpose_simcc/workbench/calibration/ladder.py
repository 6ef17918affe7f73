# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is tried on a trained model, in which order, and what of it is kept.

:data:`LADDER` is the order. A step has candidates, from the simplest to the finest, which it fits
on one part of the pictures; :func:`climb` compares them on the other part, and keeps one only
where these pictures support it.
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
        loss (float): Its mean on the held-out part.
        gain (Gain): Over the step's first candidate there.
        supported (bool): Whether the held-out part supports it, see :func:`climb`.
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

    Of a step those candidates are supported that gain on the held-out part over what there is
    without it, by their paired p-values, adjusted by Holm for all of the step's candidates. Of
    the supported ones the simplest is kept that is not told apart from the best.

    Args:
        decoding (Decoding): Where it begins.
        samples (Samples): The people.
        ladder (sequence[Step]): The steps.

    Returns:
        tuple: What is kept, and what was tried in each step.
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
