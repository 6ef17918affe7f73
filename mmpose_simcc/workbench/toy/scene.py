# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Composes images of people: background, clutter, occluders, camera."""

from typing import Dict, List, NamedTuple, Optional

import cv2
import numpy as np

from .canvas import Canvas
from .person import PARTS, draw_person, sample_outfit, sample_pose

SIDES = (224, 256, 288)  # image widths and heights
OCCLUDER = -1  # its label on the canvas


class Person(NamedTuple):
    """An annotated person.

    Attributes:
        keypoints (np.ndarray): x and y in pixels (the centre of pixel i is at i) and COCO's
            visibility: 0 not labelled (x = y = 0), 1 hidden, 2 visible. Shape (17, 3).
        mask (np.ndarray): The pixels where the person is seen, bool, shape (H, W).
        bbox (np.ndarray): x, y, width and height of the mask, int, shape (4,).
    """

    keypoints: np.ndarray
    mask: np.ndarray
    bbox: np.ndarray


class Scene(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8, BGR
    people: List[Person]


def _smooth_noise(rng: np.random.Generator, shape, cells: int) -> np.ndarray:
    """Noise (H, W, 3) in -1..1 with about ``cells`` cells a side."""
    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _thing(rng: np.random.Generator, canvas: Canvas, size: float, label: int) -> None:
    """Draw a pole, a post or a ball somewhere; ``size`` is over the image's."""
    h, w = canvas.shape
    start = rng.uniform(0, 1, 2) * (w, h)
    end = start + rng.uniform(-1, 1, 2) * size * min(h, w)
    r0, r1 = rng.uniform(0.1, 0.5, 2) * size * min(h, w)
    canvas.capsule(start, end, r0, r1, rng.uniform(30, 220, 3), label, shaded=rng.random() < 0.5)


def _background(rng: np.random.Generator, shape) -> Canvas:
    """A wall and a floor with clutter."""
    h, w = shape
    image = np.empty((h, w, 3), np.float32)
    image[:] = rng.uniform(60, 200, 3)
    image[int(h * rng.uniform(0.35, 0.9)) :] = rng.uniform(60, 200, 3)
    canvas = Canvas(image)
    for _ in range(rng.integers(2, 7)):
        _thing(rng, canvas, rng.uniform(0.05, 0.35), 0)
    for cells in (rng.integers(3, 9), rng.integers(16, 60)):
        canvas.image += rng.uniform(2, 12) * _smooth_noise(rng, shape, cells)
    return canvas


def _place(rng: np.random.Generator, joints: Dict[str, np.ndarray], shape, slot: float, room):
    """Where a person stands: (x, y) of the hips, and the stature in pixels. ``slot`` in 0..1 is the
    place across the image, ``room`` the largest size, relative to one that fills the image."""
    h, w = shape
    points = np.stack(list(joints.values()))[:, :2]
    low, high = points.min(0) - 0.08, points.max(0) + 0.08
    stature = 0.96 * min(w / (high - low)[0], h / (high - low)[1]) * rng.uniform(0.5, 1) * room
    free = np.maximum((w, h) - (high - low) * stature, 0)
    across = np.clip(slot + rng.normal(0, 0.12), 0.02, 0.98)
    origin = free * (across, rng.uniform(0.3, 1)) - low * stature
    if rng.random() < 0.04:  # the border cuts it
        origin += rng.uniform(-0.2, 0.2, 2) * (w, h)
    return origin, stature


def _develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, blur and noise of a camera; moves nothing."""
    image = (128 + (image - 128) * rng.uniform(0.8, 1.2)) * rng.uniform(0.92, 1.08, 3)
    image = image.astype(np.float32) + rng.uniform(-20, 20)
    sigma = rng.uniform(0, 0.9)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    noise = rng.standard_normal(image.shape[:2], np.float32)
    image = image + rng.uniform(1, 5) * noise[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _annotate(canvas: Canvas, person: int, keypoints: np.ndarray, labels) -> Optional[Person]:
    """Read off the canvas what is seen of a person; None if that is nothing."""
    mask = canvas.owner // len(PARTS) == person
    if not mask.any():
        return None
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    bbox = np.array([columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1])
    # annotations have two decimals
    keypoints = np.concatenate([np.round(keypoints, 2), np.zeros((len(keypoints), 1))], axis=1)
    h, w = canvas.shape
    for keypoint, seen in zip(keypoints, labels):
        x, y = np.rint(keypoint[:2]).astype(int)
        inside = 0 <= x < w and 0 <= y < h
        if inside and canvas.owner[y, x] in seen:
            keypoint[2] = 2
        elif inside and (0 <= x - bbox[0] < bbox[2] and 0 <= y - bbox[1] < bbox[3]):
            # hidden, but placed by what is seen around it
            keypoint[2] = 1
        else:
            keypoint[:] = 0
    return Person(keypoints, mask, bbox)


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw an image of one to three people.

    Args:
        rng (np.random.Generator): The scene depends on nothing else.

    Returns:
        Scene: The image and its annotated people, without those of whom nothing is seen.
    """
    shape = tuple(int(n) for n in rng.choice(SIDES, 2))
    canvas = _background(rng, shape)
    number = int(rng.choice((1, 2, 3), p=(0.78, 0.17, 0.05)))
    slots = rng.permutation((np.arange(number) + 0.5) / number)
    drawn = []
    for person, slot in enumerate(slots, start=1):
        joints = sample_pose(rng)
        origin, stature = _place(rng, joints, shape, slot, 0.85 if number > 1 else 1)
        drawn.append(draw_person(canvas, joints, sample_outfit(rng), origin, stature, person))
    if rng.random() < 0.25:
        _thing(rng, canvas, rng.uniform(0.1, 0.3), OCCLUDER)
    people = [
        _annotate(canvas, person, keypoints, labels)
        for person, (keypoints, labels) in enumerate(drawn, start=1)
    ]
    return Scene(_develop(rng, canvas.image), [p for p in people if p is not None])
