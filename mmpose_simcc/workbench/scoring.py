# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Scores predictions by a config's metrics, for any number of decoders after one forward pass.

1. :func:`predict` goes through the batches once. It keeps the truth once, as :class:`People`, and
   of each decoder keypoints and scores, as :class:`Predictions`.
2. :class:`Scorer` builds the metrics once and is called with the predictions of one decoder after
   another.

To score a new decoder, give :func:`predict` one more function from what the batches hold (network
outputs, crops, ...) to keypoints in input pixels. The scorer also takes keypoints, in image pixels,
that were computed in another way.
"""

import copy
import functools
import pickle
import tempfile
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np
from mmengine.dist import collect_results, get_world_size
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.structures import InstanceData
from mmpose.evaluation.functional import transform_ann
from mmpose.evaluation.metrics import (
    EPE,
    NME,
    CocoMetric,
    CocoWholeBodyMetric,
    MpiiPCKAccuracy,
    PCKAccuracy,
)
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import METRICS
from mmpose.structures import PoseDataSample
from xtcocotools.coco import COCO

from ..utils.configs import class_of
from ..utils.console import silenced
from ..utils.inference import one_line
from .data import check_annotations
from .data.coco import read_annotations
from .metrics import PCK_NAMES, keypoint_oks, write_compactly
from .reliability import reliability

Arrays = Dict[str, np.ndarray]

NME_THRESHOLD = 0.1  # of the norm: a failure, as of WFLW (Wu et al., 2018, Section 5.1)


class OnDisk:
    """Batches in a temporary file. In memory the batches of 100,000 detections would be a million
    small objects, scattered among the large arrays of the forward pass, whose memory could then
    not be returned to the system.

    Args:
        folder (Path, optional): For the file, which has no name there.
    """

    def __init__(self, folder: Optional[Path] = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (as long as this object)
        self._starts: List[int] = []

    def append(self, batch: Any) -> None:
        self._starts.append(self._file.seek(0, 2))
        pickle.dump(batch, self._file)

    def __iter__(self) -> Iterator[Any]:
        for start in self._starts:
            self._file.seek(start)
            yield pickle.load(self._file)

    def arrays(self) -> Arrays:
        """Of batches that are dicts of arrays, those that all of them have, one after another."""
        batches = list(self)
        names = [name for name in batches[0] if all(name in batch for batch in batches)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in names}


class People:
    """The people of a data set in its order, or a process's share of them: everything about them
    that does not depend on a prediction.

    Args:
        metainfo (dict): Of the data set.
        folder (Path, optional): For the file in which the samples wait.

    Attributes:
        metainfo (dict): Of the data set.
        samples (iterable): Batches of samples as metrics get them, dicts without predictions.
    """

    def __init__(self, metainfo: dict, folder: Optional[Path] = None) -> None:
        self.metainfo = metainfo
        self.samples = OnDisk(folder)
        self._batches = OnDisk(folder)
        self._arrays: Optional[Arrays] = None

    def append(self, samples: Sequence[PoseDataSample]) -> None:
        """Add a batch."""
        self.samples.append([_without_predictions(sample) for sample in samples])
        self._batches.append(_sample_arrays(samples))
        self._arrays = None

    def __len__(self) -> int:
        return len(self.arrays['id'])

    @property
    def arrays(self) -> Arrays:
        """All that is numeric: ``id``, ``img_id``, ``category_id``, ``area`` (the annotation's, or
        0.53 of the box), ``annotated`` (False for detected boxes, whose people have no truth),
        shape (N,); ``input_size``, ``input_center``, ``input_scale`` (N, 2); and each item NAME of
        MMPose's ``gt_instances`` as ``gt_NAME``, shape (N, ...): ``gt_keypoints`` (N, K, 2) and
        ``gt_bboxes`` (N, 4) in image pixels, ``gt_bbox_scores``, ``gt_keypoints_visible``."""
        if self._arrays is None:
            self._arrays = self._batches.arrays()
        return self._arrays

    @property
    def visible(self) -> np.ndarray:
        """Which keypoints are annotated, bool, shape (N, K). ``KeypointConverter`` gives
        visibility a second channel, the weights of a loss, which does not count."""
        visible = self.arrays['gt_keypoints_visible']
        return visible.reshape(*visible.shape[:2], -1)[..., 0] > 0

    def take(self, rows: Sequence[int]) -> 'People':
        """Some of the people, each as often as it is named."""
        found = People(self.metainfo)
        samples = [sample for batch in self.samples for sample in batch]
        found.samples.append([samples[row] for row in rows])
        found._batches.append({name: array[rows] for name, array in self.arrays.items()})
        return found


def _without_predictions(sample: PoseDataSample) -> dict:
    return {key: value for key, value in sample.to_dict().items() if not key.startswith('pred_')}


def _sample_arrays(samples: Sequence[PoseDataSample]) -> Arrays:
    """:attr:`People.arrays` of a batch."""
    annotations = [sample.metainfo.get('raw_ann_info') for sample in samples]
    boxes = np.concatenate([sample.gt_instances.bboxes for sample in samples])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    areas = 0.53 * width * height  # CocoMetric's without outlines
    found = dict(
        id=[sample.id for sample in samples],
        img_id=[sample.img_id for sample in samples],
        category_id=[np.ravel(sample.metainfo.get('category_id', 1))[0] for sample in samples],
        area=[(a or {}).get('area', area) for a, area in zip(annotations, areas)],
        annotated=[annotation is not None for annotation in annotations],
    )
    for name in ('input_size', 'input_center', 'input_scale'):
        found[name] = [np.asarray(sample.metainfo[name], np.float32) for sample in samples]
    arrays = {name: np.array(values) for name, values in found.items()}
    for name in samples[0].gt_instances.keys():  # noqa: SIM118 (it is no dict)
        values = [sample.gt_instances.get(name) for sample in samples]
        if all(isinstance(value, np.ndarray) for value in values):
            arrays[f'gt_{name}'] = np.concatenate([np.atleast_1d(value) for value in values])
    return arrays


class Predictions(OnDisk):
    """What a decoder predicts, batch by batch."""

    def append(self, samples: Sequence[PoseDataSample]) -> None:
        """Add the predictions of a batch."""
        instances = [sample.pred_instances for sample in samples]
        keypoints = np.concatenate([found.keypoints[..., :2] for found in instances])
        scores = np.concatenate([found.keypoint_scores for found in instances])
        super().append(dict(keypoints=keypoints, scores=scores))

    def load(self) -> Tuple[np.ndarray, np.ndarray]:
        """Keypoints of all people in image pixels, shape (N, K, 2), and their scores, (N, K)."""
        found = self.arrays()
        return found['keypoints'], found['scores']


def predict(
    model: TopdownPoseEstimator,
    batches: Iterable[Tuple[Any, Sequence[PoseDataSample]]],
    decoders: Mapping[str, Callable[[Any], List[InstanceData]]],
    metainfo: dict,
    folder: Optional[Path] = None,
) -> Tuple[People, Dict[str, Predictions]]:
    """Decode each batch by all decoders, before the next one is read.

    Args:
        model (TopdownPoseEstimator): Maps input pixels to image pixels.
        batches (iterable): What decoders get, and the data samples: for example
            :func:`~mmpose_simcc.utils.inference.network_outputs`.
        decoders (dict): By name, functions that return one ``InstanceData`` a sample with
            ``keypoints`` (1, K, 2) in input pixels and ``keypoint_scores`` (1, K).
        metainfo (dict): Of the data set.
        folder (Path, optional): For what waits on disk. Defaults to the system's folder for
            temporary files.

    Returns:
        tuple: The people, and for each decoder its predictions. In a distributed run these are of
        the process's share.
    """
    people = People(metainfo, folder)
    predictions = {name: Predictions(folder) for name in decoders}
    for batch, samples in batches:
        for name, decode in decoders.items():
            model.add_pred_to_datasample(decode(batch), None, samples)
            predictions[name].append(samples)
        people.append(samples)
    return people, predictions


@functools.lru_cache(maxsize=4)
def _read_coco(path: str, mtime: int) -> COCO:
    """Annotations in COCO's format, without the outlines of people, which metrics of keypoints do
    not need. All metrics that are built for the file share them: nobody may change them."""
    content = read_annotations(Path(path))
    if not isinstance(content, dict) or 'annotations' not in content:
        raise ValueError(f'ann_file: {path} has no `annotations`')
    try:
        return COCO(path, ann_data=content)
    except Exception as error:  # whatever the lack of an entry leads to
        errors = [found.what for found in check_annotations(content) if found.level == 'error']
        raise ValueError(f'{path}: {errors[0] if errors else one_line(error)}') from error


def _changed(coco: COCO, **changes: list) -> COCO:
    """A copy with other lists of annotations or pictures."""
    with silenced():
        return COCO(coco.anno_file[0], ann_data=dict(coco.dataset, **changes))


def build_metrics(
    evaluator: Union[dict, Sequence[dict]], metainfo: Optional[dict] = None
) -> List[BaseMetric]:
    """Build metrics. Those that read the same annotations share them.

    Args:
        evaluator (dict | list[dict]): A config's ``test_evaluator``.
        metainfo (dict, optional): Of the data set; it stays as it is. Metrics without it can be
            asked for their settings, but cannot score.

    Returns:
        list[BaseMetric]: The metrics. The ``gt_converter`` of COCO's is applied here, once. By
        itself the metric converts the annotations each time that it is computed, and the sigmas
        of the data set in place.
    """
    metrics, files = [], 0
    for cfg in [evaluator] if isinstance(evaluator, dict) else evaluator:
        kind = class_of(cfg, METRICS)
        path = cfg.get('ann_file')
        shares = kind in (CocoMetric, CocoWholeBodyMetric) and path and not cfg.get('format_only')
        with silenced():
            metric = METRICS.build(dict(cfg, ann_file=None) if shares else dict(cfg))
            if shares:
                metric.coco = _read_coco(str(path), Path(path).stat().st_mtime_ns)
        if metainfo is not None:
            with silenced():
                metric.dataset_meta = copy.deepcopy(metainfo)
            converter = getattr(metric, 'gt_converter', None)
            if converter and metric.coco is not None:
                converted = [
                    transform_ann(dict(each), converter['num_keypoints'], converter['mapping'])
                    for each in metric.coco.dataset['annotations']
                ]
                metric.coco = _changed(metric.coco, annotations=converted)
                metric.truth_converter, metric.gt_converter = converter, None
        if hasattr(metric, 'outfile_prefix'):
            metric.file_number, files = files, files + 1
        metrics.append(metric)
    return metrics


def results_prefix(metric: BaseMetric, prefix: Union[str, Path]) -> str:
    """Where a metric writes its files: the first of a config's metrics that write any at the given
    prefix, the second at ``PREFIX.1``, and so on."""
    return f'{prefix}.{metric.file_number}' if metric.file_number else str(prefix)


def result_key(metric: BaseMetric, name: str) -> str:
    """MMPose's name of a metric's value."""
    return f'{metric.prefix}/{name}' if metric.prefix else name


def distance_names(metric: BaseMetric) -> Dict[str, str]:
    """The values of a metric that come from the normalised distance of each keypoint, and what
    that is divided by: ``'bbox_size'``, ``'torso_size'``, an item of the truth, a pair of
    ``'keypoints'``, or nothing.

    JHMDB's PCK, which has two sizes, and metrics that are not known here have no such values.
    """
    if type(metric) is PCKAccuracy:
        return {PCK_NAMES[item]: f'{item}_size' for item in metric.norm_item}
    if type(metric) is MpiiPCKAccuracy:
        return {'PCK': 'head_size'} if 'head' in metric.norm_item else {}
    if type(metric) is NME:
        return {'NME': metric.norm_item or 'keypoints'}
    return {'EPE': ''} if type(metric) is EPE else {}


def _normalisers(
    metric: BaseMetric, people: People, keypoints: np.ndarray, divisor: str
) -> np.ndarray:
    """What distances are divided by (see :func:`distance_names`), shape (N,)."""
    truth, arrays = people.arrays['gt_keypoints'], people.arrays
    if not divisor:
        return np.ones(len(truth))
    if divisor == 'bbox_size':
        return (arrays['gt_bboxes'][:, 2:] - arrays['gt_bboxes'][:, :2]).max(1)
    if divisor == 'torso_size':  # JHMDB's; where it is not annotated PCKAccuracy takes this
        size, predicted = (np.linalg.norm(k[:, 4] - k[:, 5], axis=-1) for k in (truth, keypoints))
        return np.where(size < 1, predicted, size)
    if divisor == 'keypoints':
        pair = metric.keypoint_indices
        if pair is None:
            pair = metric.DEFAULT_KEYPOINT_INDICES[people.metainfo['dataset_name']]
        return np.linalg.norm(truth[:, pair[0]] - truth[:, pair[1]], axis=-1)
    return arrays[f'gt_{divisor}'].reshape(len(truth))


def distances(metrics: Sequence[BaseMetric], people: People, keypoints: np.ndarray) -> Arrays:
    """The normalised distances from the truth behind each value that comes from them.

    Args:
        metrics (list[BaseMetric]): The metrics.
        people (People): N people.
        keypoints (np.ndarray): Predictions in image pixels, shape (N, K, 2).

    Returns:
        dict: By MMPose's name of the value, float32, shape (N, K); NaN where it does not count.
    """
    found = {}
    for metric in metrics:
        for name, divisor in distance_names(metric).items():
            # MPII counts pixels from 1
            offset = keypoints + isinstance(metric, MpiiPCKAccuracy) - people.arrays['gt_keypoints']
            size = _normalisers(metric, people, keypoints, divisor)[:, None]
            with np.errstate(divide='ignore', invalid='ignore'):
                distance = np.linalg.norm(offset, axis=-1) / size
            counts = people.visible & (size > 0)
            found[result_key(metric, name)] = np.where(counts, distance, np.nan).astype(np.float32)
    return found


class Similarity(NamedTuple):
    """What a keypoint's score should predict, by the metric that its model is judged by.

    Attributes:
        metric (BaseMetric): The metric.
        key (str): ``'OKS'``, or MMPose's name of a value whose normalised distance counts.
        threshold (float, optional): Distance below which a keypoint is right.
    """

    metric: BaseMetric
    key: str
    threshold: Optional[float] = None

    def __str__(self) -> str:
        return self.key if self.is_oks else f'{self.key} distance < {self.threshold:g}'

    @property
    def is_oks(self) -> bool:
        return self.threshold is None

    def of(self, people: People, keypoints: np.ndarray) -> np.ndarray:
        """The similarity of predictions (N, K, 2) in image pixels: float32, shape (N, K); NaN
        where there is no truth."""
        if self.is_oks:
            return _oks(self.metric, people, keypoints)
        distance = distances([self.metric], people, keypoints)[self.key]
        right = np.where(np.isnan(distance), np.nan, distance < self.threshold)
        return right.astype(np.float32)


def find_similarity(metrics: Sequence[BaseMetric]) -> Optional[Similarity]:
    """The similarity of the first metric that has one: OKS with the data set's sigmas for COCO's,
    whether the distance is below t for PCK (with its own t) and NME (t = 0.1)."""
    for metric in metrics:
        if isinstance(metric, CocoMetric):
            return Similarity(metric, 'OKS')
        for name in distance_names(metric):
            threshold = getattr(metric, 'thr', NME_THRESHOLD if name == 'NME' else None)
            if threshold is not None:
                return Similarity(metric, result_key(metric, name), threshold)
    return None


def _converter_arrays(converter: Optional[dict], size: int) -> Tuple[np.ndarray, np.ndarray, int]:
    """The indices of keypoints before and after one of COCO's converters, and their number after
    it."""
    if not converter:
        return np.arange(size), np.arange(size), size
    source, target = np.array(converter['mapping']).reshape(-1, 2).T
    return source, target, converter['num_keypoints']


def _oks(metric: CocoMetric, people: People, keypoints: np.ndarray) -> np.ndarray:
    """The OKS of each predicted keypoint, shape (N, K); NaN where there is no truth, and for
    keypoints that the metric's converters leave out."""
    arrays, (N, K) = people.arrays, keypoints.shape[:2]
    truth, visible = arrays['gt_keypoints'], people.visible & arrays['annotated'][:, None]
    if truth.shape[1] == people.metainfo['num_keypoints']:  # not yet converted by the pipeline
        converter = getattr(metric, 'truth_converter', None) or metric.gt_converter
        source, target, size = _converter_arrays(converter, truth.shape[1])
        converted = np.zeros((N, size, 3))
        converted[:, target] = np.dstack([truth, visible])[:, source]
        truth, visible = converted[..., :2], converted[..., 2] > 0
    width, height = (arrays['gt_bboxes'][:, 2:] - arrays['gt_bboxes'][:, :2]).T
    areas = arrays['area'] if metric.use_area else 0.53 * width * height
    source, target, _ = _converter_arrays(metric.pred_converter, K)
    sigmas = np.asarray(metric.dataset_meta['sigmas'])[target]
    oks = keypoint_oks(np.float64(keypoints[:, source] - truth[:, target]), areas, sigmas)
    found = np.full((N, K), np.nan, np.float32)
    found[:, source] = np.where(visible[:, target], oks, np.nan)
    return found


