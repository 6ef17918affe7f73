# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The file that ``tools/calibrate.py`` writes: how to decode the outputs of a trained model."""

import inspect
import json
import os
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np
from mmpose.codecs.base import BaseKeypointCodec
from mmpose.registry import KEYPOINT_CODECS

from ..functional import map_scores, step_values
from ..functional.arrays import Array, as_array
from ..utils.checks import check_choice, invalid
from ..version import __version__

FORMAT = 'mmpose_simcc.calibration'
LEVELS = (0.5, 0.9)  # the probabilities of the two radii
INSTANCE_SCORES = ('bbox_keypoint', 'keypoint')
FLIP_TESTS = ('none', 'stock', 'exact')

# files of earlier versions, and the tools that wrote them
OLD_FORMATS = {
    'mmpose_simcc.learned_delta': 'tools/calibrate_daec.py',
    'mmpose_simcc.score_calibration': 'tools/calibrate_scores.py',
}
# The arguments of a codec that say what a network's outputs are. The others say how they are
# decoded, and a calibration replaces them.
OUTPUT_ARGUMENTS = (
    'input_size',
    'heatmap_size',
    'sigma',
    'unbiased',
    'blur_kernel_size',
    'use_udp',
    'simcc_split_ratio',
    'label_smoothing',
    'smoothing',
    'normalize',
    'beta',
    'label_softmax',
    'label_beta',
)
# the ones on which a calibration depends
MADE_FOR = ('input_size', 'heatmap_size', 'sigma', 'use_udp', 'simcc_split_ratio', 'beta')

PathLike = Union[str, os.PathLike]


def made_for(codec: BaseKeypointCodec) -> Dict[str, Any]:
    """The arguments of a codec on which a calibration of it depends.

    Example:
        >>> from mmpose_simcc import DARKCodec
        >>> made_for(DARKCodec((192, 256), (48, 64), sigma=2))
        {'input_size': [192, 256], 'heatmap_size': [48, 64], 'sigma': 2, 'use_udp': False}
    """
    return {name: _as_lists(getattr(codec, name)) for name in MADE_FOR if hasattr(codec, name)}


def another_decoder(codec: BaseKeypointCodec, decoder: dict) -> BaseKeypointCodec:
    """A codec that reads the same outputs in another way.

    Args:
        codec (TensorCodec): Says what the outputs are.
        decoder (dict): Type of the other codec and its arguments of decoding.

    Raises:
        ValueError: There is no such decoder, or an argument is out of its range.
    """
    try:
        parameters = inspect.signature(KEYPOINT_CODECS.get(decoder['type'])).parameters
        outputs = {
            name: getattr(codec, name)
            for name in OUTPUT_ARGUMENTS
            if name in parameters and hasattr(codec, name)
        }
        return KEYPOINT_CODECS.build({**outputs, **decoder})
    except (TypeError, KeyError, AttributeError) as error:
        raise invalid('decoder', decoder, 'a codec of mmpose_simcc with its arguments') from error


