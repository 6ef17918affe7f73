# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Less jitter in videos: people are followed by their boxes, and their keypoints filtered."""

import math
from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

MIN_OVERLAP = 0.3  # of the boxes of one person in two frames
MAX_GAP = 1.0  # seconds without a box after which a person counts as a new one
# Jitter that is assumed where the model has no radii, relative to the size of the box
RELATIVE_NOISE = 0.02


class OneEuroFilter:
    r"""A low-pass filter that lets fast movement through (Casiez, Roussel and Vogel, "1 Euro
    Filter", CHI 2012, Section 3).

    .. math::
        \hat x_i = \hat x_{i-1} + \alpha(f_i) (x_i - \hat x_{i-1}), \quad
        \alpha(f) = \frac{2 \pi f \, dt}{2 \pi f \, dt + 1}, \quad
        f_i = f_{min} + \beta \frac{|\hat{\dot x}_i|}{r}

    The speed is the difference of two inputs by their time, filtered with a cutoff of 1 Hz. Here
    it counts in noise radii r a second, so that the same parameters suit people of every size.

    Args:
        min_cutoff (float): :math:`f_{min}`, cutoff at rest in Hz: lower, and there is less
            jitter. Defaults to 1.
        beta (float): How much of the speed is added to it: higher, and there is less lag.
            Defaults to 0.5.

    Example:
        >>> smooth = OneEuroFilter()
        >>> smooth(np.array([[10.0, 20.0]]), 0.0, np.array([1.0]))
        array([[10., 20.]])
        >>> smooth(np.array([[10.5, 20.0]]), 0.04, np.array([1.0])).round(2)
        array([[10.18, 20.  ]])
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 0.5) -> None:
        self.min_cutoff, self.beta = min_cutoff, beta
        self.time: Optional[float] = None

    def __call__(self, points: np.ndarray, time: float, noise: np.ndarray) -> np.ndarray:
        """Filter the points of one moment.

        Args:
            points (np.ndarray): Shape (K, 2).
            time (float): Seconds; later than before.
            noise (np.ndarray): r, in the unit of the points, shape (K,).

        Returns:
            np.ndarray: Shape (K, 2).
        """
        if self.time is None:
            self.points = self.input = points
            self.speed = np.zeros_like(points)
        else:
            dt = time - self.time
            speed = (points - self.input) / dt
            self.speed = self.speed + _alpha(1.0, dt) * (speed - self.speed)
            cutoff = self.min_cutoff + self.beta * np.abs(self.speed) / noise[:, None]
            self.points = self.points + _alpha(cutoff, dt) * (points - self.points)
            self.input = points
        self.time = time
        return self.points


def _alpha(cutoff, dt):
    """The weight of a new value in a filter of this cutoff frequency in Hz."""
    turned = 2 * math.pi * cutoff * dt
    return turned / (turned + 1)


def box_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (x, y, w, h): shapes (N, 4) and (M, 4) to (N, M).

    Example:
        >>> box_overlaps(np.array([[0.0, 0.0, 2.0, 2.0]]), np.array([[1.0, 0.0, 2.0, 2.0]]))
        array([[0.33333333]])
    """
    start = np.maximum(boxes[:, None, :2], others[None, :, :2])
    end = np.minimum(
        boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:]
    )
    shared = (end - start).clip(0).prod(-1)
    areas = boxes[:, 2:].prod(-1)[:, None] + others[:, 2:].prod(-1)[None]
    return shared / (areas - shared)


@dataclass
class _Track:
    number: int
    filter: OneEuroFilter
    box: np.ndarray
    time: float


class Smoother:
    """Follows people from frame to frame by the overlap of their boxes, and filters the keypoints
    of each. After a second without a box a person counts as a new one.

    Args:
        min_cutoff (float): See :class:`OneEuroFilter`. Defaults to 1.
        beta (float): See :class:`OneEuroFilter`. Defaults to 0.5.
    """

    def __init__(self, min_cutoff: float = 1.0, beta: float = 0.5) -> None:
        self.min_cutoff, self.beta = min_cutoff, beta
        self.tracks: List[_Track] = []
        self.count = 0

    def __call__(
        self,
        keypoints: np.ndarray,
        bboxes: np.ndarray,
        time: float,
        radius: Optional[np.ndarray] = None,
    ) -> Tuple[np.ndarray, List[int]]:
        """Smooth the keypoints of one frame.

        Args:
            keypoints (np.ndarray): Image pixels, shape (N, K, 2).
            bboxes (np.ndarray): Boxes (x, y, w, h), shape (N, 4).
            time (float): Seconds; later than before.
            radius (np.ndarray, optional): How far off a keypoint may be in pixels, shape (N, K).
                2% of the box's size by default.

        Returns:
            tuple:
            - keypoints (np.ndarray): Shape (N, K, 2).
            - track_ids (list[int]): A number for each person, from 1.
        """
        self.tracks = [track for track in self.tracks if time - track.time <= MAX_GAP]
        tracks = self._follow(bboxes, time)
        if radius is None:
            size = np.sqrt(bboxes[:, 2] * bboxes[:, 3])
            radius = np.repeat(RELATIVE_NOISE * size[:, None], keypoints.shape[1], axis=1)
        radius = np.maximum(radius, 1e-6)  # a calibration may have found no error at all
        smoothed = np.empty_like(keypoints)
        for index, track in enumerate(tracks):
            smoothed[index] = track.filter(keypoints[index], time, radius[index])
        return smoothed, [track.number for track in tracks]

    def _follow(self, bboxes: np.ndarray, time: float) -> List[_Track]:
        """The track of each box: of the pairs that overlap enough, the best first."""
        found: List[Optional[_Track]] = [None] * len(bboxes)
        if self.tracks:
            overlaps = box_overlaps(bboxes, np.stack([track.box for track in self.tracks]))
            taken = set()
            for flat in np.argsort(-overlaps, axis=None, kind='stable'):
                box, track = divmod(int(flat), len(self.tracks))
                if overlaps[box, track] < MIN_OVERLAP:
                    break
                if found[box] is None and track not in taken:
                    found[box] = self.tracks[track]
                    taken.add(track)
        for index, box in enumerate(bboxes):
            if found[index] is None:
                self.count += 1
                one_euro = OneEuroFilter(self.min_cutoff, self.beta)
                found[index] = _Track(self.count, one_euro, box, time)
                self.tracks.append(found[index])
            found[index].box, found[index].time = box, time
        return found
