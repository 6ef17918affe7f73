# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Scores of predictions: the config's own metrics, and a fast stand-in."""

import inspect
import json
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
from mmengine.config import Config
from mmpose.registry import METRICS

from ...utils.checks import invalid
from ...utils.console import quiet
from ..metrics import keypoint_oks, write_compactly
from .capture import People, Rows, read_annotations

# of data without COCO's constants, such as faces: COCO's for eyes
DEFAULT_SIGMA = 0.025
HEAD_KEYPOINTS = ('upper_neck', 'head_top')
# As many as COCO's val2017 has with people. A metric is computed fifty times,
# and on all of COCO's training images COCO's takes a minute and a gigabyte.
METRIC_IMAGES = 2500


def keypoint_similarity(people: People, keypoints: np.ndarray, rows: Rows) -> np.ndarray:
    r"""COCO's keypoint similarity :math:`\exp(-d^2 / (2 s^2 k^2))` of each
    keypoint: the proxy for the metric. It is fast and, unlike a metric with
    thresholds, feels the smallest change. Data without COCO's constants k
    have one for all keypoints.

    Args:
        people (People): The truth.
        keypoints (np.ndarray): Image pixels, shape (P, ..., K, 2).
        rows (slice | np.ndarray): Which people they are of.

    Returns:
        np.ndarray: In [0, 1], 0 where not annotated, shape (P, ..., K).
    """
    arrays = people.arrays
    between = [1] * (keypoints.ndim - 3)
    P, K = keypoints.shape[0], keypoints.shape[-2]
    truth = arrays['gt_keypoints'][rows].reshape(P, *between, K, 2)
    sigmas = people.metainfo.get('sigmas')
    if sigmas is None or len(sigmas) == 0:
        sigmas = np.full(K, DEFAULT_SIGMA)
    similarity = keypoint_oks(keypoints - truth, arrays['area'][rows].reshape(P, *between), sigmas)
    return similarity * people.visible_of(rows).reshape(P, *between, K)


def _add_head_sizes(people: People) -> None:
    """Give people without a head box the length of their head segment, by
    which PCKh is defined: MPII has boxes for its validation images only. 0
    where that is not annotated."""
    if 'gt_head_size' in people.arrays:
        return
    ids = people.metainfo['keypoint_name2id']
    if not set(HEAD_KEYPOINTS) <= set(ids):
        raise ValueError('the metric needs head sizes, which these data do not have')
    neck, top = (ids[name] for name in HEAD_KEYPOINTS)
    truth = people.arrays['gt_keypoints'][:, 0]
    size = np.linalg.norm(truth[:, top] - truth[:, neck], axis=-1)
    size *= people.visible[:, [neck, top]].all(-1)
    people.arrays['gt_head_size'] = size[:, None]


class Scorer:
    """The config's metrics on a part of the people.

    Args:
        cfg (Config): Its ``test_evaluator`` names the metrics.
        people (People): All people.
        members (np.ndarray): Whose images count, bool, shape (N,). Of more
            images than METRIC_IMAGES as many are drawn, always the same. Where
            heads are the unit, people count whose head has a size.

    Attributes:
        rows (np.ndarray): Indices of the people who count, shape (R,).
        images (str): How many images count, ``'2500 of 51000'``.

    Raises:
        ValueError: A metric needs what the data do not have.
    """

    def __init__(self, cfg: Config, people: People, members: np.ndarray) -> None:
        self.people = people
        self.rows = np.flatnonzero(members)
        img_ids = people.arrays['img_id'][self.rows]
        images = np.unique(img_ids)
        self.images = f'{min(len(images), METRIC_IMAGES)} of {len(images)}'
        if len(images) > METRIC_IMAGES:
            drawn = np.random.default_rng(3).permutation(images)[:METRIC_IMAGES]
            self.rows = self.rows[np.isin(img_ids, drawn)]
        evaluators = cfg.get('test_evaluator') or cfg.val_evaluator
        if isinstance(evaluators, dict):
            evaluators = [evaluators]
        self.metrics = [self._build(dict(metric)) for metric in evaluators]

    def _build(self, cfg: dict):
        arguments = inspect.signature(METRICS.get(cfg['type'])).parameters
        if 'norm_item' in arguments:
            default = arguments['norm_item'].default
            if 'head' in np.ravel(cfg.get('norm_item', default)):
                _add_head_sizes(self.people)
                known = self.people.arrays['gt_head_size'].ravel() > 0
                self.rows = self.rows[known[self.rows]]
        if 'outfile_prefix' in arguments:
            cfg.update(outfile_prefix=None, format_only=False)
        with quiet(), tempfile.TemporaryDirectory() as folder:
            if 'ann_file' in arguments:
                cfg['ann_file'] = str(self._write_annotations(folder))
            metric = METRICS.build(cfg)
        metric.dataset_meta = self.people.metainfo
        write_compactly(metric)
        return metric

    def _write_annotations(self, folder: str) -> Path:
        """Annotations of just the images that count."""
        images = set(self.people.arrays['img_id'][self.rows].tolist())
        path = Path(folder, 'annotations.json')
        path.write_text(json.dumps(read_annotations(self.people.ann_file, images)))
        return path

    def _samples(self, keypoints: np.ndarray) -> List[dict]:
        arrays = self.people.arrays
        truth = [name for name in arrays if name.startswith('gt_')]
        return [
            dict(
                id=int(arrays['id'][row]),
                img_id=int(arrays['img_id'][row]),
                category_id=int(arrays['category_id'][row]),
                gt_instances={name[len('gt_') :]: arrays[name][row] for name in truth},
                pred_instances=dict(
                    keypoints=keypoints[i, None],
                    keypoint_scores=arrays['scores'][row, None],
                    bboxes=arrays['gt_bboxes'][row],
                ),
            )
            for i, row in enumerate(self.rows)
        ]

    def __call__(self, keypoints: np.ndarray) -> Dict[str, float]:
        """Score predictions.

        Args:
            keypoints (np.ndarray): Image pixels of the people who count,
                shape (R, K, 2).

        Returns:
            dict: The metrics' values by name.
        """
        values = {}
        samples = self._samples(keypoints)
        for metric in self.metrics:
            metric.process([], samples)
            with quiet():  # `evaluate` would gather from other processes
                result = metric.compute_metrics(metric.results)
            metric.results.clear()
            prefix = f'{metric.prefix}/' if metric.prefix else ''
            values.update({prefix + name: float(value) for name, value in result.items()})
        return values


def primary_metric(cfg: Config, names: Sequence[str], wanted: str = None) -> str:
    """The metric that decides.

    Args:
        cfg (Config): ``save_best`` of its checkpoint hook is the default,
            else the first metric.
        names (Sequence[str]): What there is.
        wanted (str, optional): What the user asks for.

    Raises:
        ValueError: There is no such metric.
    """
    if wanted is not None:
        if wanted not in names:
            raise invalid('metric', wanted, f'one of {list(names)}')
        return wanted
    hook = cfg.get('default_hooks', {}).get('checkpoint', {})
    best = hook.get('save_best')
    return best if best in names else names[0]