def _as_lists(value: Any) -> Any:
    """A value as JSON can represent it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _numbers(name: str, value: Any, shape: Sequence[Optional[int]]) -> np.ndarray:
    """A float64 array of finite numbers.

    Args:
        name (str): Named in the message.
        value: Nested lists.
        shape (sequence): The shape; None allows any size.

    Raises:
        ValueError: It is no such array.
    """
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.array('')
    is_number = array.dtype.kind in 'if'  # not text, not booleans
    sizes = array.ndim == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape)
    )
    if not (is_number and sizes and np.isfinite(array).all()):
        text = ', '.join('any' if size is None else str(size) for size in shape)
        raise invalid(name, _short(value), f'finite numbers of shape ({text})')
    return array.astype(np.float64)


def _is_single(rows: Any) -> bool:
    return isinstance(rows, list) and len(rows) == 1


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f'{text[:57]}...'


def _stack(rows: Sequence[np.ndarray], length: int, **padding: Any) -> np.ndarray:
    """Rows of unequal length in one array, the shorter ones padded as by ``np.pad``."""
    rows = [
        np.pad(row, [(0, length - len(row)), *[(0, 0)] * (row.ndim - 1)], **padding) for row in rows
    ]
    return np.stack(rows)


class ScoreMaps:
    """For each keypoint a map from its score to how good it is, see
    :func:`~mmpose_simcc.functional.map_scores`.

    Args:
        points (sequence): For each keypoint pairs (score, value). Scores rise; values lie in
            [0, 1] and do not fall.

    Raises:
        ValueError: The points are not like this.
    """

    def __init__(self, points: Sequence) -> None:
        self.points = points
        if not isinstance(points, (list, tuple)) or not points:
            raise invalid('score_maps', _short(points), 'a list of points for each keypoint')
        rows = [_numbers('score_maps', row, (None, 2)).T for row in points]
        for scores, values in rows:
            # float32 has to tell scores apart
            if not (
                len(scores)
                and (np.diff(scores.astype(np.float32)) > 0).all()
                and (np.diff(values) >= 0).all()
                and 0 <= values[0] <= values[-1] <= 1
            ):
                raise invalid(
                    'score_maps',
                    _short(np.stack([scores, values], 1).tolist()),
                    'pairs of a rising score and a value in [0, 1] that never falls',
                )
        length = max(len(values) for _, values in rows) + 1  # with at least one line
        # behind the last point scores go on to rise, while values stay
        self.knots = _stack(
            [knots for knots, _ in rows],
            length,
            mode='linear_ramp',
            end_values=1 + max(knots[-1] for knots, _ in rows),
        )
        self.values = _stack([values for _, values in rows], length, mode='edge')

    def __len__(self) -> int:
        return len(self.knots)

    def __call__(self, scores: Array) -> Array:
        """Scores (..., K) to values in [0, 1], (..., K)."""
        return map_scores(scores, as_array(self.knots, scores), as_array(self.values, scores))


class Radii:
    """For each keypoint the radius within which the truth lies, as a function of the score.

    In each interval of scores a radius is a split-conformal quantile of the distances on pictures
    that nothing else was fitted on (Vovk, 2012, "Conditional validity of inductive conformal
    predictors"). A keypoint in a new picture of the same kind lies within it with at least the
    stated probability, whatever the distribution of the distances.

    Args:
        edges (sequence): For each keypoint the M - 1 scores, rising, at which a new one of its M
            intervals begins.
        pixels (sequence): For each keypoint the radii of :data:`LEVELS` in each interval, in
            input-image pixels, (M, 2).

    Raises:
        ValueError: They are not like this.
    """

    def __init__(self, edges: Sequence, pixels: Sequence) -> None:
        self.edges, self.pixels = edges, pixels
        if not (
            isinstance(edges, (list, tuple))
            and isinstance(pixels, (list, tuple))
            and len(edges) == len(pixels) > 0
        ):
            raise invalid('radii', _short(edges), 'edges and pixels for each keypoint')
        rows = [_numbers('radii.pixels', row, (None, len(LEVELS))) for row in pixels]
        starts = [
            _numbers('radii.edges', edge if len(edge) else np.zeros(0), (len(row) - 1,))
            for edge, row in zip(edges, rows)
        ]
        for start, row in zip(starts, rows):
            if (np.diff(start) <= 0).any() or (row < 0).any() or (np.diff(row) < 0).any():
                raise invalid(
                    'radii', _short(row.tolist()), 'rising edges, and a larger radius for 0.9'
                )
        longest = max(map(len, rows))
        self._edges = _stack(starts, longest - 1, constant_values=np.inf)
        self._pixels = _stack(rows, longest, mode='edge')

    def __len__(self) -> int:
        return len(self._edges)

    def __call__(self, scores: Array) -> Array:
        """Radii in input-image pixels, (..., K, 2), of scores (..., K)."""
        return step_values(scores, as_array(self._edges, scores), as_array(self._pixels, scores))


class Calibration:
    """How the outputs of one model are decoded, and what its scores mean.

    Args:
        codec (TensorCodec): The model's codec.
        content (dict): What the file holds, see :func:`save_calibration`.

    Attributes:
        decoder (TensorCodec): Decodes in place of ``codec``.
        offset (np.ndarray, optional): Subtracted from its keypoints, input-image pixels, shape
            (K or 1, 2).
        score_maps (ScoreMaps, optional): What its scores are worth.
        radii (Radii, optional): How far off its keypoints may be.
        instance_score (str): How a person is scored, see :meth:`score_instance`.
        num_keypoints (int): K.
        flip_test (str): The flip test that it was made with: 'none', 'stock' or 'exact'.
        model (str, optional): Digest of the weights that it was made for.
        calibrated_on (str): The pictures that it was made on, in words.

    Raises:
        ValueError: It was made for another codec, or an entry is missing or wrong.
    """

    def __init__(self, codec: BaseKeypointCodec, content: dict) -> None:
        needed = dict(decoder=dict, made_for=dict, calibrated_on=str)
        for name, kind in needed.items():
            if not isinstance(content.get(name), kind):
                raise invalid(name, content.get(name), f'a {kind.__name__}, and given')
        expected = content['made_for']
        for name, value in made_for(codec).items():
            if expected.get(name) != value:
                raise ValueError(
                    f'it was made for {name}={expected.get(name)!r}, but the codec has '
                    f'{name}={value!r}'
                )
        self.num_keypoints = K = expected.get('num_keypoints')
        if not isinstance(K, int) or K < 1:
            raise invalid('made_for.num_keypoints', K, 'a whole number >= 1')
        self.flip_test = check_choice('made_for.flip_test', expected.get('flip_test'), FLIP_TESTS)
        self.model = expected.get('model')
        self.calibrated_on = content['calibrated_on']
        self.decoder = another_decoder(codec, content['decoder'])
        offset = content.get('offset')
        if offset is not None:
            offset = _numbers('offset', offset, (1 if _is_single(offset) else K, 2))
        self.offset = offset
        self.score_maps = self._of_keypoints('score_maps', content, ScoreMaps)
        self.radii = self._of_keypoints('radii', content, lambda radii: Radii(**radii))
        self.instance_score = check_choice(
            'instance_score', content.get('instance_score', INSTANCE_SCORES[0]), INSTANCE_SCORES
        )

    def _of_keypoints(self, name: str, content: dict, make):
        if content.get(name) is None:
            return None
        try:
            found = make(content[name])
        except TypeError as error:
            raise invalid(name, _short(content[name]), 'as tools/calibrate.py writes it') from error
        if len(found) != self.num_keypoints:
            raise invalid(name, f'{len(found)} keypoints', f'of {self.num_keypoints} keypoints')
        return found

    def __call__(self, *encoded: Array):
        """Decode a batch.

        Args:
            encoded (Array): Network outputs, shape (B, K, ...).

        Returns:
            tuple:
            - keypoints (Array): Input-image pixels, shape (B, K, 2).
            - scores (Array): Shape (B, K).

        Raises:
            ValueError: The outputs have another number of keypoints.
        """
        K = encoded[0].shape[1]
        if self.num_keypoints != K:
            raise invalid(
                'calibration',
                f'a file for {self.num_keypoints} keypoints',
                f'a file for the {K} keypoints that are decoded',
            )
        keypoints, scores = self.decoder.decode_tensors(*encoded)
        if self.offset is not None:
            keypoints = keypoints - as_array(self.offset, like=keypoints)
        return keypoints, scores if self.score_maps is None else self.score_maps(scores)

    def score_instance(self, scores: np.ndarray, bbox_score: np.ndarray) -> np.ndarray:
        """The score of a person.

        Args:
            scores (np.ndarray): The calibrated scores of the keypoints, shape (..., K).
            bbox_score (np.ndarray): The score of the box, shape (...).

        Returns:
            np.ndarray: The mean of the keypoints' scores, for ``'bbox_keypoint'`` times the
            box's. Shape (...).
        """
        mean = scores.mean(-1)
        return mean * bbox_score if self.instance_score == 'bbox_keypoint' else mean


def save_calibration(path: PathLike, content: dict) -> None:
    """Write what :func:`load_calibration` reads.

    Args:
        path (str | Path): The JSON file.
        content (dict): ``decoder`` (type and arguments of decoding), ``made_for``
            (:func:`made_for` with ``num_keypoints``, ``flip_test`` and ``model``) and
            ``calibrated_on``; optional are ``offset``, ``score_maps``, ``radii`` and
            ``instance_score``, see :class:`Calibration`. Other entries are for people to read.
    """
    content = {**content, 'format': FORMAT, 'version': __version__}
    lines = []
    for name, value in content.items():  # each entry of a list gets a line
        if isinstance(value, list):
            rows = ',\n    '.join(json.dumps(row) for row in value)
            value = f'[\n    {rows}\n  ]'
        else:
            value = json.dumps(value)
        lines.append(f'  {json.dumps(name)}: {value}')
    Path(path).write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')


def read_calibration(path: PathLike) -> dict:
    """Read a calibration without a codec.

    Raises:
        ValueError: There is no such file, or it is not a calibration.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise invalid('calibration', path, 'the path of a JSON file by tools/calibrate.py')
    name = f'`calibration` file {os.fspath(path)!r}'
    try:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
    except OSError as error:
        raise ValueError(f'{name} cannot be read: {error.strerror}') from error
    except ValueError as error:
        raise ValueError(f'{name} is not JSON: {error}') from error
    found = content.get('format') if isinstance(content, dict) else None
    if isinstance(found, str) and found in OLD_FORMATS:
        raise ValueError(
            f'{name} is by {OLD_FORMATS[found]} of an earlier version; make it anew: '
            f'python tools/calibrate.py CONFIG CHECKPOINT --out {os.fspath(path)}'
        )
    if found != FORMAT or not isinstance(content.get('made_for'), dict):
        raise ValueError(f'{name} is not by tools/calibrate.py')
    return content


def load_calibration(path: PathLike, codec: BaseKeypointCodec) -> Calibration:
    """Read what ``tools/calibrate.py`` wrote.

    Args:
        path (str | Path): The JSON file.
        codec (TensorCodec): The codec that will use it.

    Returns:
        Calibration: It decodes in the place of the codec.

    Raises:
        ValueError: There is no such file, it is not a calibration, or it was made for another
            codec; the message names the difference.
    """
    content = read_calibration(path)
    try:
        return Calibration(codec, content)
    except ValueError as error:
        raise ValueError(f'`calibration` file {os.fspath(path)!r}: {error}') from error
