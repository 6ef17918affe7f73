# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Poses of an articulated body in three dimensions.

Lengths are fractions of the stature. Body frame: x to the person's left,
y down, z forward; a person whose frame is the viewer's faces the viewer, with
the left hand on the viewer's right.
"""

from typing import Dict, NamedTuple

import numpy as np

# Segment lengths over stature: R. Drillis, R. Contini, "Body segment
# parameters" (1966), as tabulated in D. Winter, "Biomechanics and Motor
# Control of Human Movement", figure 4.1.
UPPER_ARM, FOREARM, HAND = 0.186, 0.146, 0.085
THIGH, SHANK, FOOT = 0.245, 0.246, 0.10
SHOULDER_HALF_WIDTH, HIP_HALF_WIDTH = 0.110, 0.070
PELVIS_LENGTH, CHEST_LENGTH = 0.115, 0.180
HEAD_RADII = np.array([0.052, 0.069, 0.062])  # half width, height, depth

# what a figure does, and how often
ACTIONS = ('stand', 'walk', 'reach', 'sit', 'bend', 'free')
ACTION_ODDS = (0.54, 0.27, 0.11, 0.03, 0.02, 0.03)


# COCO's keypoints, in its order
KEYPOINTS = (
    'nose',
    'left_eye',
    'right_eye',
    'left_ear',
    'right_ear',
    'left_shoulder',
    'right_shoulder',
    'left_elbow',
    'right_elbow',
    'left_wrist',
    'right_wrist',
    'left_hip',
    'right_hip',
    'left_knee',
    'right_knee',
    'left_ankle',
    'right_ankle',
)
# places on the head, over its half axes (left, down, forward)
FACE = {
    'nose': (0.0, 0.14, 1.16),
    'left_eye': (0.42, -0.14, 0.9),
    'right_eye': (-0.42, -0.14, 0.9),
    'left_ear': (1.03, 0.0, -0.1),
    'right_ear': (-1.03, 0.0, -0.1),
    'mouth': (0.0, 0.52, 0.85),
}


class Figure(NamedTuple):
    """A posed body in the viewer's frame (x right, y down, z to the viewer).

    Attributes:
        joints: Name -> (3,) position over stature, mid-hip at the origin:
            COCO's keypoints and a few more.
        chest, head: (3, 3) rotations, columns are that part's left, down
            and forward directions.
        head_radii: (3,) half axes of the head.
        girth: Thickness of the limbs, 1 for the average.
    """

    joints: Dict[str, np.ndarray]
    chest: np.ndarray
    head: np.ndarray
    head_radii: np.ndarray
    girth: float


def rotation(axis: int, degrees: float) -> np.ndarray:
    """Rotation by an angle: axis 0 bends forward (down goes back, forward
    goes down), 1 turns forward to the left, 2 leans the top to the right."""
    a = np.deg2rad(degrees)
    c, s = np.cos(a), np.sin(a)
    i, j = ((1, 2), (0, 2), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = s, -s
    return matrix


def _swing(flexion: float, abduction: float, side: int) -> np.ndarray:
    """Direction of a limb that hangs down at 0, 0 (degrees): flexion lifts
    it forward, abduction sideways; ``side`` is 1 for left, -1 for right."""
    f, a = np.deg2rad([flexion, abduction])
    return np.array([side * np.sin(a), np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)])


def _bent(direction, towards, degrees: float) -> np.ndarray:
    """A unit direction turned by an angle towards another one."""
    normal = towards - (towards @ direction) * direction
    length = np.linalg.norm(normal)
    if length < 1e-6:
        return direction
    a = np.deg2rad(degrees)
    return np.cos(a) * direction + np.sin(a) * normal / length


def _yaw(rng: np.random.Generator) -> float:
    """Facing the viewer, profile or back, in degrees."""
    kind = rng.choice(3, p=(0.91, 0.05, 0.04))
    if kind == 0:
        return rng.normal(0, 18)
    if kind == 1:
        return rng.choice((-1, 1)) * rng.normal(70, 15)
    return rng.normal(180, 25)


def sample_figure(rng: np.random.Generator) -> Figure:
    """Draws a body and a pose at random.

    Args:
        rng: Source of randomness; the figure depends on nothing else.

    Returns:
        Figure: The posed body.
    """
    action = str(rng.choice(ACTIONS, p=ACTION_ODDS))
    child = rng.random() < 0.15
    head_scale = rng.normal(1, 0.04) * (1.25 if child else 1.05)
    width = rng.normal(1, 0.06)
    limb = rng.normal(1, 0.03) * (0.95 if child else 1)
    girth = float(np.clip(rng.normal(1.12, 0.12), 0.85, 1.5))

    # trunk
    bend, lean, twist = rng.normal(2, 4), rng.normal(0, 3), rng.normal(0, 6)
    if action == 'bend':
        bend = rng.uniform(30, 90)
    elif action == 'free':
        bend, lean = rng.normal(10, 20), rng.normal(0, 15)
    camera = rotation(0, rng.normal(4, 4))  # mostly seen from a bit above
    roll = rng.normal(0, 3)
    if rng.random() < 0.01:
        roll += rng.choice((-90, 90))
    pelvis = camera @ rotation(2, roll) @ rotation(1, _yaw(rng)) @ rotation(0, bend * 0.4)
    chest = pelvis @ rotation(0, bend * 0.6) @ rotation(2, lean) @ rotation(1, twist)
    neck_turn = chest @ rotation(1, rng.normal(0, 10))
    head = neck_turn @ rotation(0, rng.normal(0, 6) - bend * 0.3) @ rotation(2, rng.normal(0, 5))

    left, down, forward = np.eye(3)
    joints = {}
    waist = pelvis @ (-PELVIS_LENGTH * down)
    collar = waist - chest @ (CHEST_LENGTH * down)
    joints['waist'], joints['collar'] = waist, collar
    head_radii = HEAD_RADII * head_scale
    joints['head_base'] = collar - chest @ (0.035 * down) + head @ (0.012 * forward)
    joints['head'] = joints['head_base'] - head @ (0.95 * head_radii[1] * down)

    stride = rng.choice((-1, 1)) * rng.uniform(12, 32)
    raised = rng.choice(3)  # left, right or both, when reaching
    for index, (name, side) in enumerate((('left', 1), ('right', -1))):
        # arms
        flexion, abduction = rng.normal(4, 7), abs(rng.normal(9, 5))
        elbow = abs(rng.normal(12, 10))
        towards = forward * rng.uniform(0.3, 1) - side * left * rng.uniform(0, 0.7)
        if action == 'walk':
            flexion, elbow = -side * stride * 0.9, rng.uniform(10, 60)
        elif action == 'reach' and raised in (index, 2):
            abduction = rng.uniform(60, 165)
            flexion = rng.normal(0, 15)
            elbow = rng.uniform(0, 100)
            towards = -down + side * left * rng.uniform(-1, 0.6)
        elif action == 'sit':
            flexion, elbow = rng.uniform(5, 50), rng.uniform(20, 90)
        elif action == 'bend':
            flexion, elbow = rng.uniform(20, 100), abs(rng.normal(15, 15))
        elif action == 'free':
            flexion, abduction = rng.uniform(-30, 120), rng.uniform(0, 90)
            elbow = rng.uniform(0, 120)
        lift = 0.03 * np.clip((abduction - 60) / 90, 0, 1)
        shoulder = collar + chest @ (side * width * SHOULDER_HALF_WIDTH * left - lift * down)
        upper = _swing(flexion, abduction, side)
        fore = _bent(upper, towards, elbow)
        joints[f'{name}_shoulder'] = shoulder
        joints[f'{name}_elbow'] = shoulder + chest @ upper * limb * UPPER_ARM
        joints[f'{name}_wrist'] = joints[f'{name}_elbow'] + chest @ fore * limb * FOREARM
        joints[f'{name}_hand'] = joints[f'{name}_wrist'] + chest @ fore * limb * HAND

        # legs; the trunk bends at the hips, so the legs take that back
        flexion, abduction = rng.normal(2, 4), abs(rng.normal(4, 3))
        knee = abs(rng.normal(4, 5))
        if action == 'walk':
            flexion = side * stride
            knee = rng.uniform(5, 15) + max(0, -flexion) * rng.uniform(0, 1.2)
        elif action == 'sit':
            flexion, abduction = rng.uniform(70, 95), rng.uniform(2, 22)
            knee = rng.uniform(65, 105)
        elif action == 'bend':
            knee = rng.uniform(0, 40)
            flexion += knee * 0.5
        elif action == 'free':
            flexion, abduction = rng.uniform(-15, 70), rng.uniform(0, 40)
            knee = rng.uniform(0, 100)
        flexion += bend * 0.4
        hip = pelvis @ (side * width * HIP_HALF_WIDTH * left)
        thigh = _swing(flexion, abduction, side)
        shank = _swing(flexion - knee, abduction * 0.6, side)
        toes = _swing(flexion - knee + rng.uniform(70, 95), abduction + 8, side)
        joints[f'{name}_hip'] = hip
        joints[f'{name}_knee'] = hip + pelvis @ thigh * limb * THIGH
        joints[f'{name}_ankle'] = joints[f'{name}_knee'] + pelvis @ shank * limb * SHANK
        joints[f'{name}_toes'] = joints[f'{name}_ankle'] + pelvis @ toes * limb * FOOT
    for name, place in FACE.items():
        joints[name] = joints['head'] + head @ (place * head_radii)
    return Figure(joints, chest, head, head_radii, girth)
