# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Keypoints of people in an image, from an exported model."""

import json
import math
from pathlib import Path
from typing import List, Tuple, Union

import cv2
import numpy as np

from .errors import ClientError

# What rtmlib.RTMPose normalises with unless told otherwise: ImageNet's
# statistics of R, G, B, which it applies to B, G, R.
RTMLIB_MEAN = (123.675, 116.28, 103.53)
RTMLIB_STD = (58.395, 57.12, 57.375)

METADATA = (
    'input',
    'output',
    'input_size',
    'mean',
    'std',
    'flip_channels',
    'use_udp',
    'bbox_padding',
    'keypoint_names',
    'skeleton',
    'keypoint_colors',
    'skeleton_colors',
)


def _numbers(values, count: int) -> bool:
    """Whether these are so many numbers of a sensible size."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(
            isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e6
            for value in values
        )
    )


def _rows(rows, width: int, low: int, high: float) -> bool:
    """Whether these are rows of integers in [low, high)."""
    return isinstance(rows, list) and all(
        _numbers(row, width)
        and all(isinstance(value, int) and low <= value < high for value in row)
        for row in rows
    )


def _parse_metadata(text: dict) -> Tuple[dict, List[str]]:
    """The metadata, and the names of those that are not what
    tools/export_onnx.py writes."""
    values = {}
    for name, value in text.items():
        try:
            values[name] = json.loads(value)
        except ValueError:
            return values, [name]
    names, links = values['keypoint_names'], values['skeleton']
    K = len(names) if isinstance(names, list) else 0
    size = values['input_size']
    padding = values['bbox_padding']
    fine = dict(
        input=values['input'] in ('float', 'bgr', 'uint8'),
        output=values['output'] in ('simcc', 'keypoints'),
        input_size=_rows([size], 2, 1, math.inf),
        mean=_numbers(values['mean'], 3),
        std=_numbers(values['std'], 3) and min(values['std']) > 1e-6,
        flip_channels=isinstance(values['flip_channels'], bool),
        use_udp=isinstance(values['use_udp'], bool),
        bbox_padding=_numbers([padding], 1) and padding > 0,
        keypoint_names=K > 0 and all(isinstance(n, str) for n in names),
        skeleton=_rows(links, 2, 0, K),
        keypoint_colors=_rows(values['keypoint_colors'], 3, 0, 256)
        and len(values['keypoint_colors']) == K,
        skeleton_colors=_rows(values['skeleton_colors'], 3, 0, 256)
        and isinstance(links, list)
        and len(values['skeleton_colors']) == len(links),
    )
    if values['output'] == 'simcc':
        ratio = values.get('simcc_split_ratio')
        fine['simcc_split_ratio'] = _numbers([ratio], 1) and ratio >= 1
    return values, [name for name, is_fine in fine.items() if not is_fine]


def open_session(path: Union[str, Path]):
    """An onnxruntime session, on CUDA where it is available.

    Raises:
        ClientError: The file is missing or no ONNX model.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ClientError('onnxruntime is not installed: pip install onnxruntime') from None
    if not Path(path).is_file():
        raise ClientError(f'there is no model {path}')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    providers = [
        name
        for name in ('CUDAExecutionProvider', 'CPUExecutionProvider')
        if name in onnxruntime.get_available_providers()
    ]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a type for each reason
        reason = ' '.join(str(error).split())
        raise ClientError(
            f'{path} is no ONNX model that onnxruntime can run: {reason[:200]}'
        ) from None


