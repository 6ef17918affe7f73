# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Calibrates a trained model: runs it once, then tries the steps of the ladder on its outputs."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np
from mmengine.config import Config
from mmpose.codecs.base import BaseKeypointCodec

from ...codecs.calibration import INSTANCE_SCORES, made_for, save_calibration
from ...utils.checks import check_choice, check_int
from ...utils.configs import dicts
from ...utils.inference import weights_digest
from ..compare.data import test_on, use_annotated_boxes
from ..compare.errors import CompareError
from ..compare.runs import Run
from ..compare.trial import check_annotations, step, try_decoders
from ..data.coco import annotations_of, datasets_of, pictures_of, read_entries
from ..hold_out import hold_out as split_annotations
from ..metrics import DEFAULT_SIGMA
from ..scoring import People, Scorer, build_metrics, find_similarity
from .capture import capture
from .coverage import coverage
from .ladder import Trial, climb
from .outputs import Outputs, keep_outputs
from .people import draw_annotations
from .samples import Decoding, Samples, hold_out_half
from .steps import Step

SPLITS = ('hold_out', 'test', 'train')
MOST_KEYPOINTS = 40_000  # with three flip tests and sigma 3 their outputs take 150 MiB
REHEARSED = 48  # people in the rehearsal before the forward pass
FEWEST_ANNOTATED = 40  # keypoints in each half; a radius for 0.9 needs 9
ONE_SIDED = 0.1  # input pixels; a smaller offset to one side is not worth a note


@dataclass
class Calibrated:
    """What a calibration found.

    Attributes:
        content (dict): What the file holds: what codecs read (see
            :func:`~mmpose_simcc.codecs.calibration.save_calibration`), and for people ``worth``
            (what a score is the expectation of), ``steps``, ``coverage`` (see
            :func:`~.coverage.coverage`), ``config`` and ``checkpoint``.
        decoding (Decoding): The decoding that is kept, with radii from the held-out half.
        tried (list): Steps and their trials, see :func:`~.ladder.climb`.
        metrics (dict): The config's own metrics on the held-out half, by MMPose's names: without
            a calibration, and after each step that changed something.
        seen (bool): Whether the config trains on some of the pictures.
        notes (list[str]): What else the user should know.
    """

    content: Dict[str, Any]
    decoding: Decoding
    tried: List[Tuple[Step, List[Trial]]]
    metrics: Dict[str, Dict[str, float]]
    seen: bool
    notes: List[str]

    def save(self, path: Path) -> None:
        """Write the file that a codec takes as ``calibration``."""
        save_calibration(path, self.content)


def _pictures(dataset: dict) -> Set[Path]:
    """The pictures of a data set in COCO's layout."""
    folder = pictures_of(dataset)
    images = read_entries(annotations_of(dataset), 'images.item')
    return {(folder / image['file_name']).resolve() for image in images}


def _choose_pictures(
    run: Run, work_dir: Path, split: str, ann_file: Optional[Path], number: int
) -> Tuple[str, bool]:
    """Make the pictures to calibrate on a run's test data, in place.

    Returns:
        tuple: The name of their annotation file, and whether the config trains on some of them.
    """
    cfg = run.cfg
    run.check_data('train')
    training = [copy.deepcopy(dataset) for dataset in datasets_of(cfg, 'train')]
    path = annotations_of(training[0])
    if ann_file:
        test_on(cfg, Path(ann_file))
    elif split == 'test':
        use_annotated_boxes(cfg)
    elif split == 'train':
        test_on(cfg, path)
    else:
        held_out = path.with_name(path.name.replace('-kept.json', '-held_out.json'))
        if held_out == path or not held_out.is_file():
            _, held_out = split_annotations([(path, pictures_of(training[0]))], work_dir)
        test_on(cfg, held_out)
    run.check_data('test')
    (test,) = datasets_of(cfg, 'test')
    chosen = annotations_of(test)
    if split == 'train' and not ann_file:
        seen = True
    else:
        pictures = _pictures(test)
        seen = any(pictures & _pictures(dataset) for dataset in training)
    drawn = draw_annotations(chosen, number, work_dir)
    if drawn:
        test['ann_file'] = str(drawn.resolve())
        for metric in dicts(cfg.test_evaluator):  # else it would hold everybody in memory
            if metric.get('ann_file') and Path(metric['ann_file']).resolve() == chosen.resolve():
                metric['ann_file'] = test['ann_file']
    return chosen.name, seen


