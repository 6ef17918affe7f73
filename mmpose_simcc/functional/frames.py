# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Coordinate frames: pixels of the input image, cells of a heatmap, bins of an axis.

A keypoint at pixel x lies in cell x / pitch, see :func:`cell_pitch`, and at bin x k with k bins a
pixel (SimCC, Section 3). Decoders go back by :func:`decoded_pitch`.
"""

from typing import Tuple, Union

import numpy as np


def cell_pitch(
    input_size: Tuple[int, int], heatmap_size: Tuple[int, int], use_udp: bool = False
) -> np.ndarray:
    r"""Pixels from one heatmap cell to the next, along x and y.

    Cell i lies at pixel :math:`i\,w / W`, as in MMPose's plain pipelines, or, in the frame of
    unbiased data processing (UDP, Section 3.2), at pixel :math:`i\,(w - 1) / (W - 1)`.

    Args:
        input_size (tuple): Image size (w, h) in pixels.
        heatmap_size (tuple): Heatmap size (W, H) in cells; with ``use_udp`` at least 2.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        np.ndarray: Shape (2,).

    Example:
        >>> cell_pitch((192, 256), (48, 64))
        array([4., 4.])
    """
    corner = 1 if use_udp else 0
    return (np.array(input_size) - corner) / (np.array(heatmap_size) - corner)


def decoded_pitch(
    pitch: Union[float, np.ndarray], input_size: Tuple[int, int], use_udp: bool = False
) -> np.ndarray:
    r"""What a decoder multiplies cells or bins by, along x and y.

    MMPose maps a decoded pixel p to the picture as the part p / w of the box that was cut out. A
    UDP crop ends with its last pixel at the end of the box, so that pixel p lies at p / (w - 1)
    of it. So a codec for UDP crops decodes to :math:`p\,w / (w - 1)`, as MMPose's ``UDPHeatmap``
    does, and the keypoint in the picture is exact.

    Args:
        pitch (float | np.ndarray): Pixels from one cell or bin to the next, along x and y:
            :func:`cell_pitch`, or 1 / k for k bins a pixel.
        input_size (tuple): Image size (w, h) in pixels; with ``use_udp`` at least 2.
        use_udp (bool): Whether the pipeline's ``TopdownAffine`` has ``use_udp``.

    Returns:
        np.ndarray: Shape (2,).

    Example:
        >>> decoded_pitch(1 / 2, (64, 64))
        array([0.5, 0.5])
        >>> decoded_pitch(cell_pitch((188, 252), (48, 64), use_udp=True), (188, 252), use_udp=True)
        array([4., 4.])
    """
    size = np.array(input_size)
    return pitch * size / (size - 1 if use_udp else size)
