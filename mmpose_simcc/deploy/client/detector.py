# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Boxes around people, from a detector's ONNX file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple, Union

import numpy as np

from .errors import ClientError
from .inputs import as_bgr
from .packages import cv2
from .session import open_session

PERSON = 0  # COCO's first class
PIPELINE = 'pipeline.json'  # MMDeploy's, beside the model


@dataclass
class DetectorInput:
    """How a detector's input is normalised.

    Attributes:
        mean (tuple): Subtracted from the channels, in the network's order.
        std (tuple): Divides the channels after that.
        to_rgb (bool): Whether the network's order is RGB and not BGR.
        pad_value (tuple): Colour of the canvas around the picture, B, G and R in [0, 255].
    """

    mean: Tuple[float, ...] = (0.0, 0.0, 0.0)
    std: Tuple[float, ...] = (1.0, 1.0, 1.0)
    to_rgb: bool = False
    pad_value: Tuple[float, ...] = (114.0, 114.0, 114.0)


# as in MMDetection's configs of these models
DETECTOR_INPUTS = dict(
    yolox=DetectorInput(),
    rtmdet=DetectorInput(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
)


def read_pipeline(path: Path) -> DetectorInput:
    """How a detector's input is normalised, from MMDeploy's ``pipeline.json``.

    Raises:
        ClientError: The file is not MMDeploy's.
    """
    try:
        tasks = json.loads(path.read_text(encoding='utf-8'))['pipeline']['tasks']
        steps = next(task['transforms'] for task in tasks if task['module'] == 'Transform')
        by_name = {step['type']: step for step in reversed(steps)}  # the first of each
        normalize = by_name.get('Normalize', {})
        pad = by_name.get('Pad', {}).get('pad_val', 0)
        pad = pad.get('img', 0) if isinstance(pad, dict) else pad
        found = DetectorInput(
            mean=tuple(map(float, normalize.get('mean', (0, 0, 0)))),
            std=tuple(map(float, normalize.get('std', (1, 1, 1)))),
            to_rgb=bool(normalize.get('to_rgb', False)),
            pad_value=tuple(map(float, pad if isinstance(pad, list) else [pad] * 3)),
        )
        if not {3} == set(map(len, (found.mean, found.std, found.pad_value))) or 0 in found.std:
            raise ValueError
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise ClientError(f"{path} is not MMDeploy's description of a detector's input") from None


class PersonDetector:
    """A detector as MMDeploy exports it, such as the YOLOX and RTMDet files of RTMPose.

    Its input is one image of a fixed size, (1, 3, H, W). Its output ``dets`` has boxes (x1, y1,
    x2, y2, score) after non-maximum suppression, (1, N, 5); ``labels``, (1, N), is optional.

    The file does not say how its input is normalised. MMDeploy's ``pipeline.json`` beside it
    does; where that is missing, ``input`` has to say it.

    Args:
        path (str | Path): The ONNX file.
        score_thr (float): Boxes with a lower score are left out. Defaults to 0.3.
        input (str | DetectorInput, optional): ``'yolox'`` (raw pixels), ``'rtmdet'``, or the
            numbers themselves. As ``pipeline.json`` says by default.
        runtime: Further arguments of :func:`open_session`.

    Raises:
        ClientError: The file is not such a model, or it is not known what its input needs.
    """

    def __init__(
        self,
        path: Union[str, Path],
        score_thr: float = 0.3,
        input: Union[str, DetectorInput, None] = None,
        **runtime,
    ) -> None:
        self.session = open_session(path, **runtime)
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
        pipeline = Path(path).with_name(PIPELINE)
        if input is None:
            if not pipeline.is_file():
                raise ClientError(
                    f"{path} does not say how its input is normalised: put MMDeploy's {PIPELINE} "
                    f'beside it, or name the model ({" or ".join(DETECTOR_INPUTS)})'
                )
            input = read_pipeline(pipeline)
        elif not isinstance(input, DetectorInput):
            if input not in DETECTOR_INPUTS:
                raise ClientError(f'`input` must be {" or ".join(DETECTOR_INPUTS)}, not {input!r}')
            input = DETECTOR_INPUTS[input]
        self.input = input

    def feed(self, image: np.ndarray) -> Tuple[np.ndarray, float]:
        """The model's input for a picture (uint8, BGR), and the factor by which it was scaled."""
        height, width = image.shape[:2]
        ratio = min(self.size[0] / width, self.size[1] / height)
        scaled = cv2.resize(image, (max(1, int(width * ratio)), max(1, int(height * ratio))))
        canvas = np.empty((*self.size[::-1], 3), np.float32)
        canvas[:] = self.input.pad_value
        canvas[: scaled.shape[0], : scaled.shape[1]] = scaled
        if self.input.to_rgb:
            canvas = canvas[..., ::-1]
        canvas = (canvas - np.float32(self.input.mean)) / np.float32(self.input.std)
        return np.ascontiguousarray(canvas.transpose(2, 0, 1)[None]), ratio

    def __call__(self, image: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Detect people.

        Args:
            image (np.ndarray): A picture as OpenCV reads one, see :func:`as_bgr`.

        Returns:
            tuple:
            - bboxes (np.ndarray): Boxes (x, y, w, h) in pixels, shape (N, 4).
            - scores (np.ndarray): Shape (N,).

        Raises:
            ClientError: The picture cannot be used.
        """
        image = as_bgr(image)
        height, width = image.shape[:2]
        feed, ratio = self.feed(image)
        name = self.session.get_inputs()[0].name
        found = dict(zip(self.outputs, self.session.run(self.outputs, {name: feed})))
        dets = found['dets'][0]
        keep = dets[:, 4] >= self.score_thr
        if 'labels' in found:
            keep &= found['labels'][0] == PERSON
        dets = dets[keep]
        corners = np.clip(dets[:, :4] / ratio, 0, [width, height] * 2)
        bboxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
        usable = (bboxes[:, 2:] > 0).all(axis=1)
        return bboxes[usable].astype(np.float32), dets[usable, 4]
