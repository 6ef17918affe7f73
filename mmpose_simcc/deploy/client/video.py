# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads videos with OpenCV and writes them with PyAV, or with OpenCV where that is missing."""

import contextlib
import errno
import time
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterator, Tuple

import numpy as np

from .errors import ClientError
from .files import whole_file
from .packages import cv2

TICKS = 90000  # a second, as in MPEG
DEFAULT_RATE = 25.0  # frames a second, where a video does not say


class VideoReader:
    """The frames of a video file, a stream or a camera.

    Args:
        source (str): A file, a URL, or the number of a camera.

    Attributes:
        is_live (bool): Whether it has no end: a camera, or a stream of unknown length.
        name (str): How its frames are called in the predictions.
        stem (str): A name for files that are made of it.
        announced (int): Frames that the file says it has; 0 where it does not say.
        rate (float): Frames a second, on average.

    Raises:
        ClientError: OpenCV cannot open it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        is_camera, is_url = source.isdigit(), '://' in source
        self.capture = cv2.VideoCapture(int(source) if is_camera else source)
        if not self.capture.isOpened():
            raise ClientError(
                f'there is no camera {source}' if is_camera else f'OpenCV cannot read {source}'
            )
        self.announced = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.is_live = is_camera or (is_url and not self.announced)
        self.name = source if is_url else Path(source).name
        self.stem = f'camera{source}' if is_camera else Path(source.split('?')[0].rstrip('/')).stem
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE

    def __iter__(self) -> Iterator[Tuple[float, np.ndarray]]:
        """Seconds since the start, which rise, and picture of each frame."""
        start, last = time.monotonic(), -1.0
        while True:
            is_read, image = self.capture.read()
            if not is_read:
                self.capture.release()
                return
            now = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if self.is_live:
                now = time.monotonic() - start
            if now <= last:  # some files have no times
                now = last + 1 / self.rate
            last = now
            yield now, image


@contextlib.contextmanager
def written_video(
    path: Path, rate: float, report: Callable[[str], None]
) -> Iterator[Callable[[float, np.ndarray], None]]:
    """An MP4 of frames at given times, which is there only once it is whole.

    With PyAV it is H.264, which browsers play, and each frame has its time. Without PyAV it is
    MPEG-4 of a constant rate, where frames are repeated or left out so that it lasts as long.
    Both encode even sizes only; the last column or row is repeated where there is an odd number.

    Args:
        path (Path): The file.
        rate (float): Frames a second, on average.
        report (callable): Gets lines that say in what the video differs from the frames.

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
                    report(
                        f'{path.name} is {width + right}x{height + below}, not {width}x{height}: '
                        'videos have even sizes, the last column or row is repeated'
                    )
                encoder = _h264 if _has_h264() else _mpeg4
                if encoder is _mpeg4:
                    report(
                        f'{path.name} is MPEG-4 of a constant frame rate, which browsers do not '
                        'play: for H.264 pip install av'
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
