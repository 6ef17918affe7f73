# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Composes images of people: background, clutter, occluders, camera."""

from typing import List, NamedTuple

import cv2
import numpy as np

from .figure import Figure, sample_figure
from .person import LABELS, draw_person, sample_outfit, sample_texture
from .raster import Canvas

SIDES = (224, 256, 288)  # image widths and heights
OCCLUDER = -1  # its label on the canvas


class Person(NamedTuple):
    """An annotated person.

    Attributes:
        keypoints: (17, 3) float64: x, y in pixels (the centre of pixel i is
            at i) and COCO's visibility: 0 not labelled (x = y = 0), 1 hidden,
            2 visible.
        mask: (H, W) bool, the pixels where the person is seen.
        bbox: (4,) int, x, y, w, h of the mask.
    """

    keypoints: np.ndarray
    mask: np.ndarray
    bbox: np.ndarray


class Scene(NamedTuple):
    image: np.ndarray  # (H, W, 3) uint8, BGR
    people: List[Person]


def _paint(rng: np.random.Generator) -> np.ndarray:
    """A muted colour (3,) of a wall, a floor or a thing."""
    return np.float32(rng.uniform(90, 190) + rng.uniform(-10, 10, 3))


def _noise(rng: np.random.Generator, shape, cells: int) -> np.ndarray:
    """Smooth noise (H, W, 3) in -1..1 with about ``cells`` cells a side."""
    coarse = rng.uniform(-1, 1, (cells, cells, 3)).astype(np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _shape_mask(rng: np.random.Generator, shape, centre, size) -> np.ndarray:
    """A blob (H, W) in 0..1: rectangle, ellipse, polygon or pole."""
    mask = np.zeros(shape, np.uint8)
    centre = np.asarray(centre, float)
    kind = rng.integers(4)
    if kind == 0:
        cv2.ellipse(
            mask,
            (tuple(map(float, centre)), tuple(map(float, size)), float(rng.uniform(0, 180))),
            255,
            -1,
            cv2.LINE_AA,
        )
    elif kind == 1:
        end = centre + rng.uniform(-1.2, 1.2, 2) * max(size)
        cv2.line(
            mask,
            tuple(map(int, centre)),
            tuple(map(int, end)),
            255,
            max(2, int(min(size) * 0.4)),
            cv2.LINE_AA,
        )
    else:
        n = 4 if kind == 2 else int(rng.integers(3, 7))
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, n))
            if kind == 3
            else (np.arange(4) * np.pi / 2 + np.pi / 4 + rng.choice((0, rng.uniform(-0.5, 0.5))))
        )
        corners = centre + 0.7 * np.stack(
            [np.cos(angles) * size[0], np.sin(angles) * size[1]], axis=-1
        )
        cv2.fillPoly(mask, [np.int32(corners)], 255, cv2.LINE_AA)
    return mask.astype(np.float32) / 255


def _fill(rng: np.random.Generator, shape) -> np.ndarray:
    """A colour (3,) or a repeated texture (H, W, 3)."""
    if rng.random() < 0.5:
        return _paint(rng)
    tile = sample_texture(rng, _paint)
    tile = cv2.resize(tile, None, fx=float(rng.uniform(0.4, 1.5)), fy=1)
    rows, columns = (-(-n // m) for n, m in zip(shape, tile.shape))
    return np.tile(tile, (rows, columns, 1))[: shape[0], : shape[1]]


def draw_background(rng: np.random.Generator, shape) -> np.ndarray:
    """A wall and a floor with clutter, (H, W, 3) float32."""
    h, w = shape
    image = np.empty((h, w, 3), np.float32)
    image[:] = _paint(rng)
    horizon = int(h * rng.uniform(0.35, 0.9))
    image[horizon:] = _paint(rng)
    fade = np.linspace(-1, 1, h, dtype=np.float32)[:, None, None]
    image += rng.uniform(-40, 40) * fade
    for _ in range(rng.integers(1, 5)):
        blob = _shape_mask(
            rng, shape, rng.uniform(0, 1, 2) * (w, h), rng.uniform(0.03, 0.35, 2) * min(shape)
        )[..., None]
        image += blob * rng.uniform(0.3, 0.9) * (_fill(rng, shape) - image)
    image += rng.uniform(2, 8) * _noise(rng, shape, rng.integers(3, 9))
    image += rng.uniform(2, 10) * _noise(rng, shape, rng.integers(16, 60))
    if rng.random() < 0.7:  # out of focus
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 3))
    return image


