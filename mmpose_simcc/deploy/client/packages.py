# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""OpenCV and onnxruntime. They come under several names each, so that none is a dependency: where
one is missing, the client can be imported, and says what to install when it needs it."""

from .errors import ClientError


class _Missing:
    def __init__(self, message: str) -> None:
        self.message = message

    def __getattr__(self, name: str):
        raise ClientError(self.message)


try:
    import cv2
except ImportError as error:
    cv2 = _Missing(
        f'OpenCV cannot be imported ({error}): pip install opencv-python-headless, or '
        'opencv-python for windows'
    )

try:
    import onnxruntime
except ImportError as error:
    onnxruntime = _Missing(
        f'onnxruntime cannot be imported ({error}): pip install onnxruntime, or onnxruntime-gpu '
        'for CUDA'
    )

__all__ = ['cv2', 'onnxruntime']
