# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns what a model's scores are worth, on pictures that it was not trained on."""

import copy
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

import numpy as np
from mmengine.config import Config
from scipy.optimize import isotonic_regression

from ...codecs.base import TensorCodec
from ...codecs.score_calibration import (
    ScoreCalibration,
    decoder_identity,
    save_score_calibration,
)
from ...utils.checks import check_choice
from ..calibration.search import bootstrap_gain
from ..hold_out import hold_out
from ..identity import name_model
from ..reliability import bin_sums, equal_mass_bins, reliability
from ..scoring import find_similarity
from .data import datasets_of, path_of, pictures_of, test_on, use_annotated_boxes
from .errors import CompareError
from .evaluation import build_metrics, evaluate
from .runs import Run

MAX_KNOTS = 31
SAMPLES = 40  # keypoints to a knot
FEWEST = 100  # of one kind that have a map of their own
FOLDS = 5


def fit_map(scores: np.ndarray, similarity: np.ndarray) -> List[List[float]]:
    """Isotonic regression of the similarity on the score, over bins of equal mass.

    Args:
        scores (np.ndarray): Shape (N,).
        similarity (np.ndarray): In [0, 1], shape (N,).

    Returns:
        list: At most 32 points (score, value), between which the map is linear. A score of 0,
        by which a codec says that there is no peak, stays 0.
    """
    bins = min(MAX_KNOTS, max(1, len(scores) // SAMPLES))
    sums = bin_sums(equal_mass_bins(scores, bins), bins, scores, similarity)
    count, score_sums, similarity_sums = sums[:, sums[0] > 0]
    # bins of one score, such as the highest, are one
    knots, place = np.unique((score_sums / count).round(5), return_inverse=True)
    weights = np.bincount(place, count)
    means = np.bincount(place, similarity_sums) / weights
    values = isotonic_regression(means, weights=weights).x.clip(0, 1).round(5)
    points = np.stack([knots, values], 1).tolist()
    return [[0.0, 0.0], *points] if knots[0] > 0 else points


def fit_maps(
    scores: np.ndarray, similarity: np.ndarray, of_each: bool = True
) -> Tuple[List[list], List[int]]:
    """A map for each keypoint.

    Args:
        scores (np.ndarray): Shape (N, K).
        similarity (np.ndarray): Shape (N, K), NaN where there is no truth.
        of_each (bool): Whether keypoints have maps of their own; those with
            less than 100 samples share one of all keypoints, as do all
            without it.

    Returns:
        tuple: K maps, and the indices of those that share one.
    """
    known = ~np.isnan(similarity)
    common = fit_map(scores[known], similarity[known])
    shared = np.flatnonzero((known.sum(0) < FEWEST) | (not of_each)).tolist()
    return [
        common if k in shared else fit_map(scores[known[:, k], k], similarity[known[:, k], k])
        for k in range(scores.shape[1])
    ], shared


def cross_fit(
    scores: np.ndarray, similarity: np.ndarray, img_ids: np.ndarray, of_each: bool = True
) -> np.ndarray:
    """Calibrated scores (N, K), each by :func:`fit_maps` on other images."""
    images, image_of = np.unique(img_ids, return_inverse=True)
    folds = min(FOLDS, len(images))
    fold = np.random.default_rng(0).permutation(len(images))[image_of] % folds
    calibrated = np.empty_like(scores)
    for i in range(folds):
        knots, _ = fit_maps(scores[fold != i], similarity[fold != i], of_each)
        calibrated[fold == i] = ScoreCalibration(knots)(scores[fold == i])
    return calibrated


def choose_maps(
    scores: np.ndarray, similarity: np.ndarray, img_ids: np.ndarray
) -> Tuple[List[list], List[int], np.ndarray]:
    """Maps of each keypoint where they are better than a shared one on images that they were not
    fitted on: where the interval of what they gain in squared error lies above 0.

    Args:
        scores (np.ndarray): Shape (N, K).
        similarity (np.ndarray): Shape (N, K), NaN where there is no truth.
        img_ids (np.ndarray): The image of each person, shape (N,).

    Returns:
        tuple: K maps, the indices of those that share one, and the scores (N, K) as maps of other
        images calibrate them.
    """
    calibrated = [cross_fit(scores, similarity, img_ids, of_each) for of_each in (False, True)]
    by_shared, by_each = (-np.nansum((c - similarity) ** 2, axis=1) for c in calibrated)
    counts = (~np.isnan(similarity)).sum(1)
    of_each = bootstrap_gain(by_each, by_shared, counts, img_ids).low > 0
    return (*fit_maps(scores, similarity, of_each), calibrated[of_each])


@dataclass
class CalibratedScores:
    """What was learned.

    Attributes:
        codec (TensorCodec): Whose scores.
        knots (list): A map for each keypoint, see :func:`fit_maps`.
        calibrated_on (str): The pictures in words.
        seen (bool): Whether the config trains on some of them.
        similarity (str): What a score is the expectation of.
        shared (list[int]): Keypoints without a map of their own: they have too few samples, or it
            would gain nothing.
        raw (dict): ``ECE`` and ``AUROC`` of the scores as they are.
        calibrated (dict): The same, each picture by maps that were fitted on others.
        model (dict): The model.
    """

    codec: TensorCodec
    knots: List[list]
    calibrated_on: str
    seen: bool
    similarity: str
    shared: List[int]
    raw: Dict[str, float]
    calibrated: Dict[str, float]
    model: dict

    def save(self, path: Path) -> None:
        """Write the JSON file for a codec's ``score_calibration``."""
        names = ('seen', 'similarity', 'shared', 'raw', 'calibrated', 'model')
        about = {name: getattr(self, name) for name in names}
        save_score_calibration(path, self.codec, self.calibrated_on, self.knots, about)


def _pictures(dataset: dict) -> Set[Path]:
    """Those of a data set in COCO's layout."""
    folder = path_of(dataset, (dataset.get('data_prefix') or {}).get('img', ''))
    content = json.loads(path_of(dataset, dataset['ann_file']).read_text())
    return {(folder / image['file_name']).resolve() for image in content['images']}


def _choose_pictures(
    run: Run, work_dir: Path, data: str, ann_file: Optional[Path]
) -> Tuple[Path, bool]:
    """Test on the pictures to calibrate on, in place; their annotations, and whether the config
    trains on some of them."""
    cfg = run.cfg
    run.check_data('train')
    training = [copy.deepcopy(dataset) for dataset in datasets_of(cfg, 'train')]
    if ann_file:
        test_on(cfg, Path(ann_file))
    elif data == 'test':
        use_annotated_boxes(cfg)
    else:
        path = path_of(training[0], training[0]['ann_file'])
        held_out = path.with_name(path.name.replace('-kept.json', '-held_out.json'))
        if held_out == path or not held_out.is_file():
            _, held_out = hold_out([(path, pictures_of(training[0]))], work_dir)
        test_on(cfg, held_out)
    run.check_data('test')
    (test,) = datasets_of(cfg, 'test')
    pictures = _pictures(test)
    seen = any(pictures & _pictures(dataset) for dataset in training)
    return path_of(test, test['ann_file']), seen


def calibrate_scores(
    cfg: Config,
    checkpoint: str,
    work_dir: Path,
    data: str = 'hold_out',
    ann_file: Optional[Path] = None,
) -> CalibratedScores:
    """Learn a map from the scores of a model's codec to the expected similarity of a keypoint to
    the truth: its OKS where the config's metric is COCO's, else the probability that it is not
    off by more than t.

    Args:
        cfg (Config): Config of a top-down model. Its decoder is calibrated, or the one of this
            package that does the same.
        checkpoint (str): Its weights.
        work_dir (Path): Gets the annotations of the hold-out.
        data (str): ``'hold_out'``: the fifth of the training images that
            :func:`~mmpose_simcc.workbench.hold_out.hold_out` leaves out, where the config trains
            on the others truly held out; ``'test'``: the config's test data with annotated
            boxes.
        ann_file (Path, optional): Annotations of other pictures in the training folder.

    Returns:
        CalibratedScores: The maps.

    Raises:
        ValueError: An argument is out of its range, or the pictures have no truth to fit to.
        CompareError: Data, metrics or checkpoint do not serve.
    """
    check_choice('data', data, ('hold_out', 'test'))
    cfg = copy.deepcopy(cfg)
    run = Run(Path(cfg.filename or 'model').stem, cfg, str(checkpoint))
    run.head.decoder.pop('score_calibration', None)
    codec = run.equivalent_codec()
    if codec is None:
        raise CompareError(
            f'{run.name}: no codec of mmpose_simcc decodes like {run.head.decoder.type}'
        )
    path, seen = _choose_pictures(run, work_dir, data, ann_file)
    similarity = find_similarity(build_metrics(run))
    if similarity is None:
        raise CompareError(f'{run.name}: `test_evaluator` has no CocoMetric, PCKAccuracy or NME')
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder, 'predictions')
        evaluate(run, str(checkpoint), dict(raw=decoder_identity(codec)), dict(raw=prefix))
        with np.load(f'{prefix}.npz') as stored:
            img_ids, scores = stored['img_ids'], stored['scores'].astype(float)
            truth = stored['similarity'].astype(float)
    people = (~np.isnan(truth)).any(1)
    images = len(set(img_ids[people]))
    if images < 2:  # one is judged by what the other tells
        raise ValueError(f'{path} must have annotated keypoints in 2 images, but has {images}')
    knots, shared, calibrated = choose_maps(scores[people], truth[people], img_ids[people])
    return CalibratedScores(
        codec=codec,
        knots=knots,
        calibrated_on=f'{path.name} ({images} images, {people.sum()} people)'
        + (', seen in training' if seen else ''),
        seen=seen,
        similarity=str(similarity),
        shared=shared,
        raw=reliability(scores, truth),
        calibrated=reliability(calibrated, truth[people]),
        model=name_model(cfg, checkpoint),
    )