def _place(rng: np.random.Generator, figure: Figure, shape, slot: float, largest: float):
    """Where a figure stands and how large.

    Args:
        rng: Source of randomness.
        figure: The posed body.
        shape: Image size (H, W).
        slot: Its place across the image, in 0..1.
        largest: Its largest size, over the size that fills the image.

    Returns:
        tuple: origin (x, y) and stature in pixels.
    """
    h, w = shape
    points = np.stack(list(figure.joints.values()))[:, :2]
    low, high = points.min(0) - 0.05, points.max(0) + 0.05
    fit = min(0.96 * w / (high - low)[0], 0.96 * h / (high - low)[1])
    if rng.random() < 0.04:  # too close: the border cuts the figure
        scale = fit * rng.uniform(1.1, 1.6)
        anchor = figure.joints[str(rng.choice(['collar', 'head', 'waist', 'left_hip']))][:2]
        target = rng.uniform((slot - 0.15, 0.2), (slot + 0.15, 0.55))
        return target * (w, h) - anchor * scale, scale
    scale = fit * rng.uniform(0.5, 1) * largest
    free = np.maximum((w, h) - (high - low) * scale, 0)
    target = np.array([np.clip(slot + rng.normal(0, 0.12), 0.02, 0.98), rng.uniform(0.3, 1)])
    return free * target - low * scale, scale


def _develop(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, blur and noise of a camera; moves nothing."""
    image = 128 + (image - 128) * rng.uniform(0.8, 1.2)
    image = image * rng.uniform(0.92, 1.08, 3).astype(np.float32) + rng.uniform(-20, 20)
    sigma = rng.uniform(0, 0.9)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    noise = rng.standard_normal(image.shape[:2], np.float32)
    image = image + rng.uniform(1, 5) * noise[..., None]
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _annotate(canvas: Canvas, person: int, keypoints: np.ndarray, labels) -> Person:
    """Reads off the canvas what is seen of a person."""
    mask = canvas.owner // LABELS == person
    if not mask.any():
        return None
    columns = np.flatnonzero(mask.any(0))
    rows = np.flatnonzero(mask.any(1))
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
    """Draws an image of one to three people.

    Args:
        rng: Source of randomness; the scene depends on nothing else.

    Returns:
        Scene: The image and its annotated people, without those of whom
        nothing is seen.
    """
    shape = tuple(int(n) for n in rng.choice(SIDES, 2))
    canvas = Canvas(draw_background(rng, shape))
    light = rng.normal((0, -0.5, 0.8), 0.4)
    light[2] = abs(light[2])
    light /= np.linalg.norm(light)

    number = int(rng.choice((1, 2, 3), p=(0.78, 0.17, 0.05)))
    slots = rng.permutation((np.arange(number) + 0.5) / number)
    drawn = []
    for person, slot in enumerate(slots, start=1):
        figure = sample_figure(rng)
        origin, scale = _place(rng, figure, shape, slot, 0.85 if number > 1 else 1)
        drawn.append(draw_person(canvas, figure, sample_outfit(rng), origin, scale, light, person))
    if rng.random() < 0.15:
        for _ in range(rng.integers(1, 3)):
            blob = _shape_mask(
                rng,
                shape,
                rng.uniform(0.05, 0.95, 2) * shape[::-1],
                rng.uniform(0.06, 0.25, 2) * min(shape),
            )
            fill = _fill(rng, shape)
            canvas.image += blob[..., None] * (fill - canvas.image)
            canvas.owner[blob >= 0.5] = OCCLUDER

    people = [
        _annotate(canvas, person, keypoints, labels)
        for person, (keypoints, labels) in enumerate(drawn, start=1)
    ]
    return Scene(_develop(rng, canvas.image), [p for p in people if p is not None])