class Scores(NamedTuple):
    """How good the predictions of a decoder are.

    Attributes:
        metrics (dict): Values by MMPose's names; ``ECE`` and ``AUROC`` last, see
            :func:`~.reliability.reliability`.
        arrays (dict): In the order of the data set, ``ids``, ``img_ids`` (N,), ``keypoints`` (N,
            K, 2) in image pixels, ``scores`` (N, K), for each value of PCK, NME and EPE, by its
            name, ``distances/NAME`` (N, K), and ``similarity`` (N, K) where there is one.
    """

    metrics: Dict[str, float]
    arrays: Arrays


class Scorer:
    """The metrics of a config for the predictions of one decoder after another.

    In a distributed run every process has one, for its share of the people, and calls it.

    Args:
        evaluator (dict | list[dict]): The config's ``test_evaluator``.
        people (People): Whose keypoints are predicted.
        size (int, optional): How many people there are in all processes, without those that a
            sampler adds to fill them. Defaults to the number of ``people``.

    Raises:
        Exception: Of any kind, from the code of a metric.
    """

    def __init__(
        self, evaluator: Union[dict, Sequence[dict]], people: People, size: Optional[int] = None
    ) -> None:
        self.people = people
        self.size = len(people) if size is None else size
        self.metrics = build_metrics(evaluator, people.metainfo)
        self.similarity = find_similarity(self.metrics)
        self._without_file = [m for m in self.metrics if getattr(m, 'coco', self) is None]
        for metric in self.metrics:
            if write_compactly(metric) and not metric.format_only:
                _score_the_file(metric)

    def leave_out_other_images(self) -> None:
        """Score on the images of these people alone, if they are a part of a data set. By itself
        COCO's metric counts everybody in its file who has no prediction as missed."""
        images = set(self.people.arrays['img_id'].tolist())
        for metric in self.metrics:
            if getattr(metric, 'coco', None) is not None:
                content = metric.coco.dataset
                metric.coco = _changed(
                    metric.coco,
                    images=[each for each in content['images'] if each['id'] in images],
                    annotations=[a for a in content['annotations'] if a['image_id'] in images],
                )

    def __call__(
        self, keypoints: np.ndarray, scores: np.ndarray, prefix: Optional[Path] = None
    ) -> Optional[Scores]:
        """Score predictions.

        Args:
            keypoints (np.ndarray): Image pixels, shape (N, K, 2).
            scores (np.ndarray): Shape (N, K).
            prefix (Path, optional): Metrics write their files there, those of COCO's as
                ``PREFIX.keypoints.json`` (of a second such metric ``PREFIX.1.keypoints.json``).

        Returns:
            Scores: In the first process of a distributed run; None in the others.
        """
        with tempfile.TemporaryDirectory() as folder, silenced():
            prefix = prefix or Path(folder, 'results')
            values = self._evaluate(keypoints, scores, prefix)
            arrays = dict(
                ids=self.people.arrays['id'],
                img_ids=self.people.arrays['img_id'],
                keypoints=np.float32(keypoints),
                scores=np.float32(scores),
            )
            for key, distance in distances(self.metrics, self.people, keypoints).items():
                arrays[f'distances/{key}'] = distance
            if self.similarity:
                arrays['similarity'] = self.similarity.of(self.people, keypoints)
            arrays = self._gather(arrays, prefix)
        if arrays is None:
            return None
        if self.similarity:
            values.update(reliability(arrays['scores'], arrays['similarity']))
        return Scores({key: float(value) for key, value in values.items()}, arrays)

    def _evaluate(self, keypoints: np.ndarray, scores: np.ndarray, prefix: Path) -> dict:
        """The values of MMPose's metrics. They are used again for each decoder: what they keep of
        samples is gone after an evaluation."""
        for metric in self.metrics:
            if hasattr(metric, 'outfile_prefix'):
                metric.outfile_prefix = results_prefix(metric, prefix)
            metric.collect_dir = f'{prefix}.parts'  # on the disk that all processes see
        evaluator = Evaluator(self.metrics)
        start = 0
        for samples in self.people.samples:
            for i, sample in enumerate(samples, start):
                truth = sample['gt_instances']
                sample['pred_instances'] = dict(
                    keypoints=keypoints[i, None],
                    keypoint_scores=scores[i, None],
                    keypoints_visible=scores[i, None],  # as MMPose sets it
                    **{key: truth[key] for key in ('bboxes', 'bbox_scores') if key in truth},
                )
            evaluator.process(samples)
            start += len(samples)
        values = evaluator.evaluate(self.size)
        for metric in self._without_file:
            metric.coco = None  # which it made from the annotations in the samples
        return values

    def _gather(self, arrays: Arrays, prefix: Path) -> Optional[Arrays]:
        """The arrays of all processes in the order of the data set, in the first of them."""
        if get_world_size() == 1:
            return {name: array[: self.size] for name, array in arrays.items()}
        people = list(zip(*arrays.values()))
        people = collect_results(people, self.size, 'cpu', f'{prefix}.parts')
        return people and dict(zip(arrays, map(np.array, zip(*people))))


def _score_the_file(metric: CocoMetric) -> None:
    """Let COCO's metric free its results once they are written. By itself it keeps them while it
    reads the file again and scores it, so that they are in memory twice."""
    compute = metric.compute_metrics

    def compute_metrics(results: list) -> Dict[str, float]:
        metric.format_only = True
        compute(results)
        results.clear()
        metric.results.clear()
        return dict(metric._do_python_keypoint_eval(metric.outfile_prefix))

    metric.compute_metrics = compute_metrics
