# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Finds keypoints in pictures and videos and writes what it finds."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Union

import numpy as np

from .detector import PersonDetector
from .draw import draw_skeleton
from .errors import ClientError
from .pose import PoseSession
from .predictions import predictions_file
from .smooth import Smoother
from .sources import Frame, Images, Video, open_source


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
    frames = open_source(str(source), out)
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
            if detect:
                boxes, box_scores = detect(frame.image)
            else:
                boxes = np.array(bboxes or [[0, 0, width, height]], np.float32)
                box_scores = np.ones(len(boxes), np.float32)
            try:
                keypoints, scores = session.predict(frame.image, boxes)
            except ClientError as error:
                raise ClientError(f'{frame.name}: {error}') from error
            people_scores = session.score_people(scores, box_scores)
            radii = session.keypoint_radius(scores, boxes)
            track_ids = None
            if smoother:
                noise = None if radii is None else radii[..., 0]  # that holds half of them
                keypoints, track_ids = smoother(keypoints, boxes, frame.time, noise)
            about = dict(file_name=frame.name, width=width, height=height)
            if frames.is_video:
                about.update(frame=frame.number, time=round(frame.time, 6))
            predictions.add_image(**about)
            for i, box in enumerate(boxes):
                radius = None if radii is None else radii[i]
                track_id = None if track_ids is None else track_ids[i]
                predictions.add_person(
                    keypoints[i], scores[i], box, people_scores[i], track_id, radius
                )
                circle = radius[:, 1] if circles else None
                draw_skeleton(frame.image, keypoints[i], scores[i], session, score_thr, circle)
            write(frame)
        if not predictions.num_images:
            raise ClientError(f'no picture can be read: {", ".join(unreadable)}')
    return unreadable
