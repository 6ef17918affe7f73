# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Reads pictures, videos, streams and cameras, and says where drawings of them go."""

import contextlib
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence, Union

import numpy as np

from .errors import ClientError
from .files import whole_file
from .packages import cv2
from .video import written_video

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
DEFAULT_RATE = 25.0  # frames a second, where a video does not say


@dataclass
class Frame:
    """A picture, or one of a video.

    Attributes:
        name (str): In the predictions.
        image (np.ndarray, optional): uint8, BGR, shape (H, W, 3); None where it cannot be read.
        number (int, optional): In a video, from 1.
        time (float, optional): Seconds since the video's start.
    """

    name: str
    image: Optional[np.ndarray]
    number: Optional[int] = None
    time: Optional[float] = None


class Images:
    """Pictures, each drawn into one of the same name.

    Args:
        paths (sequence[Path]): The pictures.
    """

    is_video = False

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.paths:
            try:
                data = np.fromfile(path, np.uint8)
            except OSError:
                data = np.zeros(0, np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
            yield Frame(path.name, image)

    @contextlib.contextmanager
    def drawn_into(self, out: Path) -> Iterator[Callable[[Frame], None]]:
        """Gives the function that writes a frame."""

        def write(frame: Frame) -> None:
            path = out / frame.name
            _, data = cv2.imencode(path.suffix, frame.image)
            with whole_file(path) as unfinished:
                unfinished.write_bytes(data.tobytes())

        yield write


class Video:
    """The frames of a video file, a stream or a camera, drawn into an MP4 of the same stem.

    Args:
        source (str): A file, a URL, or the number of a camera.

    Attributes:
        is_live (bool): Whether it has no end, but for Ctrl-C: a camera, or a stream of unknown
            length.
        announced (int): Frames that the file says it has; 0 where it does not say.
        rate (float): Frames a second, on average.

    Raises:
        ClientError: OpenCV cannot open it.
    """

    is_video = True

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
        self._name = source if is_url else Path(source).name
        self._stem = f'camera{source}' if is_camera else Path(source.split('?')[0].rstrip('/')).stem
        rate = self.capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else DEFAULT_RATE

    def __len__(self) -> int:
        return self.announced

    def __iter__(self) -> Iterator[Frame]:
        """The frames, at times that rise."""
        number, last = 0, -1.0
        with _ctrl_c_noted() if self.is_live else contextlib.nullcontext([]) as interrupts:
            start = time.monotonic()
            while not interrupts:
                is_read, image = self.capture.read()
                if not is_read:
                    break
                now = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if self.is_live:
                    now = time.monotonic() - start
                if now <= last:  # some files have no times
                    now = last + 1 / self.rate
                number, last = number + 1, now
                yield Frame(f'{self._name}#{number}', image, number, now)
        self.capture.release()
        if not number:
            raise ClientError(
                f'no frame of {self.source} can be read, {self.announced} are announced: '
                'OpenCV may lack its codec, or the file is damaged'
            )
        if number < self.announced:
            print(
                f'warning: {self.source} announces {self.announced} frames, {number} could be read',
                file=sys.stderr,
            )

    @contextlib.contextmanager
    def drawn_into(self, out: Path) -> Iterator[Callable[[Frame], None]]:
        """Gives the function that writes a frame."""
        with written_video(out / f'{self._stem}.mp4', self.rate) as write:
            yield lambda frame: write(frame.time, frame.image)


@contextlib.contextmanager
def _ctrl_c_noted() -> Iterator[List[int]]:
    """A list that holds something after Ctrl-C, which then leaves no frame half done. A second one
    interrupts as usual."""
    interrupts: List[int] = []
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield interrupts
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, _) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def open_source(source: str, out: Path) -> Union[Images, Video]:
    """What to read: one picture, the pictures of a folder, a video, a stream's URL, or the number
    of a camera.

    Raises:
        ClientError: There is nothing to read, or ``out`` would overwrite it.
    """
    path = Path(source)
    if '://' in source or (source.isdigit() and not path.exists()):
        return Video(source)
    if not path.exists():
        raise ClientError(f'there is no {path}')
    folder = path if path.is_dir() else path.parent
    if out.resolve() == folder.resolve():
        raise ClientError(f'{out} holds the input: name another folder')
    if path.is_dir():
        paths = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise ClientError(f'{path} has no pictures ({", ".join(IMAGE_SUFFIXES)})')
        return Images(paths)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Images([path])
    try:
        return Video(str(path))
    except ClientError:
        raise ClientError(
            f'{path} is no picture ({", ".join(IMAGE_SUFFIXES)}) and no video that OpenCV can read'
        ) from None
