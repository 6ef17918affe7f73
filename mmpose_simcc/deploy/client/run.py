# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds keypoints in pictures and videos and writes what it finds."""

import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Sequence, Union

import numpy as np

from .detector import PersonDetector
from .draw import draw_skeleton
from .errors import ClientError
from .files import whole_file
from .packages import cv2
from .pose import PoseSession
from .predictions import predictions_file
from .smooth import Smoother
from .video import VideoReader, written_video

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def print_on_stderr(line: str) -> None:
    print(line, file=sys.stderr)


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


def read_image(path: Path) -> Optional[np.ndarray]:
    """An image as uint8 BGR, or None where it cannot be read."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError:
        return None
    return cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None


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
        return (Frame(path.name, read_image(path)) for path in self.paths)

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
    """The frames of a video, a stream or a camera, drawn into an MP4 of the same stem, which is
    there only once it is whole.

    Args:
        source (str): See :class:`VideoReader`.
        report (callable): Gets lines about what is missing or different.

    Raises:
        ClientError: It cannot be read.
    """

    is_video = True

    def __init__(self, source: str, report: Callable[[str], None]) -> None:
        self.reader, self.report = VideoReader(source), report

    def __len__(self) -> int:
        return self.reader.announced

    def __iter__(self) -> Iterator[Frame]:
        reader, number = self.reader, 0
        try:
            for number, (seconds, image) in enumerate(reader, 1):
                yield Frame(f'{reader.name}#{number}', image, number, seconds)
        except KeyboardInterrupt:
            if not reader.is_live:  # that ends in no other way
                raise
        if not number:
            raise ClientError(
                f'no frame of {reader.source} can be read, {reader.announced} are announced: '
                'OpenCV may lack its codec, or the file is damaged'
            )
        if number < reader.announced:
            self.report(
                f'warning: {reader.source} announces {reader.announced} frames, '
                f'{number} could be read'
            )

    @contextlib.contextmanager
    def drawn_into(self, out: Path) -> Iterator[Callable[[Frame], None]]:
        """Gives the function that writes a frame."""
        path = out / f'{self.reader.stem}.mp4'
        with written_video(path, self.reader.rate, self.report) as write:
            yield lambda frame: write(frame.time, frame.image)


def open_source(
    source: str, out: Path, report: Callable[[str], None] = print_on_stderr
) -> Union[Images, Video]:
    """What to read: one picture, the pictures of a folder, a video, a stream's URL, or the number
    of a camera.

    Raises:
        ClientError: There is nothing to read, or ``out`` would overwrite it.
    """
    path = Path(source)
    if '://' in source or (source.isdigit() and not path.exists()):
        return Video(source, report)
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
        return Video(str(path), report)
    except ClientError:
        raise ClientError(
            f'{path} is no picture ({", ".join(IMAGE_SUFFIXES)}) and no video that OpenCV can read'
        ) from None


def _with_progress(frames: Union[Images, Video]) -> Iterator[Frame]:
    """The frames; says on stderr how many are done, in place on a terminal,
    elsewhere by a line every 30 seconds."""
    terminal = sys.stderr.isatty()
    interval, end = (0.1, '\r') if terminal else (30, '\n')
    of = f' of {len(frames)}' if len(frames) else ''
    start = shown = time.monotonic()
    for done, frame in enumerate(frames, 1):
        yield frame
        now = time.monotonic()
        if now - shown >= interval:
            rate = done / (now - start)
            print(f'{done}{of} frames, {rate:.1f}/s', end=end, file=sys.stderr, flush=True)
            shown = now
    if terminal and shown > start:
        print(file=sys.stderr)


def infer(
    session: PoseSession,
    source: str,
    out: str,
    bboxes: Optional[Sequence[Sequence[float]]] = None,
    detect: Optional[PersonDetector] = None,
    score_thr: float = 0.3,
    smoother: Optional[Smoother] = None,
    report: Callable[[str], None] = print_on_stderr,
    circles: bool = False,
) -> List[str]:
    """Find keypoints, and write pictures or a video with skeletons and
    ``predictions.json``.

    The latter is in COCO's format (``images``, ``annotations``, ``categories``); its annotations,
    with a score each, are COCO results as well. Images of a video have ``frame``, from 1, and
    ``time`` in seconds. Annotations of a calibrated model also have ``keypoint_radius``: for each
    keypoint the radii that hold it with probabilities 0.5 and 0.9, in pixels.

    Args:
        session (PoseSession): The model.
        source (str): A picture, a folder of pictures, a video, a URL, or a camera's number.
        out (str): Folder to write to.
        bboxes (sequence, optional): Boxes (x, y, w, h) around the people, the
            same in every picture. The whole picture by default.
        detect (PersonDetector, optional): Finds the boxes.
        score_thr (float): Keypoints below it are not drawn. Defaults to 0.3.
        smoother (Smoother, optional): Smooths keypoints of a video. People then have a
            ``track_id``.
        report (callable): Gets warnings, each a line. Prints them on stderr by default.
        circles (bool): Whether to draw the circles that hold a keypoint with probability 0.9.
            Defaults to False.

    Returns:
        list[str]: The pictures that could not be read.

    Raises:
        ClientError: The source or a box is not what it should be, or nothing can be read.
        OSError: ``out`` cannot be written.
    """
    session.check_decodes()
    out = Path(out)
    frames = open_source(str(source), out, report)
    if smoother and not frames.is_video:
        raise ClientError('pictures cannot be smoothed, only a video')
    if circles and not session.metadata.get('keypoint_radii'):
        raise ClientError(f'{session.path} has no radii: export a model with a calibration')
    out.mkdir(parents=True, exist_ok=True)
    unreadable = []
    with contextlib.ExitStack() as stack:
        # ends after the frames: it is not there without them
        predictions = stack.enter_context(predictions_file(out / 'predictions.json', session))
        write = stack.enter_context(frames.drawn_into(out))
        for frame in _with_progress(frames):
            if frame.image is None:
                unreadable.append(frame.name)
                continue
            height, width = frame.image.shape[:2]
            people = np.array(bboxes or [[0, 0, width, height]], np.float32)
            people_scores = np.ones(len(people), np.float32)
            if detect:
                people, people_scores = detect(frame.image)
            try:
                keypoints, scores = session.predict(frame.image, people)
            except ClientError as error:
                raise ClientError(f'{frame.name}: {error}') from error
            track_ids: Sequence[Optional[int]] = [None] * len(people)
            radii = session.keypoint_radius(scores, people)
            if smoother:
                noise = None if radii is None else radii[..., 0]  # that holds half of them
                keypoints, track_ids = smoother(keypoints, people, frame.time, noise)
            about = dict(file_name=frame.name, width=width, height=height)
            if frames.is_video:
                about.update(frame=frame.number, time=round(frame.time, 6))
            predictions.add_image(**about)
            people_scores = session.score_people(scores, people_scores)
            radii = [None] * len(people) if radii is None else radii
            for *person, radius in zip(keypoints, scores, people, people_scores, track_ids, radii):
                predictions.add_person(*person, radius)
                shown = radius[:, 1] if circles else None
                draw_skeleton(frame.image, *person[:2], session, score_thr, shown)
            write(frame)
        if not predictions.num_images:
            raise ClientError(f'no picture can be read: {", ".join(unreadable)}')
    return unreadable
