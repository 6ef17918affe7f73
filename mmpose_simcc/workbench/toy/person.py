# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Dresses a figure and draws it."""

from typing import NamedTuple

import cv2
import numpy as np

from .figure import FACE, KEYPOINTS, Figure
from .raster import Canvas, Surface, capsule, ellipse, ellipsoid, rounded_hull

TILE = 64  # texture tiles are TILE x TILE and repeat every quarter stature
LABELS = 16  # labels a person takes on the canvas: its number * 16 + part
PARTS = (
    'head',
    'trunk',
    'left_upper_arm',
    'right_upper_arm',
    'left_forearm',
    'right_forearm',
    'left_thigh',
    'right_thigh',
    'left_shank',
    'right_shank',
)
# the parts whose surface shows a keypoint
SHOWN_BY = {
    'shoulder': ('trunk', '{}_upper_arm'),
    'elbow': ('{}_upper_arm', '{}_forearm'),
    'wrist': ('{}_forearm',),
    'hip': ('trunk', '{}_thigh'),
    'knee': ('{}_thigh', '{}_shank'),
    'ankle': ('{}_shank',),
}


class Outfit(NamedTuple):
    """Colours (3,) BGR, texture tiles (TILE, TILE, 3), and cut.

    ``sleeve`` and ``leg`` tell how many segments (0 to 2) of an arm and a
    leg the cloth covers.
    """

    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    shoes: np.ndarray
    sleeve: float
    leg: float
    skirt: bool
    long_hair: bool
    bald: bool
    beard: bool


def dye(low: float, high: float):
    """Draws cloth colours (3,) whose hue lies between two angles."""

    def colour(rng: np.random.Generator) -> np.ndarray:
        hue = rng.uniform(low, high) % 360
        saturation, value = rng.uniform(0.6, 1), rng.uniform(0.45, 1)
        pixel = np.float32([[[hue, saturation, value]]])
        return 245 * cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0]

    return colour


# Each piece of clothing has hues of its own, so that a network tells them
# apart within minutes.
SHIRT, TROUSERS, SHOES = dye(-30, 5), dye(195, 250), dye(90, 150)


