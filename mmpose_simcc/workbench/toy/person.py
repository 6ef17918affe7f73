# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A drawn person: a pose in three dimensions, and capsules around its limbs."""

from typing import Dict, List, NamedTuple, Set, Tuple

import numpy as np

from .canvas import Canvas

# COCO's keypoints, in its order
FACE = ('nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear')
KEYPOINTS = FACE + tuple(
    f'{side}_{joint}'
    for joint in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
    for side in ('left', 'right')
)
# Lengths over stature: R. Drillis, R. Contini, "Body segment parameters" (1966), as tabulated in
# D. Winter, "Biomechanics and Motor Control of Human Movement", figure 4.1.
UPPER_ARM, FOREARM, THIGH, SHANK, TRUNK = 0.186, 0.146, 0.245, 0.246, 0.295
SHOULDER_HALF_WIDTH, HIP_HALF_WIDTH, HEAD_RADIUS = 0.110, 0.070, 0.065
# places on the head over its radius: to the person's left, down, forward
FACE_PLACES = {
    'nose': (0.0, 0.2, 1.0),
    'left_eye': (0.42, -0.15, 0.9),
    'right_eye': (-0.42, -0.15, 0.9),
    'left_ear': (1.0, 0.05, 0.0),
    'right_ear': (-1.0, 0.05, 0.0),
}
# the parts on which a joint is seen
PARTS = ('trunk', 'head') + tuple(
    f'{side}_{part}'
    for side in ('left', 'right')
    for part in ('upper_arm', 'forearm', 'thigh', 'shank')
)
SHOWN_BY = {
    'shoulder': ('trunk', '{}_upper_arm'),
    'elbow': ('{}_upper_arm', '{}_forearm'),
    'wrist': ('{}_forearm',),
    'hip': ('trunk', '{}_thigh'),
    'knee': ('{}_thigh', '{}_shank'),
    'ankle': ('{}_shank',),
}


class Outfit(NamedTuple):
    """Colours (3,), BGR."""

    skin: np.ndarray
    shirt: np.ndarray
    trousers: np.ndarray
    hair: np.ndarray
    sleeves: bool


def label_of(person: int, part: str) -> int:
    """What ``Canvas.owner`` holds where a part of a person (from 1) is seen."""
    return person * len(PARTS) + PARTS.index(part)


def sample_outfit(rng: np.random.Generator) -> Outfit:
    """Draw colours at random."""
    tone = rng.uniform(0.35, 1)
    skin = np.float32([150, 180, 225]) * tone + rng.normal(0, 8, 3)
    shirt, trousers = rng.uniform(20, 235, (2, 3))
    hair = rng.uniform(10, 110) + rng.uniform(-10, 10, 3)
    return Outfit(skin, shirt, trousers, hair, bool(rng.random() < 0.6))


