# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from abc import abstractmethod
from typing import Dict, List, Optional, Tuple, Union

import numpy as np
import torch
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..functional import decoded_pitch
from ..functional.arrays import Array, as_array, as_float
from ..utils.checks import invalid
from .calibration import Calibration, PathLike, load_calibration

# Standard deviations of labels in cells or bins. A smaller one makes a label between four cells
# almost 0 everywhere (at 0.25 its largest value is 0.02), a much larger one makes it flat.
SIGMA_RANGE = dict(low=0.25, high=1e3)


class TensorCodec(BaseKeypointCodec):
    """MMPose's codec interface over batched functions of tensors or numpy arrays.

    Subclasses implement :meth:`encode_tensors` and ``_decode``. :meth:`encode` and :meth:`decode`
    of one sample use numpy, and so does :meth:`batch_decode` for tensors on the CPU, where numpy
    is faster. Tensors of another device are decoded there, and only coordinates and scores are
    copied to the host.
    """

    calibration: Optional[Calibration] = None

    def _calibrate(self, path: Optional[PathLike]) -> None:
        """Read the calibration file. Call it last in a subclass's ``__init__``: the file is checked
        against the other arguments."""
        if path is not None:
            self.calibration = load_calibration(path, self)

    def _set_decoded_pitch(self, pitch: Union[float, np.ndarray]) -> None:
        pitch = decoded_pitch(pitch, self.input_size, self.use_udp)
        self.decoded_scale_factor = pitch.astype(np.float32)
        # as numbers: torch.export(strict=True) would put a FakeTensor in the place of an array
        self._decoded_pitch = self.decoded_scale_factor.tolist()

    def _to_pixels(self, positions: Array) -> Array:
        """Cells or bins (..., 2) as input-image pixels."""
        return positions * as_array(self._decoded_pitch, like=positions)

    @abstractmethod
    def encode_tensors(self, keypoints: Array, keypoints_visible: Array) -> Dict[str, Array]:
        """Labels of a batch by their names, on its device.

        Args:
            keypoints (Array): Input-image pixels, shape (..., N, K, 2).
            keypoints_visible (Array): Shape (..., N, K); below 0.5 is not
                labelled.

        Returns:
            dict: What :meth:`encode` gives, with the leading dimensions.
        """

    @abstractmethod
    def _decode(self, *encoded: Array) -> Tuple[Array, Array]:
        """:meth:`decode_tensors` without a calibration."""

    def decode_tensors(self, *encoded: Array) -> Tuple[Array, Array]:
        """Decode a batch and stay on its device, as the calibration says where there is one.

        Tensors may be of any device; gradients flow through them, and ``torch.compile`` and
        ``torch.export`` take the whole of it. Autocast changes nothing here.

        Args:
            encoded (Array): Network outputs: heatmaps, shape (B, K, H, W), or logits along x
                and y, shapes (B, K, w * k) and (B, K, h * k).

        Returns:
            tuple:
            - keypoints (Array): Input-image pixels, shape (B, K, 2).
            - scores (Array): Shape (B, K).

        Raises:
            ValueError: The outputs have a wrong size or are not floating point, or the
                calibration is for another number of keypoints.
        """
        return (self.calibration or self._decode)(*encoded)

    def keypoint_radius(self, scores: Array) -> Optional[Array]:
        """The radii that hold the truth with probabilities 0.5 and 0.9.

        Args:
            scores (Array): By this codec, shape (..., K).

        Returns:
            Array: Input-image pixels, shape (..., K, 2); None without a calibration that has
            them.
        """
        radii = self.calibration and self.calibration.radii
        return radii(scores) if radii else None

    def encode(self, keypoints: np.ndarray, keypoints_visible: Optional[np.ndarray] = None) -> dict:
        """Encode one sample.

        Args:
            keypoints (np.ndarray): Input-image pixels, shape (N, K, 2).
            keypoints_visible (np.ndarray, optional): Shape (N, K). All
                visible by default.

        Returns:
            dict: The labels, and ``keypoint_weights`` of shape (N, K). See
            :meth:`encode_tensors`.

        Raises:
            ValueError: An array has a wrong shape.
        """
        return self.encode_tensors(*as_keypoints(keypoints, keypoints_visible))

    def decode(self, *encoded: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Decode one sample.

        Args:
            encoded (np.ndarray): The network outputs of one sample, as for
                :meth:`decode_tensors` but without the batch dimension.

        Returns:
            tuple:
            - keypoints (np.ndarray): Input-image pixels, shape (1, K, 2).
            - scores (np.ndarray): Shape (1, K).
        """
        return self._decode_arrays([np.asarray(item)[None] for item in encoded])

    @np.errstate(all='ignore')  # maps that are not finite get a score of 0, not a warning
    def _decode_arrays(self, encoded: List[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
        return self.decode_tensors(*encoded)

    @torch.compiler.disable  # it ends in arrays on the host; compile `decode_tensors`
    def batch_decode(self, *batch_encoded: Tensor) -> Tuple[List[np.ndarray], List]:
        """Decode a batch on the device of its tensors.

        Args:
            batch_encoded (Tensor): See :meth:`decode_tensors`.

        Returns:
            tuple: Lists over the batch.
            - batch_keypoints: Input-image pixels, each of shape (1, K, 2).
            - batch_scores: Each of shape (1, K).
        """
        for item in batch_encoded:
            if not isinstance(item, Tensor):
                raise invalid('batch_encoded', item, 'a tensor (`decode` takes arrays)')
        if batch_encoded[0].device.type == 'cpu':
            # numpy has no bfloat16
            keypoints, scores = self._decode_arrays(
                [
                    (item.float() if item.dtype == torch.bfloat16 else item).numpy(force=True)
                    for item in batch_encoded
                ]
            )
        else:
            with torch.no_grad():
                keypoints, scores = self.decode_tensors(*batch_encoded)
                # one copy to the host for both
                packed = torch.cat([keypoints, scores[..., None]], dim=-1)
            packed = packed.cpu().numpy()
            keypoints, scores = packed[..., :2], packed[..., 2]
        return list(keypoints[:, None]), list(scores[:, None])


def as_keypoints(
    keypoints: np.ndarray, keypoints_visible: Optional[np.ndarray] = None
) -> Tuple[np.ndarray, np.ndarray]:
    """Check and convert what ``encode`` gets.

    Args:
        keypoints (np.ndarray): Pixels, shape (N, K, 2).
        keypoints_visible (np.ndarray, optional): Shape (N, K). All visible
            by default.

    Returns:
        tuple: float32 arrays (N, K, 2) and (N, K).

    Raises:
        ValueError: An array has a wrong shape or holds something other than real numbers.
    """
    keypoints = _as_float32('keypoints', keypoints)
    if keypoints.ndim != 3 or keypoints.shape[-1] != 2:
        raise invalid('keypoints', keypoints.shape, 'an array of shape (N, K, 2)')
    if keypoints_visible is None:
        return keypoints, np.ones(keypoints.shape[:2], dtype=np.float32)
    visible = _as_float32('keypoints_visible', keypoints_visible)
    if visible.shape != keypoints.shape[:2]:
        raise invalid(
            'keypoints_visible',
            visible.shape,
            f'an array of shape (N, K) = {keypoints.shape[:2]}',
        )
    if np.isnan(visible).any():  # visibilities become weights of the loss
        raise invalid('keypoints_visible', visible, 'without NaN')
    return keypoints, visible


def _as_float32(name: str, values: np.ndarray) -> np.ndarray:
    """Convert real numbers of any kind. Text, times and complex numbers are refused, though numpy
    would convert them."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in 'biufO':
            return array.astype(np.float32, copy=False)
    except (TypeError, ValueError):
        pass
    raise invalid(name, values, 'an array of real numbers')


def check_maps(name: str, maps: Array, shape: Tuple[int, ...]) -> Array:
    """Check network outputs of shape (B, K, *shape) and return them as
    float32 or float64.

    Raises:
        ValueError: They have a wrong shape or are not floating point.
    """
    if maps.ndim != 2 + len(shape) or tuple(maps.shape[2:]) != tuple(shape):
        raise invalid(
            name,
            tuple(maps.shape),
            f'a tensor of shape (B, K, {", ".join(map(str, shape))}) (B is absent for one sample)',
        )
    if not (maps.is_floating_point() if isinstance(maps, Tensor) else maps.dtype.kind == 'f'):
        raise invalid(name, maps.dtype, 'a floating-point tensor')
    return as_float(maps)
