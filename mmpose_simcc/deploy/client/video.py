# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads videos with OpenCV and writes them with PyAV, or with OpenCV where that is missing."""

import time
from fractions import Fraction
from pathlib import Path
from typing import Callable, Iterator, Tuple

import cv2
import numpy as np

from .errors import ClientError
from .files import unfinished_path

TICKS = 90000  # a second, as in MPEG
DEFAULT_RATE = 25.0  # frames a second, where a video does not say


class VideoReader:
    """The frames of a video file, a stream or a camera.

    Args:
        source (str): A file, a URL, or the number of a camera.

    Attributes:
        is_live (bool): Whether it has no end: a camera, or a stream of unknown length.
        stem (str): A name for files that are made of it.
        announced (int): Frames that the file says it has; 0 where it does not say.
        rate (float): Frames a second, on average.

    Raises:
        ClientError: OpenCV cannot open it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.is_camera = source.isdigit()
        self.capture = cv2.VideoCapture(int(source) if self.is_camera else source)
        if not self.capture.isOpened():
            raise ClientError(
                f'there is no camera {source}' if self.is_camera else f'OpenCV cannot read {source}'
            )
        self.announced = max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self.is_live = self.is_camera or ('://' in source and not self.announced)
        name = source.split('?')[0].rstrip('/')
        self.stem = f'camera{source}' if self.is_camera else Path(name).stem
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE

    def __iter__(self) -> Iterator[Tuple[float, np.ndarray]]:
        """Seconds since the start, which rise, and picture of each frame."""
        start, last = time.monotonic(), -1.0
        while True:
            is_read, image = self.capture.read()
            if not is_read:
                return
            now = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if self.is_live:
                now = time.monotonic() - start
            if now <= last:  # some files have no times
                now = last + 1 / self.rate
            last = now
            yield now, image

    def close(self) -> None:
        self.capture.release()


class VideoWriter:
    """An MP4 of frames at given times, which is there only once it is whole.

    With PyAV in H.264, which browsers play, each frame at its time. Without, in MPEG-4 at a
    constant rate, where frames are repeated or left out so that it lasts as long. Both encode
    even sizes only; the last column or row is repeated where there is an odd number.

    Args:
        path (Path): The file.
        rate (float): Frames a second, on average.
        report (callable): Gets lines that say what is different from the frames.

    Raises:
        ClientError: The file cannot be written.
    """

    def __init__(self, path: Path, rate: float, report: Callable[[str], None]) -> None:
        self.path, self.rate, self.report = path, rate, report
        self.unfinished = unfinished_path(path)
        self.encoder = None

    def write(self, seconds: float, image: np.ndarray) -> None:
        """Add a frame, uint8, BGR, shape (H, W, 3)."""
        height, width = image.shape[:2]
        if self.encoder is None:
            self._open(width, height)
        if width % 2 or height % 2:
            image = cv2.copyMakeBorder(image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        try:
            self.encoder.write(seconds, np.ascontiguousarray(image))
        except OSError as error:
            raise ClientError(f'cannot write {self.path}: {error}') from error

    def _open(self, width: int, height: int) -> None:
        size = width + width % 2, height + height % 2
        if size != (width, height):
            self.report(
                f'{self.path.name} is {size[0]}x{size[1]}, not {width}x{height}: videos have '
                'even sizes, the last column or row is repeated'
            )
        try:
            av = _import_av()
            if av:
                self.encoder = _H264(av, self.unfinished, size, self.rate)
            else:
                self.report(
                    f'{self.path.name} is MPEG-4 of a constant frame rate, which browsers do not '
                    'play: for H.264 pip install av'
                )
                self.encoder = _Mpeg4(self.unfinished, size, self.rate)
        except OSError as error:
            raise ClientError(f'cannot write {self.path}: {error}') from error

    def close(self, keep: bool) -> None:
        """End the file, and put it in its place or remove it."""
        try:
            if self.encoder is not None:
                self.encoder.close()
                if keep:
                    self.unfinished.replace(self.path)
        except OSError as error:
            if keep:
                raise ClientError(f'cannot write {self.path}: {error}') from error
        finally:
            self.unfinished.unlink(missing_ok=True)


def _import_av():
    """PyAV, where it is installed with an encoder of H.264."""
    try:
        import av
    except ImportError:
        return None
    return av if 'libx264' in av.codecs_available else None


class _H264:
    def __init__(self, av, path: Path, size: Tuple[int, int], rate: float) -> None:
        self.new_frame = av.VideoFrame.from_ndarray
        self.container = av.open(str(path), 'w')
        self.stream = self.container.add_stream('libx264', rate=Fraction(rate).limit_denominator())
        self.stream.width, self.stream.height = size
        self.stream.pix_fmt = 'yuv420p'  # what browsers play
        self.stream.codec_context.time_base = Fraction(1, TICKS)

    def write(self, seconds: float, image: np.ndarray) -> None:
        frame = self.new_frame(image, format='bgr24')
        frame.time_base, frame.pts = Fraction(1, TICKS), round(seconds * TICKS)
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        try:
            self.container.mux(self.stream.encode())
        finally:
            self.container.close()


class _Mpeg4:
    def __init__(self, path: Path, size: Tuple[int, int], rate: float) -> None:
        self.path, self.rate = path, rate
        self.writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'mp4v'), rate, size)
        if not self.writer.isOpened():
            raise OSError('OpenCV cannot open it')
        self.written = 0

    def write(self, seconds: float, image: np.ndarray) -> None:
        while self.written <= round(seconds * self.rate):
            self.writer.write(image)
            self.written += 1

    def close(self) -> None:
        self.writer.release()
        # OpenCV does not say when it could not write
        found = cv2.VideoCapture(str(self.path))
        frames = int(found.get(cv2.CAP_PROP_FRAME_COUNT))
        found.release()
        if frames != self.written:
            raise OSError(f'{frames} of {self.written} frames fit')