def samples_of_people(
    people: People, outputs: Dict[str, Outputs], evaluator: Any, held_out: np.ndarray
) -> Tuple[Samples, str]:
    """The samples for the ladder, and what scores are the expectation of, in words."""
    arrays, K = people.arrays, people.visible.shape[1]
    sigmas = people.metainfo.get('sigmas')
    if sigmas is None or len(sigmas) == 0:
        sigmas = np.full(K, DEFAULT_SIGMA)
    found = find_similarity(build_metrics(evaluator, people.metainfo))

    def measure(keypoints: np.ndarray) -> np.ndarray:
        return found.of(people, keypoints).astype(np.float64)

    samples = Samples(
        outputs,
        truth=arrays['gt_keypoints'],
        visible=people.visible,
        img_ids=arrays['img_id'],
        scale=arrays['input_scale'] / arrays['input_size'],
        corner=arrays['input_center'] - 0.5 * arrays['input_scale'],
        areas=arrays['area'],
        sigmas=sigmas,
        held_out=held_out,
        measure=measure if found else None,
    )
    return samples, str(found or 'similarity')


def notes_of(decoding: Decoding, samples: Samples) -> List[str]:
    """A note if predictions lie to one side of the annotations, as they do if the annotations have
    an offset along x, which a model that is trained on mirrored pictures cannot learn."""
    if not {'none', 'exact'} <= set(samples.outputs):
        return []
    none, exact = (
        np.nanmedian(replace(decoding, flip=flip, offset=None).errors(samples)[..., 0], axis=0)
        for flip in ('none', 'exact')
    )
    none, exact = none[~np.isnan(none)], exact[~np.isnan(exact)]
    mirrored = 2 * exact - none  # the mean of both is the exact flip's
    value = np.median(exact)
    alike = np.mean(np.sign(exact) == np.sign(value)) >= 0.9
    same = abs(np.median(mirrored) - np.median(none)) < 0.5 * abs(value)
    if abs(value) < ONE_SIDED or not alike or not same:
        return []
    side = 'left' if value < 0 else 'right'
    return [
        f'predictions lie {abs(value):.2f} input pixels to the {side} of the annotations, at '
        'nearly all keypoints and in mirrored pictures alike: the annotations lie to one side, as '
        'in files that count pixels from 1, and mirrored training pictures cancel that along x'
    ]


