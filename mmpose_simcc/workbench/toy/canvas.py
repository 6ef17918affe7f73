# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws capsules with exact sub-pixel positions."""

from typing import Sequence, Tuple

import numpy as np


class Canvas:
    """An image and, for every pixel, what covers it.

    The centre of pixel i lies at coordinate i, as in MMPose, so that a shape lies where its
    coordinates say, without the rounding of polygon fillers.

    Attributes:
        image: (H, W, 3) float32, BGR, 0..255.
        owner: (H, W) int32, the label of the last shape that covers at least half of the pixel,
            0 for the background.
    """

    def __init__(self, image: np.ndarray) -> None:
        self.image = image.astype(np.float32)
        self.owner = np.zeros(image.shape[:2], np.int32)

    @property
    def shape(self) -> Tuple[int, int]:
        return self.owner.shape

    def capsule(
        self,
        start: Sequence[float],
        end: Sequence[float],
        r0: float,
        r1: float,
        colour: np.ndarray,
        label: int,
        shaded: bool = False,
    ) -> None:
        """Paint the hull of two discs: a limb, or a disc where both are the same.

        A pixel is covered by ``clip(0.5 - distance, 0, 1)``, where ``distance`` is the signed
        distance in pixels from its centre to the outline, negative inside.

        Args:
            start, end: Centres (x, y) of the discs in pixels.
            r0, r1: Their radii in pixels.
            colour: (3,), BGR.
            label: Written into ``owner``.
            shaded: Whether it gets darker towards its outline, like a tube.
        """
        start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
        reach = max(r0, r1) + 1
        low = np.maximum(np.floor(np.minimum(start, end) - reach), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(start, end) + reach) + 1, self.shape[::-1]).astype(int)
        if (low >= high).any():
            return
        window = slice(low[1], high[1]), slice(low[0], high[0])
        dx = np.arange(low[0], high[0], dtype=np.float32) - start[0]
        dy = np.arange(low[1], high[1], dtype=np.float32)[:, None] - start[1]
        axis = end - start
        squared = max(float(axis @ axis), 1e-6)
        along = np.clip((dx * axis[0] + dy * axis[1]) / squared, 0, 1)
        radius = r0 + (r1 - r0) * along
        distance = np.hypot(dx - along * axis[0], dy - along * axis[1]) - radius
        coverage = np.clip(0.5 - distance, 0, 1)
        if shaded:
            depth = np.clip(-distance / radius, 0, 1)  # 0 at the outline, 1 on the axis
            colour = colour * (0.6 + 0.4 * np.sqrt(depth))[..., None]
        below = self.image[window]
        below += coverage[..., None] * (colour - below)
        self.owner[window][coverage >= 0.5] = label
