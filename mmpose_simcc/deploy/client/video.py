# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes videos with PyAV, or with OpenCV where that is missing."""

import contextlib
import errno
import sys
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterator, Tuple

import numpy as np

from .files import whole_file
from .packages import cv2

TICKS = 90000  # a second, as in MPEG


@contextlib.contextmanager
def written_video(path: Path, rate: float) -> Iterator[Callable[[float, np.ndarray], None]]:
    """An MP4 of frames at given times, which is there only once it is whole.

    With PyAV it is H.264, which browsers play, and each frame has its time. Without PyAV it is
    MPEG-4 of a constant rate, where frames are repeated or left out so that it lasts as long.
    Both encode even sizes only; the last column or row is repeated where there is an odd number.
    In what the video differs from the frames is said on stderr.

    Args:
        path (Path): The file.
        rate (float): Frames a second, on average.

    Yields:
        callable: Takes seconds and picture of a frame, uint8, BGR, shape (H, W, 3).

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path) as unfinished, contextlib.ExitStack() as stack:
        encode = None

        def write(seconds: float, image: np.ndarray) -> None:
            nonlocal encode
            height, width = image.shape[:2]
            right, below = width % 2, height % 2
            if encode is None:
                if right or below:
                    print(
                        f'{path.name} is {width + right}x{height + below}, not {width}x{height}: '
                        'videos have even sizes, the last column or row is repeated',
                        file=sys.stderr,
                    )
                encoder = _h264 if _has_h264() else _mpeg4
                if encoder is _mpeg4:
                    print(
                        f'{path.name} is MPEG-4 of a constant frame rate, which browsers do not '
                        'play: for H.264 pip install av',
                        file=sys.stderr,
                    )
                size = width + right, height + below
                encode = stack.enter_context(encoder(unfinished, size, rate))
            encode(seconds, cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE))

        yield write


def _has_h264() -> bool:
    """Whether PyAV is installed, with an encoder of H.264."""
    try:
        import av
    except ImportError:
        return False
    return 'libx264' in av.codecs_available


@contextlib.contextmanager
def _h264(path: Path, size: Tuple[int, int], rate: float):
    import av

    tick = Fraction(1, TICKS)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=Fraction(rate).limit_denominator())
        stream.width, stream.height = size
        stream.pix_fmt = 'yuv420p'  # what browsers play
        stream.codec_context.time_base = tick

        def encode(seconds: float, image: np.ndarray) -> None:
            frame = av.VideoFrame.from_ndarray(image, format='bgr24')
            frame.time_base, frame.pts = tick, round(seconds * TICKS)
            container.mux(stream.encode(frame))

        yield encode
        container.mux(stream.encode())


@contextlib.contextmanager
def _mpeg4(path: Path, size: Tuple[int, int], rate: float):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
    if not writer.isOpened():
        raise OSError(errno.EIO, 'OpenCV cannot write a video')
    written = 0

    def encode(seconds: float, image: np.ndarray) -> None:
        nonlocal written
        while written <= round(seconds * rate):
            writer.write(image)
            written += 1

    try:
        yield encode
    finally:
        writer.release()
    # OpenCV does not say when it could not write
    found = cv2.VideoCapture(str(path))
    frames = int(found.get(cv2.CAP_PROP_FRAME_COUNT))
    found.release()
    if frames != written:
        raise OSError(errno.EIO, f'only {frames} of {written} frames could be written')