def calibrate(
    cfg: Config,
    checkpoint: str,
    work_dir: Path,
    split: str = 'hold_out',
    ann_file: Optional[Path] = None,
    people: Optional[int] = None,
    instance_score: str = INSTANCE_SCORES[0],
) -> Calibrated:
    """Find how a trained model's outputs are decoded best, see :data:`~.ladder.LADDER`. What is
    fitted on half of the pictures is compared on the other half.

    Args:
        cfg (Config): Config of a top-down model.
        checkpoint (str): Its weights.
        work_dir (Path): Folder for annotations that are split or drawn.
        split (str): ``'hold_out'``: the fifth of the training images that
            :func:`~mmpose_simcc.workbench.hold_out.hold_out` leaves out; they are held out if the
            config trains on the others. ``'test'``: the config's test data with annotated boxes.
            ``'train'``: its training data.
        ann_file (Path, optional): Annotations of other pictures in the training folder.
        people (int, optional): About how many people, of whole pictures drawn at random. By
            default as many as have 40,000 keypoints.
        instance_score (str): How a model with this file scores a person, see
            :meth:`~mmpose_simcc.codecs.calibration.Calibration.score_instance`.

    Returns:
        Calibrated: What was found.

    Raises:
        ValueError: An argument is out of its range, or the pictures are too few.
        CompareError: Data, metrics or checkpoint cannot be used.
    """
    check_choice('split', split, SPLITS)
    check_choice('instance_score', instance_score, INSTANCE_SCORES)
    cfg = copy.deepcopy(cfg)
    run = Run(Path(cfg.filename or 'model').stem, cfg, str(checkpoint))
    run.head.decoder.pop('calibration', None)
    if cfg.model.type == 'CalibratedPoseEstimator':
        cfg.model.type = 'ExactFlipPoseEstimator'  # as `set_representation` writes it
    codec = run.equivalent_codec()
    if codec is None:
        raise CompareError(
            f'{run.name}: no codec of mmpose_simcc decodes like {run.head.decoder.type}'
        )
    K = run.head.out_channels
    number = max(1, MOST_KEYPOINTS // K) if people is None else check_int('people', people, 2)
    name, seen = _choose_pictures(run, work_dir, split, ann_file, number)
    notes: List[str] = []
    check_annotations(run, notes.append)
    _rehearse(run, codec)
    model, outputs, found = capture(run, str(checkpoint), number)
    is_held_out = hold_out_half(found.arrays['img_id'])
    samples, worth = samples_of_people(found, outputs, cfg.test_evaluator, is_held_out)
    annotated = [samples.visible[part].sum() for part in (samples.held_out, ~samples.held_out)]
    if min(annotated) < FEWEST_ANNOTATED:
        raise ValueError(
            f'{name} has {min(annotated)} annotated keypoints in one half of its pictures, but '
            f'there must be {FEWEST_ANNOTATED}'
        )
    decoding, tried, covered = tune(samples)
    images = len(set(samples.img_ids))
    pictures = f'{name} ({images} images, {len(samples.truth)} people)'
    content = dict(
        calibrated_on=pictures + (', seen in training' if seen else ''),
        made_for=dict(
            made_for(codec),
            num_keypoints=samples.truth.shape[1],
            flip_test=decoding.flip,
            model=weights_digest(model),
        ),
        decoder=decoding.decoder,
        offset=None if decoding.offset is None else decoding.offset.tolist(),
        score_maps=decoding.score_maps,
        worth=worth,
        radii=decoding.radii,
        instance_score=instance_score,
        steps={
            tried_step.title: [
                dict(name=t.name, loss=t.loss, gain=t.gain._asdict(), chosen=t.chosen)
                for t in trials
            ]
            for tried_step, trials in tried
        },
        coverage=covered,
        config=Path(cfg.filename or '').name,
        checkpoint=Path(checkpoint).name,
    )
    return Calibrated(
        {key: value for key, value in content.items() if value is not None},
        decoding,
        tried,
        _by_own_metrics(cfg.test_evaluator, found, samples, tried),
        seen,
        notes + notes_of(decoding, samples),
    )


def tune(samples: Samples) -> Tuple[Decoding, List[Tuple[Step, List[Trial]]], List[dict]]:
    """Try the steps of the ladder.

    Args:
        samples (Samples): The people.

    Returns:
        tuple: The decoding that is kept, with radii from the held-out half; the trials of each
        step; how often radii hold the truth, see :func:`~.coverage.coverage`.
    """
    flip, outputs = next(iter(samples.outputs.items()))
    decoding, tried = climb(Decoding('as it is', outputs.own, flip), samples)
    radius_step, _ = tried[-1]
    covered = coverage(decoding, samples)
    return radius_step.fit_on(samples.held_out, decoding, samples), tried, covered


def _by_own_metrics(
    evaluator: Any, people: People, samples: Samples, tried: List[Tuple[Step, List[Trial]]]
) -> Dict[str, Dict[str, float]]:
    """The config's metrics on the held-out half: without a calibration, and after each step that
    changed something."""
    decodings = {'as it is': tried[0][1][0].decoding}
    for tried_step, trials in tried[:-1]:  # not the radii, of which no metric knows
        for trial in trials[1:]:
            if trial.chosen:
                decodings[tried_step.title] = trial.decoding
    held = np.flatnonzero(samples.held_out)
    scorer = Scorer(evaluator, people.take(held))
    scorer.leave_out_other_images()
    return {
        name: scorer(decoding.keypoints(samples)[held], decoding.scores(samples)[held]).metrics
        for name, decoding in decodings.items()
    }


def _rehearse(run: Run, codec: BaseKeypointCodec) -> None:
    """Send one batch through the untrained network, the metrics and the ladder, so that what would
    fail after the long forward pass fails before it.

    Raises:
        CompareError: A part fails; the message says which, and why.
    """
    trial = try_decoders(run, {'as it is': dict(run.head.decoder)})
    copies = -(-REHEARSED // len(trial.people))
    with step(run, 'calibration'):
        outputs = keep_outputs(codec)
        for _ in range(copies):
            outputs.append(*trial.outputs)
        people = trial.people.take(np.tile(np.arange(len(trial.people)), copies))
        number, evaluator = np.arange(len(people)), run.cfg.test_evaluator
        samples, _ = samples_of_people(people, dict(none=outputs), evaluator, number % 2 > 0)
        samples.img_ids = number  # as if each was in another picture
        tried = tune(samples)[1]
        _by_own_metrics(evaluator, people, samples, tried)