def _turn(degrees: float) -> np.ndarray:
    """Rotation about the vertical axis; at 0 a person faces the viewer."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _swing(flexion: float, abduction: float, side: int) -> np.ndarray:
    """Direction of a limb that hangs down at 0, 0 (degrees): flexion lifts it forward, abduction
    sideways; ``side`` is 1 for left, -1 for right."""
    f, a = np.deg2rad([flexion, abduction])
    return np.array([side * np.sin(a), np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])


def sample_pose(rng: np.random.Generator) -> Dict[str, np.ndarray]:
    """Draw a pose at random.

    Args:
        rng: Source of randomness; the pose depends on nothing else.

    Returns:
        dict: Name -> (3,) position over stature: x right, y down, z towards the viewer, the
        middle of the hips at the origin. COCO's keypoints, ``head`` and ``collar``.
    """
    yaw = rng.normal(0, 20) if rng.random() < 0.9 else rng.uniform(-180, 180)
    body, head = _turn(yaw), _turn(yaw + rng.normal(0, 12))
    left, down, _ = np.eye(3)
    collar = np.array([np.sin(np.deg2rad(rng.normal(0, 5))), -1, 0.0]) * TRUNK
    joints = dict(collar=collar)
    joints['head'] = collar - (0.07 + HEAD_RADIUS) * down + 0.02 * (body @ left) * rng.normal()
    for side, sign in (('left', 1), ('right', -1)):
        flexion, abduction = rng.normal(5, 25), abs(rng.normal(12, 12))
        elbow = abs(rng.normal(20, 30))
        if rng.random() < 0.2:  # a raised arm
            abduction = rng.uniform(60, 165)
        shoulder = collar + body @ (sign * SHOULDER_HALF_WIDTH * left)
        joints[f'{side}_shoulder'] = shoulder
        upper, fore = _swing(flexion, abduction, sign), _swing(flexion + elbow, abduction, sign)
        joints[f'{side}_elbow'] = shoulder + body @ upper * UPPER_ARM
        joints[f'{side}_wrist'] = joints[f'{side}_elbow'] + body @ fore * FOREARM

        flexion, abduction, knee = rng.normal(0, 18), abs(rng.normal(5, 6)), abs(rng.normal(8, 14))
        if rng.random() < 0.06:  # sits
            flexion, knee = rng.uniform(60, 95), rng.uniform(60, 100)
        hip = body @ (sign * HIP_HALF_WIDTH * left)
        thigh, shank = _swing(flexion, abduction, sign), _swing(flexion - knee, abduction, sign)
        joints[f'{side}_hip'] = hip
        joints[f'{side}_knee'] = hip + body @ thigh * THIGH
        joints[f'{side}_ankle'] = joints[f'{side}_knee'] + body @ shank * SHANK
    for name, place in FACE_PLACES.items():
        joints[name] = joints['head'] + head @ place * HEAD_RADIUS
    return joints


def draw_person(
    canvas: Canvas,
    joints: Dict[str, np.ndarray],
    outfit: Outfit,
    origin: Tuple[float, float],
    stature: float,
    person: int,
) -> Tuple[np.ndarray, List[Set[int]]]:
    """Draw a person, the farthest part first.

    Args:
        canvas: Painted in place.
        joints: See :func:`sample_pose`.
        outfit: Its colours.
        origin: Where the middle of its hips lies, (x, y) in pixels.
        stature: In pixels.
        person: Number from 1, for ``canvas.owner``.

    Returns:
        tuple: keypoints (17, 2) in pixels, COCO's order, and for each the labels that
        ``canvas.owner`` holds where it is seen, none where the head hides it.
    """

    def place(name):
        return np.asarray(origin) + joints[name][:2] * stature

    def capsule(part, start, end, r0, r1, colour):
        depth = (joints[start][2] + joints[end][2]) / 2
        return depth, part, place(start), place(end), r0 * stature, r1 * stature, colour

    limbs = []
    for side in ('left', 'right'):
        arm, leg = outfit.shirt, outfit.trousers
        shoulder, elbow, wrist, hip, knee, ankle = (
            f'{side}_{joint}' for joint in ('shoulder', 'elbow', 'wrist', 'hip', 'knee', 'ankle')
        )
        forearm = arm * 0.9 if outfit.sleeves else outfit.skin
        limbs += [
            capsule(f'{side}_upper_arm', shoulder, elbow, 0.036, 0.028, arm),
            capsule(f'{side}_forearm', elbow, wrist, 0.028, 0.020, forearm),
            capsule(f'{side}_thigh', hip, knee, 0.055, 0.040, leg),
            capsule(f'{side}_shank', knee, ankle, 0.040, 0.026, leg * 0.85),
            # shoulder, side and hip of the trunk
            capsule('trunk', shoulder, 'collar', 0.040, 0.040, outfit.shirt),
            capsule('trunk', shoulder, hip, 0.045, 0.045, outfit.shirt),
        ]
    limbs.append(capsule('trunk', 'collar', 'left_hip', 0.07, 0.07, outfit.shirt))
    limbs.append(capsule('trunk', 'collar', 'right_hip', 0.07, 0.07, outfit.shirt))
    limbs.append(capsule('head', 'collar', 'head', 0.03, HEAD_RADIUS, outfit.skin))
    for _, part, start, end, r0, r1, colour in sorted(limbs, key=lambda limb: limb[0]):
        canvas.capsule(start, end, r0, r1, colour, label_of(person, part), shaded=True)

    faces = joints['nose'][2] > joints['head'][2]
    if not faces:  # hair covers the back of the head
        radius = HEAD_RADIUS * stature
        hair = label_of(person, 'head')
        canvas.capsule(place('head'), place('head'), radius, radius, outfit.hair, hair)
    dark, light = outfit.hair * 0.4, outfit.skin * 0.75
    for name, radius, colour in (
        ('left_ear', 0.016, light),
        ('right_ear', 0.016, light),
        ('left_eye', 0.011, dark),
        ('right_eye', 0.011, dark),
        ('nose', 0.012, outfit.skin * 0.6),
    ):
        if joints[name][2] >= joints['head'][2] - 0.2 * HEAD_RADIUS:
            centre, radius = place(name), max(radius * stature, 0.6)
            canvas.capsule(centre, centre, radius, radius, colour, label_of(person, 'head'))
    seen = []
    for name in KEYPOINTS:
        side, _, joint = name.partition('_')
        if name in FACE:
            visible = joints[name][2] >= joints['head'][2] - 0.2 * HEAD_RADIUS
            seen.append({label_of(person, 'head')} if visible else set())
        else:
            seen.append({label_of(person, part.format(side)) for part in SHOWN_BY[joint]})
    return np.stack([place(name) for name in KEYPOINTS]), seen
