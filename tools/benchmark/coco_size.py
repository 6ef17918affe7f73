# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Data of COCO's size, drawn by numbers alone."""

import json
from pathlib import Path
from typing import Tuple

import cv2
import numpy as np

from mmpose_simcc.utils.files import whole_file

KEYPOINTS = 17
POLYGON = 40  # numbers that outline a person, as many as in COCO
WIDTH, HEIGHT = 640, 480
PICTURE = 'grey.jpg'  # all pictures are this small file: to decode them is not ours


def _split(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers of at least 1 that sum to ``total``, shape (parts,)."""
    return 1 + rng.multinomial(total - parts, np.full(parts, 1 / parts))


def draw_people(number: int, rng: np.random.Generator) -> Tuple[np.ndarray, np.ndarray]:
    """Boxes (x, y, w, h), (N, 4), and keypoints in them with their
    visibility, (N, K, 3)."""
    size = np.exp(rng.uniform(np.log(40), np.log(300), (number, 1))) * [1, 1.6]
    corner = rng.uniform(0, 1, (number, 2)) * np.maximum([WIDTH, HEIGHT] - size, 1)
    inside = corner[:, None] + size[:, None] * rng.uniform(0, 1, (number, KEYPOINTS, 2))
    visible = rng.choice([0, 1, 2], (number, KEYPOINTS, 1), p=[0.3, 0.1, 0.6])
    visible[:, 0] = 2
    keypoints = np.concatenate([inside.round() * (visible > 0), visible], axis=-1)
    return np.concatenate([corner, size], axis=1).round(2), keypoints


def write_annotations(path: Path, pictures: int, people: int, seed: int = 0) -> None:
    """Write annotations in COCO's format, outlines among them."""
    rng = np.random.default_rng(seed)
    boxes, keypoints = draw_people(people, rng)
    picture = np.repeat(np.arange(pictures), _split(people, pictures, rng))
    outlines = boxes[:, None, :2] + boxes[:, None, 2:] * rng.random((people, POLYGON // 2, 2))
    outlines = outlines.reshape(people, POLYGON).round(2).tolist()
    annotations = [
        dict(
            id=i + 1,
            image_id=image + 1,
            category_id=1,
            iscrowd=0,
            segmentation=[outline],
            bbox=box,
            area=round(0.5 * box[2] * box[3], 2),
            num_keypoints=number,
            keypoints=points,
        )
        for i, (image, outline, box, number, points) in enumerate(
            zip(
                picture.tolist(),
                outlines,
                boxes.tolist(),
                (keypoints[..., 2] > 0).sum(1).tolist(),
                keypoints.astype(int).reshape(people, -1).tolist(),
            )
        )
    ]
    content = dict(
        info=dict(description='drawn people'),
        licenses=[],
        images=[
            dict(id=i + 1, file_name=PICTURE, width=WIDTH, height=HEIGHT) for i in range(pictures)
        ],
        annotations=annotations,
        categories=[dict(id=1, name='person')],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content))


def write_detections(annotations: Path, path: Path, detections: int, seed: int = 1) -> None:
    """Write a detector's boxes: one of every person, the rest of nobody."""
    rng = np.random.default_rng(seed)
    content = json.loads(annotations.read_text(encoding='utf-8'))
    found = [(a['image_id'], a['bbox'], 0.5) for a in content['annotations']]
    images = rng.integers(1, len(content['images']) + 1, detections - len(found)).tolist()
    boxes, _ = draw_people(len(images), rng)
    found += [(image, box, 0.0) for image, box in zip(images, boxes.tolist())]
    scores = rng.uniform(0, 0.5, len(found))
    with whole_file(path) as unfinished:
        unfinished.write_text(
            json.dumps(
                [
                    dict(image_id=image, category_id=1, bbox=box, score=float(low + score))
                    for (image, box, low), score in zip(found, scores)
                ]
            )
        )


def write_predictions(annotations: Path, path: Path, detections: int, seed: int = 2) -> None:
    """Write poses as COCO's metric does: one of every person with an error of
    its own size, the rest of nobody."""
    rng = np.random.default_rng(seed)
    content = json.loads(annotations.read_text(encoding='utf-8'))
    people = content['annotations']
    images = [a['image_id'] for a in people]
    images += rng.integers(1, len(content['images']) + 1, detections - len(people)).tolist()
    truth = np.reshape([a['keypoints'] for a in people], (-1, KEYPOINTS, 3)).astype(float)
    size = np.sqrt([a['area'] for a in people])
    errors = rng.normal(size=truth[..., :2].shape)
    truth[..., :2] += errors * (size * rng.exponential(0.1, len(people)))[:, None, None]
    _, others = draw_people(detections - len(people), rng)
    keypoints = np.concatenate([truth, others])
    keypoints[..., 2] = rng.random(keypoints.shape[:2])
    scores = rng.uniform(0, 0.5, detections)
    scores[: len(people)] += rng.uniform(0, 0.5, len(people))
    with whole_file(path) as unfinished:
        unfinished.write_text(
            json.dumps(
                [
                    dict(image_id=image, category_id=1, keypoints=points, score=score)
                    for image, points, score in zip(
                        images, keypoints.reshape(detections, -1).tolist(), scores.tolist()
                    )
                ]
            )
        )


def write_picture(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / PICTURE), np.full((48, 64, 3), 127, np.uint8))
