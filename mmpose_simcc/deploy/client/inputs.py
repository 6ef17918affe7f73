# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Pictures and boxes as models need them; others are refused."""

from typing import Tuple

import numpy as np

from .errors import ClientError

MAX_SIDE = 32766  # cv2.warpAffine counts pixels in 16 bits
MAX_COORDINATE = 1e6  # float32 places a pixel there to 0.06 pixels


def as_bgr(image: np.ndarray) -> np.ndarray:
    """A picture as OpenCV reads one with ``cv2.IMREAD_COLOR``.

    Args:
        image (np.ndarray): uint8 or uint16, BGR, BGRA or grey, of shape (H, W, 3), (H, W, 4),
            (H, W, 1) or (H, W). Of 16 bits the upper 8 are kept, as OpenCV does, and alpha is
            left out.

    Returns:
        np.ndarray: uint8, BGR, shape (H, W, 3).

    Raises:
        ClientError: It is something else. Numbers with a fraction have no range that is known,
            they may end at 1 or at 255.
    """
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ClientError(f'`image` must be an array of uint8 or uint16, not {found}')
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        raise ClientError(
            f'`image` must be of shape (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), not {image.shape}'
        )
    if max(image.shape[:2]) > MAX_SIDE:
        raise ClientError(
            f'`image` must be at most {MAX_SIDE} pixels wide and high, not '
            f'{image.shape[1]}x{image.shape[0]}'
        )
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[..., :3])


def as_boxes(bboxes: np.ndarray, image_size: Tuple[int, int]) -> np.ndarray:
    """Boxes around people in a picture.

    Args:
        bboxes (array-like): Boxes (x, y, w, h) in pixels, shape (N, 4); N may be 0.
        image_size (tuple): The picture's size (w, h) in pixels.

    Returns:
        np.ndarray: float32, shape (N, 4).

    Raises:
        ClientError: They are no boxes, or one of them is empty or lies outside of the picture.
    """
    try:
        boxes = np.asarray(bboxes)
    except ValueError:  # rows of several lengths
        boxes = np.array('')
    if boxes.shape == (0,):
        return np.zeros((0, 4), np.float32)
    if boxes.dtype.kind not in 'iuf' or boxes.ndim != 2 or boxes.shape[1] != 4:
        found = f'an array of {boxes.dtype} of shape {boxes.shape}'
        raise ClientError(f'`bboxes` must be numbers of shape (N, 4), not {found}')
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    is_fine = (
        np.isfinite(boxes).all(1)
        & (np.abs(boxes) <= MAX_COORDINATE).all(1)
        & (boxes[:, 2:] > 0).all(1)
        & (start < image_size).all(1)
        & (end > 0).all(1)
    )
    if not is_fine.all():
        wrong = int(is_fine.argmin())
        raise ClientError(
            f'`bboxes[{wrong}]` must be x, y, w, h with w and h > 0 on the picture of '
            f'{image_size[0]}x{image_size[1]} pixels, not {boxes[wrong].tolist()}'
        )
    return boxes.astype(np.float32)


def check_crops(crops: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Crops of a model's input size (w, h).

    Raises:
        ClientError: They are not uint8 of shape (B, h, w, 3).
    """
    expected = (*size[::-1], 3)
    if getattr(crops, 'dtype', None) != np.uint8 or crops.shape[1:] != expected or not len(crops):
        found = getattr(crops, 'dtype', type(crops).__name__), getattr(crops, 'shape', ())
        raise ClientError(
            f'`crops` must be uint8 of shape (B, {", ".join(map(str, expected))}) with B > 0, '
            f'not {found[0]} of shape {found[1]}'
        )
    return crops
