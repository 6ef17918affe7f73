# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Draws solid shapes with exact sub-pixel positions.

Every shape is a signed distance in pixels (negative inside), evaluated at
pixel centres; a pixel is covered by ``clip(0.5 - distance, 0, 1)``. The
centre of pixel i lies at coordinate i, as in MMPose, so a shape lies where its
coordinates say, without the rounding of polygon fillers.
"""

from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np


class Surface(NamedTuple):
    """A shape as seen in the pixels of a window of the image.

    Attributes:
        window: Rows and columns of the image, (h, w) pixels.
        distance: (h, w) signed distance to the outline, in pixels.
        normal: (h, w, 3) unit vectors (x right, y down, z to the viewer).
        uv: (h, w, 2) texture coordinates in pixels: along and across.
    """

    window: Tuple[slice, slice]
    distance: np.ndarray
    normal: np.ndarray
    uv: np.ndarray


def _window(low, high, shape) -> Optional[Tuple[slice, slice]]:
    """Rows and columns between two corners (x, y), one pixel added."""
    x0, y0 = np.maximum(np.floor(low).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(high).astype(int) + 2, shape[1::-1])
    if x0 >= x1 or y0 >= y1:
        return None
    return slice(y0, y1), slice(x0, x1)


def _grid(window) -> Tuple[np.ndarray, np.ndarray]:
    rows, columns = window
    x = np.arange(columns.start, columns.stop, dtype=np.float32)
    y = np.arange(rows.start, rows.stop, dtype=np.float32)
    return x[None, :], y[:, None]


def _bulge(across_x, across_y, inside) -> np.ndarray:
    """Normals of a rounded surface from its slope within the image plane."""
    normal = np.stack([across_x, across_y, inside], axis=-1)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)


def capsule(shape, start, end, r0: float, r1: float) -> Optional[Surface]:
    """A limb: the hull of two balls.

    Args:
        shape: Image size (H, W).
        start, end: Centres (x, y) of the balls in pixels.
        r0, r1: Their radii in pixels.

    Returns:
        Surface or None: None where the limb lies outside the image.
    """
    start, end = np.float32(start), np.float32(end)
    reach = max(r0, r1)
    window = _window(np.minimum(start, end) - reach, np.maximum(start, end) + reach, shape)
    if window is None:
        return None
    x, y = _grid(window)
    axis = end - start
    length = float(np.hypot(*axis))
    ux, uy = axis / length if length > 0 else (1.0, 0.0)
    dx, dy = x - start[0], y - start[1]
    along = dx * ux + dy * uy
    across = dy * ux - dx * uy
    t = np.clip(along / max(length, 1e-3), 0, 1)
    distance = np.hypot(along - t * length, across)
    radius = r0 + (r1 - r0) * t
    inside = np.sqrt(np.maximum(radius**2 - across**2, 0))
    # lit like a tube up to the ends, so that joints show no rims
    return Surface(
        window,
        distance - radius,
        _bulge(-uy * across, ux * across, inside),
        np.stack([along, across], axis=-1),
    )


def rounded_hull(shape, points, radius: float, up) -> Optional[Surface]:
    """A torso part: the convex hull of equal balls.

    Args:
        shape: Image size (H, W).
        points: Centres (N, 2) of the balls in pixels.
        radius: Their radius in pixels.
        up: Direction (x, y) along which the texture runs.
    """
    points = np.float32(points)
    window = _window(points.min(0) - radius, points.max(0) + radius, shape)
    if window is None:
        return None
    x, y = _grid(window)
    corners = cv2.convexHull(points).reshape(-1, 2)
    turn = np.sign(cv2.contourArea(corners, oriented=True))
    nearest = np.full((y.size, x.size), np.inf, np.float32)
    beyond = np.full_like(nearest, -np.inf)
    for a, b in zip(corners, np.roll(corners, -1, axis=0)):
        edge = b - a
        squared = max(float(edge @ edge), 1e-6)
        dx, dy = x - a[0], y - a[1]
        t = np.clip((dx * edge[0] + dy * edge[1]) / squared, 0, 1)
        nearest = np.minimum(nearest, np.hypot(dx - t * edge[0], dy - t * edge[1]))
        beyond = np.maximum(beyond, turn * (dx * edge[1] - dy * edge[0]) / squared**0.5)
    distance = np.where(beyond < 0, -nearest, nearest) - radius
    slope_y, slope_x = (
        np.gradient(distance) if min(distance.shape) > 1 else (distance * 0, distance * 0)
    )
    # flat in the middle, rounded over one and a half radii at the outline
    rim = np.clip(1 + distance / (1.5 * radius), 0, 0.98)
    up = np.float32(up) / max(float(np.hypot(*up)), 1e-6)
    dx, dy = x - points[0, 0], y - points[0, 1]
    uv = np.stack([dx * up[0] + dy * up[1], dy * up[0] - dx * up[1]], axis=-1)
    return Surface(window, distance, _bulge(slope_x * rim, slope_y * rim, np.sqrt(1 - rim**2)), uv)


def ellipsoid(shape, centre, radii, rotation) -> Optional[Surface]:
    """A head: an ellipsoid seen from far away.

    Args:
        shape: Image size (H, W).
        centre: Centre (x, y) in pixels.
        radii: Half axes (3,) in pixels in the ellipsoid's own frame.
        rotation: (3, 3), columns are its axes in the viewer's frame.

    Returns:
        Surface or None: ``normal`` is the outward direction on the UNIT ball
        in the ellipsoid's own frame, so that (0, 0, 1) is its front.
    """
    # outline: q^T S^-1 q = 1 with S the covariance's image plane block
    shape_matrix = rotation @ np.diag(np.square(radii)) @ rotation.T
    plane = shape_matrix[:2, :2]
    extent = np.sqrt(np.diag(plane))
    window = _window(centre - extent, centre + extent, shape)
    if window is None:
        return None
    x, y = _grid(window)
    q = np.stack(np.broadcast_arrays(x - centre[0], y - centre[1]), axis=-1)
    pulled = q @ np.linalg.inv(plane)
    level = np.sqrt(np.maximum((q * pulled).sum(-1), 1e-9))
    # first order distance: level set value over its slope
    distance = (level - 1) * level / np.maximum(np.linalg.norm(pulled, axis=-1), 1e-9)
    inverse = rotation @ np.diag(1 / np.square(radii)) @ rotation.T
    # nearest point of the surface: solve for z, given x and y
    b = q @ inverse[:2, 2]
    a, c = inverse[2, 2], (q @ inverse[:2, :2] * q).sum(-1) - 1
    z = (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a
    surface = np.concatenate([q, z[..., None]], axis=-1)
    unit = (surface @ rotation) / radii
    return Surface(window, distance, unit, q)


def ellipse(shape, centre, radii, angle: float = 0.0) -> Optional[Surface]:
    """A flat mark such as an iris; ``radii`` (2,) in pixels, angle in rad."""
    centre = np.float32(centre)
    reach = max(radii)
    window = _window(centre - reach, centre + reach, shape)
    if window is None:
        return None
    x, y = _grid(window)
    c, s = np.cos(angle), np.sin(angle)
    dx, dy = x - centre[0], y - centre[1]
    u, v = c * dx + s * dy, c * dy - s * dx
    level = np.hypot(u / radii[0], v / radii[1])
    slope = np.hypot(u / radii[0] ** 2, v / radii[1] ** 2)
    distance = (level - 1) * np.maximum(level, 1e-6) / np.maximum(slope, 1e-6)
    normal = np.zeros(distance.shape + (3,), np.float32)
    normal[..., 2] = 1
    return Surface(window, distance, normal, np.stack([u, v], axis=-1))


class Canvas:
    """An image and, for every pixel, what covers it.

    Attributes:
        image: (H, W, 3) float32, BGR, 0..255.
        owner: (H, W) int32, label of the shape that covers most of the pixel
            (the last one drawn), 0 for the background.
    """

    def __init__(self, image: np.ndarray):
        self.image = image.astype(np.float32)
        self.owner = np.zeros(image.shape[:2], np.int32)

    @property
    def shape(self) -> Tuple[int, int]:
        return self.owner.shape

    def paint(self, surface: Optional[Surface], colour, label: int, opacity: float = 1.0) -> None:
        """Lays a shape over the image.

        Args:
            surface: What to paint; None paints nothing.
            colour: (3,) or (h, w, 3), BGR.
            label: Written into ``owner`` where the shape covers half a
                pixel or more.
            opacity: 1 hides what is below.
        """
        if surface is None:
            return
        coverage = np.clip(0.5 - surface.distance, 0, 1)
        below = self.image[surface.window]
        below += (coverage * opacity)[..., None] * (colour - below)
        self.owner[surface.window][coverage >= 0.5] = label
