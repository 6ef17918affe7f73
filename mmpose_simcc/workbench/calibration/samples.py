# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The people on whom decodings are compared, and what a decoding consists of."""

from dataclasses import dataclass, field
from typing import Callable, Dict, Optional, Sequence, Tuple

import numpy as np

from ...codecs.calibration import ScoreMaps
from ..metrics import keypoint_oks
from .outputs import Outputs


@dataclass
class Samples:
    """N people: where their keypoints are, and what a model predicts.

    Attributes:
        outputs (dict): :class:`~.outputs.Outputs` by flip test; the model's own is the first.
        truth (np.ndarray): Annotated keypoints in image pixels, shape (N, K, 2).
        visible (np.ndarray): Which keypoints are annotated, bool, shape (N, K).
        img_ids (np.ndarray): The image of each person, shape (N,).
        scale (np.ndarray): Image pixels per input pixel, shape (N, 2).
        corner (np.ndarray): The corner of the input in image pixels, shape (N, 2).
        areas (np.ndarray): The ``area`` of the people for OKS, in image pixels, shape (N,).
        sigmas (np.ndarray): The keypoints' sigmas for OKS, shape (K,).
        held_out (np.ndarray): Who belongs to the half on which candidates are compared, bool,
            shape (N,). They are fitted on the others.
        measure (callable, optional): The similarity that scores should predict. Takes keypoints
            (N, K, 2) in image pixels and gives values in [0, 1], NaN where there is no truth,
            shape (N, K). Defaults to :meth:`similarity`.
    """

    outputs: Dict[str, Outputs]
    truth: np.ndarray
    visible: np.ndarray
    img_ids: np.ndarray
    scale: np.ndarray
    corner: np.ndarray
    areas: np.ndarray
    sigmas: Sequence[float]
    held_out: np.ndarray
    measure: Optional[Callable[[np.ndarray], np.ndarray]] = None
    _pair_sums: Dict[Tuple[str, str], np.ndarray] = field(default_factory=dict)

    def to_image(self, keypoints: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """Input-image pixels (P, ..., K, 2) to image pixels."""
        shape = (-1, *[1] * (keypoints.ndim - 2), 2)
        return keypoints * self.scale[rows].reshape(shape) + self.corner[rows].reshape(shape)

    def similarity(self, keypoints: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """COCO's similarity of keypoints (P, ..., K, 2), in image pixels, to the truth of the
        people ``rows``: in [0, 1], shape (P, ..., K)."""
        people, *between, K, _ = keypoints.shape
        alike = [1] * len(between)
        offsets = keypoints - self.truth[rows].reshape(people, *alike, K, 2)
        return keypoint_oks(offsets, self.areas[rows].reshape(people, *alike), self.sigmas)

    def worth(self, keypoints: np.ndarray) -> np.ndarray:
        """What the scores of keypoints (N, K, 2) should be, shape (N, K); NaN where there is no
        truth."""
        if self.measure is not None:
            return self.measure(keypoints)
        return np.where(self.visible, self.similarity(keypoints), np.nan)

    def pair_sums(self, flip: str, border: str) -> np.ndarray:
        """The similarity at every pair of DAEC's factors, summed over the people to fit on, shape
        (D, D, K)."""
        if (flip, border) not in self._pair_sums:
            total = 0.0
            for rows, keypoints in self.outputs[flip].predict_pairs(border):
                fitted = (self.visible[rows] & ~self.held_out[rows, None])[:, None, None]
                found = self.similarity(self.to_image(keypoints, rows), rows)
                total = total + (found * fitted).sum(0, dtype=np.float64)
            self._pair_sums[flip, border] = total
        return self._pair_sums[flip, border]


@dataclass(frozen=True)
class Decoding:
    """A way to decode a model's outputs. A calibration finds the best one.

    Attributes:
        name (str): The candidate of :class:`DecoderStep` that gave the decoder.
        decoder (dict): Type of the codec and its arguments of decoding.
        flip (str): The flip test.
        offset (np.ndarray, optional): Subtracted from keypoints, input-image pixels, shape
            (K or 1, 2).
        score_maps (list, optional): See :class:`~mmpose_simcc.codecs.calibration.ScoreMaps`.
        radii (dict, optional): See :class:`~mmpose_simcc.codecs.calibration.Radii`.
    """

    name: str
    decoder: dict
    flip: str
    offset: Optional[np.ndarray] = None
    score_maps: Optional[list] = None
    radii: Optional[dict] = None

    def errors(self, samples: Samples) -> np.ndarray:
        """Prediction minus truth in input-image pixels, shape (N, K, 2); NaN where there is no
        truth."""
        error = (self.keypoints(samples) - samples.truth) / samples.scale[:, None]
        return np.where(samples.visible[..., None], error, np.nan)

    def keypoints(self, samples: Samples) -> np.ndarray:
        """Image pixels, shape (N, K, 2)."""
        found = samples.outputs[self.flip].predict(self.decoder)
        return samples.to_image(found if self.offset is None else found - self.offset)

    def scores(self, samples: Samples) -> np.ndarray:
        """Shape (N, K)."""
        scores = samples.outputs[self.flip].scores
        return scores if self.score_maps is None else ScoreMaps(self.score_maps)(scores)

    def distances(self, samples: Samples) -> np.ndarray:
        """Distances from the truth in input-image pixels, shape (N, K); NaN where there is none."""
        return np.linalg.norm(self.errors(samples), axis=-1)


def hold_out_half(img_ids: np.ndarray) -> np.ndarray:
    """Draw half of the images, always the same ones.

    Args:
        img_ids (np.ndarray): The image of each person, shape (N,).

    Returns:
        np.ndarray: Which people are in these images, bool, shape (N,).

    Raises:
        ValueError: There is only one image.
    """
    images = np.unique(img_ids)
    if len(images) < 2:
        raise ValueError('a single image cannot be split into halves to fit and to compare on')
    drawn = np.random.default_rng(1).permutation(len(images))[: round(len(images) / 2)]
    return np.isin(img_ids, images[drawn])
