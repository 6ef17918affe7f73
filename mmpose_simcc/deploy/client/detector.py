# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Boxes around people, from a detector's ONNX file."""

from pathlib import Path
from typing import Tuple, Union

import cv2
import numpy as np

from .errors import ClientError
from .session import open_session

PERSON = 0  # COCO's first class
PADDING_VALUE = 114  # MMDetection's


class PersonDetector:
    """A detector as MMDeploy exports it, such as the YOLOX files of RTMPose.

    Its input is one image of a fixed size, (1, 3, H, W), raw BGR pixels. Its
    output ``dets`` has boxes (x1, y1, x2, y2, score) after non-maximum
    suppression, (1, N, 5); ``labels``, (1, N), is optional.

    Args:
        path (str | Path): The ONNX file.
        score_thr (float): Least score of a box. Defaults to 0.3.

    Raises:
        ClientError: The file is not such a model.
    """

    def __init__(self, path: Union[str, Path], score_thr: float = 0.3) -> None:
        self.session = open_session(path)
        self.score_thr = score_thr
        self.outputs = [
            output.name
            for output in self.session.get_outputs()
            if output.name in ('dets', 'labels')
        ]
        shape = self.session.get_inputs()[0].shape
        if (
            'dets' not in self.outputs
            or len(shape) != 4
            or not all(isinstance(size, int) for size in shape[1:])
        ):
            raise ClientError(
                f'{path} is no detector as MMDeploy exports it: that has an '
                'input (1, 3, H, W) of a fixed size and an output "dets"'
            )
        self.size = (shape[3], shape[2])

    def __call__(self, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Detect people.

        Args:
            image (np.ndarray): uint8, BGR, shape (H, W, 3).

        Returns:
            tuple:
            - bboxes (np.ndarray): Boxes (x, y, w, h) in pixels, shape (N, 4).
            - scores (np.ndarray): Shape (N,).
        """
        height, width = image.shape[:2]
        ratio = min(self.size[0] / width, self.size[1] / height)
        scaled = cv2.resize(image, (max(1, int(width * ratio)), max(1, int(height * ratio))))
        canvas = np.full((*self.size[::-1], 3), PADDING_VALUE, np.float32)
        canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
        name = self.session.get_inputs()[0].name
        found = dict(
            zip(
                self.outputs,
                self.session.run(self.outputs, {name: canvas.transpose(2, 0, 1)[None]}),
            )
        )
        dets = found['dets'][0]
        keep = dets[:, 4] >= self.score_thr
        if 'labels' in found:
            keep &= found['labels'][0] == PERSON
        dets = dets[keep]
        corners = np.clip(dets[:, :4] / ratio, 0, [width, height] * 2)
        bboxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        usable = (bboxes[:, 2:] > 0).all(axis=1)
        return bboxes[usable].astype(np.float32), dets[usable, 4]