def sample_texture(rng: np.random.Generator, colour) -> np.ndarray:
    """A tile (TILE, TILE, 3): plain, stripes, checks, dots, noise or a
    gradient between two colours that ``colour(rng)`` draws."""
    first, second = colour(rng), colour(rng)
    u, v = np.mgrid[:TILE, :TILE].astype(np.float32) / TILE
    n = rng.integers(2, 7)
    kind = rng.choice(6, p=(0.4, 0.18, 0.12, 0.08, 0.08, 0.14))
    if kind == 0:
        blend = np.zeros_like(u)
    elif kind == 1:
        blend = ((u, v)[rng.integers(2)] * n) % 1 < rng.uniform(0.25, 0.6)
    elif kind == 2:
        blend = ((u * n) % 1 < 0.5) * 0.5 + ((v * n) % 1 < 0.5) * 0.5
    elif kind == 3:
        blend = np.hypot((u * n) % 1 - 0.5, (v * n) % 1 - 0.5) < 0.3
    elif kind == 4:
        blend = rng.random((TILE // 4, TILE // 4)).repeat(4, 0).repeat(4, 1)
    else:
        blend = 0.5 - 0.5 * np.cos(2 * np.pi * u)
    return first + np.float32(blend)[..., None] * (second - first)


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Draws clothes, skin and hair at random."""
    tone = rng.uniform(0, 1)
    skin = (
        (1 - tone) * np.array([178, 205, 240])
        + tone * np.array([45, 70, 110])
        + rng.normal(0, 8, 3)
    )
    hair = np.array([[25, 28, 35], [30, 55, 90], [90, 150, 200], [150, 155, 160], [30, 60, 140]])[
        rng.choice(5, p=(0.4, 0.25, 0.15, 0.1, 0.1))
    ]
    long_hair = rng.random() < 0.25
    return Outfit(
        skin=np.float32(skin),
        hair=np.float32(hair + rng.normal(0, 8, 3)),
        iris=np.float32(rng.uniform(10, 70, 3)),
        shirt=sample_texture(rng, SHIRT),
        trousers=sample_texture(rng, TROUSERS),
        shoes=sample_texture(rng, SHOES),
        sleeve=rng.choice((0.0, 0.6, 1.0, 1.95), p=(0.1, 0.4, 0.1, 0.4)),
        leg=rng.choice((0.5, 1.3, 1.95), p=(0.3, 0.1, 0.6)),
        skirt=bool(rng.random() < 0.12),
        long_hair=bool(long_hair),
        bald=bool(not long_hair and rng.random() < 0.1),
        beard=bool(not long_hair and rng.random() < 0.2),
    )


class _Painter:
    """Draws the parts of one person, each lit and textured."""

    def __init__(
        self,
        canvas: Canvas,
        figure: Figure,
        outfit: Outfit,
        origin,
        scale: float,
        light,
        person: int,
    ):
        self.canvas = canvas
        self.figure = figure
        self.outfit = outfit
        self.origin = np.asarray(origin, float)
        self.scale = scale
        self.light = np.asarray(light, float)
        self.person = person

    def place(self, point) -> np.ndarray:
        """Pixel coordinates (x, y) of a point of the figure."""
        return self.origin + self.scale * np.asarray(point)[:2]

    def label(self, part: str) -> int:
        return self.person * LABELS + PARTS.index(part)

    def shade(self, normal) -> np.ndarray:
        lit = np.clip(normal @ self.light, 0, None)
        return (0.5 + 0.6 * lit)[..., None]

    def cloth(self, tile, surface: Surface) -> np.ndarray:
        index = (surface.uv * (4 * TILE / self.scale)).astype(int) % TILE
        return tile[index[..., 0], index[..., 1]]

    def limb(
        self, part: str, start: str, end: str, r0: float, r1: float, tile, covered: float
    ) -> None:
        """A limb segment, in cloth up to a fraction of its length."""
        joints, girth = self.figure.joints, self.figure.girth * self.scale
        surface = capsule(
            self.canvas.shape,
            self.place(joints[start]),
            self.place(joints[end]),
            r0 * girth,
            r1 * girth,
        )
        if surface is None:
            return
        length = np.hypot(*(self.place(joints[end]) - self.place(joints[start])))
        dressed = surface.uv[..., :1] < covered * length
        if covered <= 0:
            dressed[:] = False
        colour = np.where(dressed, self.cloth(tile, surface), self.outfit.skin)
        self.canvas.paint(surface, colour * self.shade(surface.normal), self.label(part))

    def hull(self, points, radius: float, tile) -> None:
        up = self.figure.chest[:2, 1]
        surface = rounded_hull(
            self.canvas.shape,
            [self.place(p) for p in points],
            radius * self.figure.girth * self.scale,
            up,
        )
        if surface is not None:
            self.canvas.paint(
                surface, self.cloth(tile, surface) * self.shade(surface.normal), self.label('trunk')
            )

    def chest(self) -> None:
        joints = self.figure.joints
        depth = self.figure.chest[:, 2] * 0.022
        points = [0.65 * joints['collar'] + 0.35 * joints['head_base']]
        for side in ('left', 'right'):
            hip = joints[f'{side}_hip']
            shoulder = 0.88 * joints[f'{side}_shoulder'] + 0.12 * joints['collar']
            for point in (shoulder, joints['waist'] + 0.75 * hip):
                points += [point + depth, point - depth]
        self.hull(points, 0.036, self.outfit.shirt)

    def head(self) -> None:
        figure, outfit = self.figure, self.outfit
        centre = figure.joints['head']
        radii = figure.head_radii * self.scale
        if not outfit.bald:  # the hair's thickness, seen around the head
            shell = ellipsoid(
                self.canvas.shape,
                self.place(centre + figure.head @ (0.0, -0.005, -0.006)),
                radii * 1.06,
                figure.head,
            )
            if shell is not None:
                self.canvas.paint(shell, outfit.hair * 0.8, self.label('head'))
        surface = ellipsoid(self.canvas.shape, self.place(centre), radii, figure.head)
        if surface is None:
            return
        unit = surface.normal
        normal = unit / figure.head_radii @ figure.head.T
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        hairy = unit @ (0.0, -0.8, -0.6) > (-0.05 if outfit.long_hair else 0.22)
        hairy &= not outfit.bald
        if outfit.beard:
            hairy |= unit @ (0.0, 0.85, 0.53) > 0.86
        colour = np.where(hairy[..., None], outfit.hair, outfit.skin)
        self.canvas.paint(surface, colour * self.shade(normal), self.label('head'))
        self.face()

    def facing(self, name: str) -> float:
        """How much a place on the head faces the viewer, -1 to 1."""
        normal = FACE[name] / self.figure.head_radii
        return float((self.figure.head @ normal)[2] / np.linalg.norm(normal))

    def shows(self, name: str) -> bool:
        """Whether the head itself lets a feature be seen."""
        if name.endswith('ear'):
            return self.facing(name) > -0.25 and not self.outfit.long_hair
        return self.facing(name) > (-0.1 if name == 'nose' else 0.15)

    def mark(self, name: str, radii, colour, opacity: float = 1.0, offset=(0.0, 0.0)) -> None:
        """A flat mark on the face, sizes over the head's half width."""
        head = self.figure.head
        unit = self.figure.head_radii[0] * self.scale
        angle = np.arctan2(head[1, 0], head[0, 0])
        narrow = max(abs(self.facing(name)), 0.35)
        if name.endswith('ear'):  # seen from the side, it is wide
            angle, narrow = np.arctan2(-head[0, 1], head[1, 1]), narrow * 0.9
        centre = self.place(self.figure.joints[name]) + unit * head[:2, :2] @ offset
        self.canvas.paint(
            ellipse(self.canvas.shape, centre, (radii[0] * narrow * unit, radii[1] * unit), angle),
            colour,
            self.label('head'),
            opacity,
        )

    def face(self) -> None:
        skin, hair, iris = self.outfit[:3]
        white = np.float32([235, 240, 240])
        light = self.shade(self.figure.head[:, 2]).item()
        for side in ('left', 'right'):
            if self.shows(f'{side}_ear'):
                self.mark(f'{side}_ear', (0.42, 0.36), skin * 0.85 * light)
                self.mark(f'{side}_ear', (0.22, 0.2), skin * 0.5 * light)
            if self.shows(f'{side}_eye'):
                self.mark(f'{side}_eye', (0.3, 0.09), hair * 0.7, 0.8, (0.0, -0.32))
                self.mark(f'{side}_eye', (0.28, 0.17), white * light)
                self.mark(f'{side}_eye', (0.15, 0.15), iris)
        if self.shows('mouth'):
            self.mark('mouth', (0.36, 0.09), skin * (0.5, 0.45, 0.75), 0.9)
        if self.shows('nose'):
            joints, unit = self.figure.joints, self.figure.head_radii[0]
            bridge = joints['head'] + self.figure.head @ (
                (0.0, -0.12, 0.95) * self.figure.head_radii
            )
            nose = capsule(
                self.canvas.shape,
                self.place(bridge),
                self.place(joints['nose']),
                0.08 * unit * self.scale,
                0.17 * unit * self.scale,
            )
            if nose is not None:
                self.canvas.paint(nose, skin * 0.8 * self.shade(nose.normal), self.label('head'))

    def draw(self) -> None:
        """Paints the parts, the far ones first."""
        joints, outfit = self.figure.joints, self.outfit

        def depth(*names):
            return np.mean([joints[name][2] for name in names])

        jobs = [
            (
                depth('head', 'collar') - 0.02,
                lambda: self.limb('trunk', 'collar', 'head_base', 0.034, 0.03, outfit.shirt, 0),
            )
        ]
        jobs.append((depth('head') + 0.02, self.head))
        jobs.append((depth('waist', 'collar') + 0.02, self.chest))
        back = joints['head'] - 0.3 * self.figure.head[:, 2] * 0.06
        if outfit.long_hair:
            nape = joints['collar'] - 0.05 * self.figure.chest[:, 2]
            jobs.append(((back[2] + nape[2]) / 2, lambda: self.long_hair(back, nape)))
        jobs.append((depth('left_hip', 'right_hip') + 0.01, self.pelvis))
        for s in ('left', 'right'):
            jobs += [
                (
                    depth(f'{s}_shoulder', f'{s}_elbow') + 0.03,
                    lambda s=s: self.limb(
                        f'{s}_upper_arm',
                        f'{s}_shoulder',
                        f'{s}_elbow',
                        0.034,
                        0.026,
                        outfit.shirt,
                        outfit.sleeve,
                    ),
                ),
                (depth(f'{s}_elbow', f'{s}_wrist') + 0.04, lambda s=s: self.forearm(s)),
                (
                    depth(f'{s}_hip', f'{s}_knee'),
                    lambda s=s: self.limb(
                        f'{s}_thigh',
                        f'{s}_hip',
                        f'{s}_knee',
                        0.052,
                        0.036,
                        outfit.trousers,
                        outfit.leg,
                    ),
                ),
                (depth(f'{s}_knee', f'{s}_ankle'), lambda s=s: self.shank(s)),
            ]
        for _, job in sorted(jobs, key=lambda job: job[0]):
            job()

    def forearm(self, s: str) -> None:
        self.limb(f'{s}_forearm', f'{s}_wrist', f'{s}_hand', 0.019, 0.017, self.outfit.shirt, 0)
        self.limb(
            f'{s}_forearm',
            f'{s}_elbow',
            f'{s}_wrist',
            0.026,
            0.018,
            self.outfit.shirt,
            self.outfit.sleeve - 1,
        )

    def shank(self, s: str) -> None:
        self.limb(f'{s}_shank', f'{s}_ankle', f'{s}_toes', 0.024, 0.02, self.outfit.shoes, 2)
        self.limb(
            f'{s}_shank',
            f'{s}_knee',
            f'{s}_ankle',
            0.036,
            0.021,
            self.outfit.trousers,
            self.outfit.leg - 1,
        )

    def pelvis(self) -> None:
        joints = self.figure.joints
        points = []
        for side in ('left', 'right'):
            hip = joints[f'{side}_hip']
            points += [hip, joints['waist'] + 0.75 * hip]
            if self.outfit.skirt:
                points.append(0.35 * hip + 0.65 * joints[f'{side}_knee'])
        self.hull(points, 0.05, self.outfit.trousers)

    def long_hair(self, start, end) -> None:
        surface = capsule(
            self.canvas.shape,
            self.place(start),
            self.place(end),
            1.12 * self.figure.head_radii[0] * self.scale,
            0.9 * self.figure.head_radii[0] * self.scale,
        )
        if surface is not None:
            self.canvas.paint(
                surface, self.outfit.hair * self.shade(surface.normal), self.label('head')
            )

    def self_occluded(self, name: str) -> bool:
        """Whether a keypoint lies on the far side of its own part."""
        joints = self.figure.joints
        if name in FACE:
            return not self.shows(name)
        if name.endswith('shoulder'):
            return joints[name][2] < joints['collar'][2] - 0.05
        if name.endswith('hip'):
            return joints[name][2] < -0.035
        return False


def draw_person(
    canvas: Canvas, figure: Figure, outfit: Outfit, origin, scale: float, light, person: int
):
    """Draws a figure onto a canvas.

    Args:
        canvas: Painted in place.
        figure: The posed body.
        outfit: Its clothes and colours.
        origin: Where its mid-hip lies, (x, y) in pixels.
        scale: Its stature in pixels.
        light: (3,) unit vector towards the light, in the viewer's frame.
        person: Number from 1, for ``canvas.owner``.

    Returns:
        tuple: keypoints (17, 2) in pixels, COCO's order, and for each the
        labels (a set of ints) that ``canvas.owner`` holds where it is seen;
        an empty set where its own body part hides it.
    """
    painter = _Painter(canvas, figure, outfit, origin, scale, light, person)
    painter.draw()
    keypoints = np.stack([painter.place(figure.joints[k]) for k in KEYPOINTS])
    labels = []
    for name in KEYPOINTS:
        side, _, joint = name.partition('_')
        parts = ('head',) if name in FACE else SHOWN_BY[joint]
        labels.append(
            set()
            if painter.self_occluded(name)
            else {painter.label(part.format(side)) for part in parts}
        )
    return keypoints, labels