class PoseSession:
    """A model that ``tools/export_onnx.py`` has written.

    Args:
        path (str | Path): The ONNX file.

    Attributes:
        keypoint_names (list[str]): Names of the K keypoints.
        skeleton (list): Pairs of keypoint indices.
        input_size (tuple): Size (w, h) of the model's input in pixels.

    Raises:
        ClientError: The file is not such a model.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.session = open_session(path)
        text = self.session.get_modelmeta().custom_metadata_map
        missing = [name for name in METADATA if name not in text]
        if missing:
            raise ClientError(
                f'{path} is another model than tools/export_onnx.py writes: '
                f'its metadata have no {", ".join(missing)}'
            )
        self.metadata, damaged = _parse_metadata(text)
        if damaged:
            raise ClientError(f'{path}: the metadata are damaged: {", ".join(damaged)}')
        self.keypoint_names = self.metadata['keypoint_names']
        self.skeleton = self.metadata['skeleton']
        self.input_size = tuple(self.metadata['input_size'])
        self._check_graph(path)
        self._mean, self._std = (
            np.array(self.metadata[name], np.float32) for name in ('mean', 'std')
        )

    def _check_graph(self, path: Union[str, Path]) -> None:
        """The graph has the inputs and outputs that the metadata speak of."""
        width, height = self.input_size
        image = [height, width, 3] if self.metadata['input'] == 'uint8' else [3, height, width]
        K = len(self.keypoint_names)
        results = [[K, 2], [K]]
        if self.metadata['output'] == 'simcc':
            ratio = self.metadata['simcc_split_ratio']
            results = [[K, round(width * ratio)], [K, round(height * ratio)]]
        for found, expected in (
            (self.session.get_inputs(), [image]),
            (self.session.get_outputs(), results),
        ):
            shapes = [item.shape[1:] for item in found]
            # a size that the graph leaves open is no number
            if [len(shape) for shape in shapes] != list(map(len, expected)) or any(
                isinstance(size, int) and size != right
                for shape, sizes in zip(shapes, expected)
                for size, right in zip(shape, sizes)
            ):
                raise ClientError(
                    f'{path} is another model than its metadata say: it has '
                    f'sizes {shapes}, not {expected}'
                )

    def feed(self, crops: np.ndarray) -> np.ndarray:
        """What the model takes for crops.

        Args:
            crops (np.ndarray): uint8, BGR, shape (B, h, w, 3).
        """
        if self.metadata['input'] == 'uint8':
            return crops
        if self.metadata['input'] == 'bgr':
            pixels = (crops - np.float32(RTMLIB_MEAN)) / np.float32(RTMLIB_STD)
        else:
            if self.metadata['flip_channels']:
                crops = crops[..., ::-1]
            pixels = (crops - self._mean) / self._std
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))

    def predict_crops(self, crops: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Keypoints in crops of the model's input size.

        Args:
            crops (np.ndarray): uint8, BGR, shape (B, h, w, 3).

        Returns:
            tuple:
            - keypoints (np.ndarray): Crop pixels, shape (B, K, 2).
            - scores (np.ndarray): Shape (B, K).
        """
        name = self.session.get_inputs()[0].name
        outputs = self.session.run(None, {name: self.feed(crops)})
        if self.metadata['output'] == 'keypoints':
            return tuple(outputs)
        keypoints = np.stack([x.argmax(-1) for x in outputs], axis=-1)
        scores = np.minimum(*(x.max(-1) for x in outputs))
        return (keypoints / np.float32(self.metadata['simcc_split_ratio']), scores)

    def predict(self, image: np.ndarray, bboxes: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Keypoints of people in an image.

        Args:
            image (np.ndarray): uint8, BGR, shape (H, W, 3).
            bboxes (np.ndarray): Boxes (x, y, w, h) in pixels around N
                people, shape (N, 4).

        Returns:
            tuple:
            - keypoints (np.ndarray): Image pixels, shape (N, K, 2).
            - scores (np.ndarray): Shape (N, K).
        """
        bboxes = np.asarray(bboxes, np.float32).reshape(-1, 4)
        if not len(bboxes):
            K = len(self.keypoint_names)
            return np.zeros((0, K, 2), np.float32), np.zeros((0, K), np.float32)
        size = np.array(self.input_size, np.float32)
        # pixels of the image per pixel of the crop
        factors = (bboxes[:, 2:] * self.metadata['bbox_padding'] / size).max(axis=1)[:, None]
        corners = bboxes[:, :2] + bboxes[:, 2:] / 2 - size / 2 * factors
        crops = np.stack(
            [self._crop(image, corner, factor) for corner, factor in zip(corners, factors[:, 0])]
        )
        keypoints, scores = self.predict_crops(crops)
        return keypoints * factors[:, None] + corners[:, None], scores

    def _crop(self, image: np.ndarray, corner: np.ndarray, factor: float) -> np.ndarray:
        """The crop whose pixel (0, 0) lies at ``corner``. With UDP its last pixel lies at the end
        of the box, which is ``factor`` times as large as the crop."""
        width, height = self.input_size
        x_step = y_step = factor
        if self.metadata['use_udp']:
            x_step, y_step = factor * width / (width - 1), factor * height / (height - 1)
        to_image = np.array([[x_step, 0, corner[0]], [0, y_step, corner[1]]])
        return cv2.warpAffine(
            image, to_image, self.input_size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
