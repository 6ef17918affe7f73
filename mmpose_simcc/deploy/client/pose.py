# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Keypoints of people in an image, from an exported model."""

from pathlib import Path
from typing import List, Optional, Tuple, Union

import numpy as np

from .errors import ClientError
from .inputs import as_bgr, as_boxes, check_crops
from .metadata import read_metadata
from .packages import cv2
from .session import open_session

# What rtmlib.RTMPose normalises with unless told otherwise: ImageNet's
# statistics of R, G, B, which it applies to B, G, R.
RTMLIB_MEAN = (123.675, 116.28, 103.53)
RTMLIB_STD = (58.395, 57.12, 57.375)


class PoseSession:
    """A model that ``tools/export_onnx.py`` has written.

    Args:
        path (str | Path): The ONNX file.
        batch_size (int): Largest number of people that go through the network at once. A file of a
            fixed batch has its own. Defaults to 32.
        runtime: Further arguments of :func:`open_session`.

    Attributes:
        keypoint_names (list[str]): Names of the K keypoints.
        skeleton (list): Pairs of keypoint indices.
        input_size (tuple): Size (w, h) of the model's input in pixels.

    Raises:
        ClientError: The file is not such a model.
    """

    def __init__(self, path: Union[str, Path], batch_size: int = 32, **runtime) -> None:
        self.path = path
        self.session = open_session(path, **runtime)
        self.metadata = read_metadata(path, self.session.get_modelmeta().custom_metadata_map)
        self.keypoint_names = self.metadata['keypoint_names']
        self.skeleton = self.metadata['skeleton']
        self.input_size = tuple(self.metadata['input_size'])
        self._check_graph()
        if batch_size < 1:
            raise ClientError(f'`batch_size` must be at least 1, not {batch_size}')
        fixed = self.session.get_inputs()[0].shape[0]
        self.has_fixed_batch = isinstance(fixed, int)
        self.batch_size = fixed if self.has_fixed_batch else batch_size
        self._mean, self._std = (
            np.array(self.metadata[name], np.float32) for name in ('mean', 'std')
        )

    def _check_graph(self) -> None:
        """Refuse a graph that has other inputs or outputs than its metadata say."""
        (width, height), K = self.input_size, len(self.keypoint_names)
        is_uint8 = self.metadata['input'] == 'uint8'
        expected = dict(input=[height, width, 3] if is_uint8 else [3, height, width])
        if self.metadata['output'] == 'keypoints':
            expected.update(keypoints=[K, 2], scores=[K])
        elif self.metadata['output'] == 'simcc':
            ratio = self.metadata['simcc_split_ratio']
            expected.update(simcc_x=[K, round(width * ratio)], simcc_y=[K, round(height * ratio)])
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        found = {item.name: item.shape[1:] for item in (*inputs, *outputs)}
        for name, shape in expected.items():
            sizes = found.get(name, [])
            # a size that the graph leaves open is no number
            known = [n if isinstance(n, int) else right for n, right in zip(sizes, shape)]
            if len(sizes) != len(shape) or known != shape or len(inputs) != 1:
                raise ClientError(
                    f'{self.path} is another model than its metadata say: its {name!r} has the '
                    f'sizes {sizes} where they have {shape}'
                )

    def feed(self, crops: np.ndarray) -> np.ndarray:
        """The model's input for crops.

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

    def run(self, crops: np.ndarray) -> List[np.ndarray]:
        """The model's outputs for crops, computed ``batch_size`` crops at a time.

        Args:
            crops (np.ndarray): uint8, BGR, shape (B, h, w, 3).

        Returns:
            list[np.ndarray]: The outputs in the file's order, each of shape (B, ...).

        Raises:
            ClientError: The crops are not of the model's input size.
        """
        crops = check_crops(crops, self.input_size)
        starts = range(0, len(crops), self.batch_size)
        parts = [self._run_batch(crops[start : start + self.batch_size]) for start in starts]
        return [np.concatenate(outputs) for outputs in zip(*parts)]

    def _run_batch(self, crops: np.ndarray) -> List[np.ndarray]:
        number = len(crops)
        if self.has_fixed_batch and number < self.batch_size:
            blank = np.zeros((self.batch_size - number, *crops.shape[1:]), crops.dtype)
            crops = np.concatenate([crops, blank])
        outputs = self.session.run(None, dict(input=self.feed(crops)))
        return [output[:number] for output in outputs]

    def _output_names(self) -> List[str]:
        return [output.name for output in self.session.get_outputs()]

    def check_decodes(self) -> None:
        """Refuse a file with ``--output raw``.

        Raises:
            ClientError: It gives no keypoints.
        """
        if self.metadata['output'] == 'raw':
            raise ClientError(
                f'{self.path} gives {" and ".join(self._output_names())} that are not decoded: '
                'export the model with --output keypoints or simcc'
            )

    def predict_crops(self, crops: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Keypoints in crops of the model's input size.

        Args:
            crops (np.ndarray): uint8, BGR, shape (B, h, w, 3).

        Returns:
            tuple:
            - keypoints (np.ndarray): Crop pixels, float32, shape (B, K, 2); of a UDP crop times
              w / (w - 1), as MMPose's codecs have them.
            - scores (np.ndarray): float32, shape (B, K).

        Raises:
            ClientError: The file gives no keypoints, or the crops are not of the model's input
                size.
        """
        self.check_decodes()
        outputs = dict(zip(self._output_names(), self.run(crops)))
        if self.metadata['output'] == 'keypoints':
            return outputs['keypoints'], outputs['scores']
        vectors = outputs['simcc_x'], outputs['simcc_y']
        bins = np.stack([x.argmax(-1) for x in vectors], axis=-1).astype(np.float32)
        scores = np.minimum(*(x.max(-1) for x in vectors))
        bins_per_pixel = np.full(2, self.metadata['simcc_split_ratio'], np.float32)
        if self.metadata['use_udp']:  # the crop's last pixel lies at the end of the box
            size = np.array(self.input_size, np.float32)
            bins_per_pixel *= (size - 1) / size
        return bins / bins_per_pixel, scores

    def predict(self, image: np.ndarray, bboxes: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Keypoints of people in an image.

        Args:
            image (np.ndarray): A picture as OpenCV reads one, see :func:`as_bgr`.
            bboxes (array-like): Boxes (x, y, w, h) in pixels around N people, shape (N, 4).

        Returns:
            tuple:
            - keypoints (np.ndarray): Image pixels, float32, shape (N, K, 2).
            - scores (np.ndarray): float32, shape (N, K).

        Raises:
            ClientError: The picture or a box cannot be used.
        """
        image = as_bgr(image)
        bboxes = as_boxes(bboxes, image.shape[1::-1])
        if not len(bboxes):
            K = len(self.keypoint_names)
            return np.zeros((0, K, 2), np.float32), np.zeros((0, K), np.float32)
        size = np.array(self.input_size, np.float32)
        factors = self._image_pixels(bboxes)[:, None]
        corners = bboxes[:, :2] + bboxes[:, 2:] / 2 - size / 2 * factors
        crops = np.stack(
            [self._crop(image, corner, factor) for corner, factor in zip(corners, factors[:, 0])]
        )
        keypoints, scores = self.predict_crops(crops)
        return keypoints * factors[:, None] + corners[:, None], scores

    def _image_pixels(self, bboxes: np.ndarray) -> np.ndarray:
        """Pixels of the image per pixel of the crop, (N,)."""
        size = np.array(self.input_size, np.float32)
        return (bboxes[:, 2:] * np.float32(self.metadata['bbox_padding']) / size).max(axis=1)

    def keypoint_radius(self, scores: np.ndarray, bboxes: np.ndarray) -> Optional[np.ndarray]:
        """How far off keypoints may be.

        Args:
            scores (np.ndarray): By :meth:`predict`, shape (N, K).
            bboxes (array-like): Boxes (x, y, w, h) in pixels around N people, shape (N, 4).

        Returns:
            np.ndarray: The radii that hold the truth with probabilities 0.5 and 0.9, image
            pixels, float32, shape (N, K, 2); None where the model was exported without a
            calibration.
        """
        radii = self.metadata.get('keypoint_radii')
        if radii is None:
            return None
        found = np.zeros((*scores.shape, 2), np.float32)
        for k, (edges, pixels) in enumerate(zip(radii['edges'], radii['pixels'])):
            interval = np.searchsorted(np.float32(edges), scores[:, k], side='right')
            found[:, k] = np.float32(pixels)[interval]
        bboxes = np.asarray(bboxes, np.float32).reshape(-1, 4)
        return found * self._image_pixels(bboxes)[:, None, None]

    def score_people(self, scores: np.ndarray, bbox_scores: np.ndarray) -> np.ndarray:
        """A score for each person, (N,), of those of its keypoints (N, K) and of its box (N,): the
        mean times the box's, or what the model's calibration says."""
        mean = scores.mean(axis=1)
        return mean if self.metadata.get('instance_score') == 'keypoint' else mean * bbox_scores

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
