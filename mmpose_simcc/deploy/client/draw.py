# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws skeletons."""

from typing import Optional

import numpy as np

from .packages import cv2
from .pose import PoseSession

SUBPIXEL_BITS = 4


def draw_skeleton(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    model: PoseSession,
    score_thr: float = 0.3,
    radii: Optional[np.ndarray] = None,
) -> None:
    """Draw one person, in place.

    Args:
        image (np.ndarray): uint8, BGR, shape (H, W, 3).
        keypoints (np.ndarray): Image pixels, shape (K, 2).
        scores (np.ndarray): Shape (K,).
        model (PoseSession): Knows the skeleton and its colours.
        score_thr (float): Keypoints below are not drawn. Defaults to 0.3.
        radii (np.ndarray, optional): Of circles around the keypoints, image pixels, shape (K,).
    """
    # far off the picture OpenCV's integers would overflow
    drawn = (scores >= score_thr) & (np.abs(keypoints) < 1e5).all(axis=-1)
    if not drawn.any():
        return
    # as thick as suits the person
    extent = np.ptp(keypoints[drawn], axis=0).max()
    radius = int(np.clip(extent / 60, 2, max(image.shape) / 100 + 2))
    points = np.round(np.where(drawn[:, None], keypoints, 0) * 2**SUBPIXEL_BITS)
    points = points.astype(int).tolist()
    for (start, end), color in zip(model.skeleton, model.metadata['skeleton_colors']):
        if drawn[start] and drawn[end]:
            cv2.line(
                image,
                points[start],
                points[end],
                color[::-1],
                max(1, radius * 2 // 3),
                cv2.LINE_AA,
                SUBPIXEL_BITS,
            )
    for index in np.flatnonzero(drawn):
        point, color = points[index], model.metadata['keypoint_colors'][index][::-1]
        circles = [(radius + 1, (255, 255, 255), -1), (radius, color, -1)]
        if radii is not None:
            circles.append((float(radii[index]), color, 1))
        for size, fill, thickness in circles:
            size = round(size * 2**SUBPIXEL_BITS)
            cv2.circle(image, point, size, fill, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
