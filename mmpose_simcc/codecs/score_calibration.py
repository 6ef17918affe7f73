# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Files of calibrated scores, and when they apply."""

import inspect
import json
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec
from torch import Tensor

from ..functional import map_scores
from ..functional.arrays import Array, as_array
from ..utils.checks import invalid
from ..version import __version__
from .learned import check_settings, plain, read_learned

FORMAT = 'mmpose_simcc.score_calibration'
# of the arguments, those that say nothing of how outputs are decoded
LABEL_ARGUMENTS = ('unbiased',)


class ScoreCalibration:
    """A map from a codec's scores to how good keypoints are, see
    :func:`~mmpose_simcc.functional.map_scores`.

    Args:
        knots (sequence): For each keypoint, points (score, value) by rising
            scores, with values in [0, 1] that do not fall.
        about (dict): What else the file says.

    Raises:
        ValueError: They are others.
    """

    def __init__(self, knots: Sequence, about: Optional[dict] = None) -> None:
        self.about = about or {}
        try:
            rows = [np.array(row, np.float64).reshape(-1, 2).T for row in knots]
        except (TypeError, ValueError):
            rows = []
        # float32 has to tell knots apart
        if not rows or not all(
            row.shape[1]
            and np.isfinite(row).all()
            and (np.diff(row[0].astype(np.float32)) > 0).all()
            and (np.diff(row[1]) >= 0).all()
            and 0 <= row[1, 0] <= row[1, -1] <= 1
            for row in rows
        ):
            raise invalid(
                'knots',
                f'{str(knots)[:60]}...',
                'for each keypoint pairs of a rising score and a value in [0, 1] that never falls',
            )
        longest = max(row.shape[1] for row in rows) + 1
        self.knots = np.stack([_extend(row[0], longest, step=1) for row in rows])
        self.values = np.stack([_extend(row[1], longest, step=0) for row in rows])
        # all tables in one line, for one search by numpy
        self._low, self._high = self.knots[:, 0], self.knots[:, -1]
        self._shift = np.arange(len(rows)) * (self._high.max() - self._low.min() + 1)
        self._line = (self.knots + self._shift[:, None]).ravel(), self.values.ravel()

    def __call__(self, scores: Array) -> Array:
        """Calibrate scores.

        Args:
            scores (Array): Shape (B, K).

        Returns:
            Array: In [0, 1], shape (B, K).

        Raises:
            ValueError: K is another than that of the calibration.
        """
        if scores.shape[-1] != len(self.knots):
            raise invalid(
                'score_calibration',
                f'a file for {len(self.knots)} keypoints',
                f'a file for the {scores.shape[-1]} keypoints that are decoded',
            )
        if isinstance(scores, Tensor):
            return map_scores(
                scores, as_array(self.knots, like=scores), as_array(self.values, like=scores)
            )
        inside = scores.clip(self._low, self._high)
        return np.interp(inside + self._shift, *self._line).astype(scores.dtype)


def _extend(row: np.ndarray, length: int, step: int) -> np.ndarray:
    """Rows of one length: beyond its last knot a map is constant."""
    return np.append(row, row[-1] + step * np.arange(1, length - len(row) + 1))


def decoder_identity(codec: BaseKeypointCodec) -> Dict[str, Any]:
    """A codec's type, and the arguments on which its decoding depends."""
    names = [
        name
        for name, parameter in inspect.signature(type(codec)).parameters.items()
        if name not in (*LABEL_ARGUMENTS, 'calibration', 'score_calibration')
        and parameter.kind is not parameter.VAR_KEYWORD
    ]
    return dict(type=type(codec).__name__, **{name: plain(getattr(codec, name)) for name in names})


def save_score_calibration(
    path, codec: BaseKeypointCodec, calibrated_on: str, knots: List[list], about: dict
) -> None:
    """Write what :func:`load_score_calibration` reads.

    Args:
        path (str | Path): The JSON file.
        codec (TensorCodec): Whose scores it is for.
        calibrated_on (str): The data in words.
        knots (list): See :class:`ScoreCalibration`.
        about (dict): What else should be known of it.
    """
    content = dict(
        format=FORMAT,
        version=__version__,
        calibrated_on=calibrated_on,
        decoder=decoder_identity(codec),
        num_keypoints=len(knots),
        **about,
    )
    head = json.dumps(content, indent=2).rpartition('\n')[0]
    rows = ',\n    '.join(map(json.dumps, knots))  # a line for each keypoint
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'{head},\n  "knots": [\n    {rows}\n  ]\n}}\n')


def load_score_calibration(path: str, codec: BaseKeypointCodec) -> ScoreCalibration:
    """Read what ``tools/calibrate_scores.py`` wrote.

    Args:
        path (str): The JSON file.
        codec (TensorCodec): The codec that will use it.

    Returns:
        ScoreCalibration: The map.

    Raises:
        ValueError: There is no such file, it is another one, or it was
            calibrated for another codec; the message names the difference.
    """
    if not isinstance(path, str):
        raise invalid('score_calibration', path, 'the path of a JSON file')
    name = f'`score_calibration` file {path!r}'
    content = read_learned(
        path,
        name,
        FORMAT,
        dict(decoder=dict, calibrated_on=str, knots=list),
        'calibration of scores by tools/calibrate_scores.py',
    )
    check_settings(name, content['decoder'], decoder_identity(codec))
    try:
        return ScoreCalibration(
            content['knots'], {key: value for key, value in content.items() if key != 'knots'}
        )
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from error
