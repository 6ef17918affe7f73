# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds keypoints in pictures and videos and writes what it finds."""

import json
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from .detector import PersonDetector
from .draw import draw_skeleton
from .errors import ClientError
from .files import unfinished_path, whole_file
from .pose import PoseSession

IMAGE_SUFFIXES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

Frame = Tuple[str, Optional[np.ndarray]]


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
        out (Path): Folder for the drawn ones.
    """

    def __init__(self, paths: Sequence[Path], out: Path) -> None:
        self.paths, self.out = paths, out

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Frame]:
        for path in self.paths:
            yield path.name, read_image(path)

    def write(self, name: str, image: np.ndarray) -> None:
        path = self.out / name
        _, data = cv2.imencode(path.suffix, image)
        with whole_file(path) as unfinished:
            unfinished.write_bytes(data.tobytes())

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        pass


class Video:
    """The frames of a video, drawn into an MP4 of the same stem, which is
    there only once it is whole.

    Args:
        path (Path): The video.
        out (Path): Folder for the drawn one.

    Raises:
        ClientError: OpenCV cannot read it.
    """

    def __init__(self, path: Path, out: Path) -> None:
        self.path = path
        self.capture = cv2.VideoCapture(str(path))
        if not self.capture.isOpened():
            raise ClientError(
                f'{path} is no picture ({", ".join(IMAGE_SUFFIXES)}) and no '
                'video that OpenCV can read'
            )
        self.target = out / f'{path.stem}.mp4'
        self.unfinished = unfinished_path(self.target)
        self.writer = None
        self.written = 0

    def __len__(self) -> int:
        return max(0, int(self.capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[Frame]:
        number = 0
        while True:
            read, image = self.capture.read()
            if not read:
                break
            number += 1
            yield f'{self.path.name}#{number}', image

    def write(self, name: str, image: np.ndarray) -> None:
        if self.writer is None:
            fps = self.capture.get(cv2.CAP_PROP_FPS) or 25.0
            self.writer = cv2.VideoWriter(
                str(self.unfinished), cv2.VideoWriter_fourcc(*'mp4v'), fps, image.shape[1::-1]
            )
            if not self.writer.isOpened():
                raise ClientError(f'cannot write {self.target}')
        self.writer.write(image)
        self.written += 1

    def __enter__(self):
        return self

    def __exit__(self, error_type, *error) -> None:
        self.capture.release()
        try:
            if self.writer is not None:
                self.writer.release()
                if error_type is None:
                    self._keep()
        finally:
            self.unfinished.unlink(missing_ok=True)

    def _keep(self) -> None:
        # OpenCV does not say when it cannot write
        found = cv2.VideoCapture(str(self.unfinished))
        frames = int(found.get(cv2.CAP_PROP_FRAME_COUNT))
        found.release()
        if frames != self.written:
            raise ClientError(f'cannot write {self.target}: {frames} of {self.written} frames fit')
        self.unfinished.replace(self.target)


def open_source(path: Path, out: Path) -> Union[Images, Video]:
    """What to read and where to draw: one picture, the pictures of a folder,
    or a video.

    Raises:
        ClientError: There is nothing to read, or ``out`` would overwrite it.
    """
    if not path.exists():
        raise ClientError(f'there is no {path}')
    folder = path if path.is_dir() else path.parent
    if out.resolve() == folder.resolve():
        raise ClientError(f'{out} holds the input: name another folder')
    if path.is_dir():
        paths = sorted(child for child in path.iterdir() if child.suffix.lower() in IMAGE_SUFFIXES)
        if not paths:
            raise ClientError(f'{path} has no pictures ({", ".join(IMAGE_SUFFIXES)})')
        return Images(paths, out)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return Images([path], out)
    return Video(path, out)


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


def _annotations(
    keypoints: np.ndarray, scores: np.ndarray, bboxes: np.ndarray, bbox_scores: np.ndarray
) -> List[dict]:
    """COCO's result format: keypoints (x, y, score), one score a person."""
    triples = np.concatenate([keypoints, scores[..., None]], axis=-1)
    return [
        dict(
            category_id=1,
            keypoints=[round(float(value), 3) for value in triple.ravel()],
            num_keypoints=len(triple),
            bbox=[round(float(value), 3) for value in bbox],
            area=float(bbox[2] * bbox[3]),
            iscrowd=0,
            score=float(triple[:, 2].mean() * bbox_score),
        )
        for triple, bbox, bbox_score in zip(triples, bboxes, bbox_scores)
    ]


def infer(
    model: str,
    source: str,
    out: str,
    bboxes: Optional[Sequence[Sequence[float]]] = None,
    detector: Optional[str] = None,
) -> List[str]:
    """Find keypoints, and write pictures or a video with skeletons and
    ``predictions.json``.

    The latter is in COCO's format (``images``, ``annotations``,
    ``categories``); its annotations, with a score each, are COCO results as
    well.

    Args:
        model (str): A model that ``tools/export_onnx.py`` has written.
        source (str): A picture, a folder of pictures, or a video.
        out (str): Folder to write to.
        bboxes (sequence, optional): Boxes (x, y, w, h) around the people, the
            same in every picture. The whole picture by default.
        detector (str, optional): See :class:`PersonDetector`.

    Returns:
        list[str]: The pictures that could not be read.

    Raises:
        ClientError: A model or the source is not what it should be.
        OSError: ``out`` cannot be written.
    """
    session = PoseSession(model)
    detect = PersonDetector(detector) if detector else None
    out = Path(out)
    frames = open_source(Path(source), out)
    out.mkdir(parents=True, exist_ok=True)
    images, annotations, unreadable = [], [], []
    with frames:
        for name, image in _with_progress(frames):
            if image is None:
                unreadable.append(name)
                continue
            height, width = image.shape[:2]
            if detect:
                people, people_scores = detect(image)
            else:
                people = np.array(bboxes or [[0, 0, width, height]], np.float32)
                people_scores = np.ones(len(people), np.float32)
            keypoints, scores = session.predict(image, people)
            images.append(dict(id=len(images) + 1, file_name=name, width=width, height=height))
            for annotation in _annotations(keypoints, scores, people, people_scores):
                annotations.append(
                    dict(id=len(annotations) + 1, image_id=len(images), **annotation)
                )
            for person in zip(keypoints, scores):
                draw_skeleton(image, *person, session)
            frames.write(name, image)
    category = dict(
        id=1,
        name='person',
        supercategory='person',
        keypoints=session.keypoint_names,
        skeleton=[[start + 1, end + 1] for start, end in session.skeleton],
    )
    with whole_file(out / 'predictions.json') as unfinished:
        unfinished.write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=[category]))
        )
    return unreadable
