# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Keypoints as COCO's JSON, written while they are found."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any, Dict, Iterator, Optional, Sequence

import numpy as np

from .files import whole_file
from .pose import PoseSession


class Predictions:
    """Writes ``images`` and ``annotations``, items that are separated by commas.

    Args:
        images (file): Gets the first.
        annotations (file): Gets the second.
    """

    def __init__(self, images: IO[str], annotations: IO[str]) -> None:
        self.images, self.annotations = images, annotations
        self.num_images = self.num_annotations = 0

    def add_image(self, **values: Any) -> None:
        """A picture; the people that follow are on it."""
        self.images.write(',\n' if self.num_images else '')
        self.num_images += 1
        json.dump(dict(id=self.num_images, **values), self.images)

    def add_person(
        self,
        keypoints: np.ndarray,
        scores: np.ndarray,
        bbox: Sequence[float],
        score: float,
        track_id: Optional[int] = None,
        radii: Optional[np.ndarray] = None,
    ) -> None:
        """A person on the last picture.

        Args:
            keypoints (np.ndarray): Image pixels, shape (K, 2).
            scores (np.ndarray): Shape (K,).
            bbox (sequence[float]): Box (x, y, w, h) in pixels.
            score (float): The person's.
            track_id (int, optional): The same in all frames for one person.
            radii (np.ndarray, optional): By :meth:`PoseSession.keypoint_radius`, shape (K, 2).
        """
        triples = np.concatenate([keypoints, scores[:, None]], axis=-1)
        annotation: Dict[str, Any] = dict(
            id=self.num_annotations + 1,
            image_id=self.num_images,
            category_id=1,
            keypoints=[round(float(value), 3) for value in triples.ravel()],
            num_keypoints=len(triples),
            bbox=[round(float(value), 3) for value in bbox],
            area=float(bbox[2] * bbox[3]),
            iscrowd=0,
            score=float(score),
        )
        if track_id is not None:
            annotation['track_id'] = track_id
        if radii is not None:
            annotation['keypoint_radius'] = np.float64(radii).round(3).tolist()
        self.annotations.write(',\n' if self.num_annotations else '')
        self.num_annotations += 1
        json.dump(annotation, self.annotations)


@contextlib.contextmanager
def predictions_file(path: Path, model: PoseSession) -> Iterator[Predictions]:
    """A file in COCO's format; its annotations, with a score each, are COCO results as well. It
    is there only once it is whole, and memory does not grow with its length.

    Args:
        path (Path): The JSON file.
        model (PoseSession): Knows keypoints and skeleton.

    Yields:
        Predictions: Takes what is found.

    Raises:
        OSError: It cannot be written.
    """
    category = dict(
        id=1,
        name='person',
        supercategory='person',
        keypoints=model.keypoint_names,
        skeleton=[[start + 1, end + 1] for start, end in model.skeleton],
    )
    with (
        whole_file(path) as unfinished,
        open(unfinished, 'w', encoding='utf-8') as images,
        # the second list, until the first is whole
        tempfile.TemporaryFile('w+', dir=path.parent, encoding='utf-8') as annotations,
    ):
        images.write('{"images": [\n')
        yield Predictions(images, annotations)
        images.write('\n], "annotations": [\n')
        annotations.seek(0)
        shutil.copyfileobj(annotations, images)
        images.write(f'\n], "categories": {json.dumps([category])}}}\n')
