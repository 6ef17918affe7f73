# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns DAEC's factor from data (DAEC, Sections 3.2 and 3.3) in one forward
pass, at several granularities, and keeps the finest that held-out images
support."""
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
from mmengine.config import Config

from ..checks import check_choice, check_int, check_number, invalid
from ..codecs.learned import save_learned_delta
from .capture import People, capture, distributed_map, file_sha256
from .records import Setting, build_records
from .scoring import Scorer, keypoint_similarity, primary_metric
from .search import (
    Gain,
    best_candidates,
    bootstrap_gain,
    candidate_deltas,
    climb,
    hold_out,
    is_whole,
)

FINALISTS = 3  # that the metric decides between, found by the proxy


@dataclass
class Score:
    """How good a decoder is.

    Attributes:
        similarity (float): Mean keypoint similarity.
        metrics (dict): The config's metrics by name.
    """
    similarity: float
    metrics: Dict[str, float]


@dataclass
class Choice:
    """A decoder on both parts of the data.

    Attributes:
        name (str): How fine the factor is, or another decoder's name.
        delta: The factor in a form that the codec takes; None for another
            decoder.
        setting (Setting): Corner and smoothing.
        fit (Score): On the images it was chosen on.
        held_out (Score): On the others.
        against (str, optional): Name of the choice it is compared with.
        gain (Gain, optional): Its gain over that one on the held-out images.
        supported (bool, optional): Whether these support it.
    """
    name: str
    delta: Any
    setting: Setting
    fit: Score
    held_out: Score
    against: Optional[str] = None
    gain: Optional[Gain] = None
    supported: Optional[bool] = None


class Curve(NamedTuple):
    """A setting at every factor, on the fitted images.

    Attributes:
        setting (Setting): Corner and smoothing.
        deltas (np.ndarray): Factors, shape (D,).
        similarity (np.ndarray): Mean keypoint similarity, shape (D,).
        metric_deltas (np.ndarray): Whole factors that the metric scored.
        metrics (np.ndarray): Its values.
    """
    setting: Setting
    deltas: np.ndarray
    similarity: np.ndarray
    metric_deltas: np.ndarray
    metrics: np.ndarray


@dataclass
class Calibration:
    """What was learned.

    Attributes:
        representation (str): 'heatmap' or 'simcc'.
        unit (str): Of the factors.
        metric (str): Name of the metric that decided.
        empirical (dict): The papers' factor by setting.
        curves (list[Curve]): One for each setting.
        references (list[Choice]): Other decoders, compared with argmax.
        settings (list[Choice]): Each setting at its best factor by
            similarity.
        choices (list[Choice]): From the simplest to the finest.
        chosen (Choice): The finest that is supported.
        verdict (Choice): The chosen one against the best other decoder.
        settings_learned_for (dict): The codec's arguments it is valid for.
        source (dict): Model and data.
    """
    representation: str
    unit: str
    metric: str
    empirical: Dict[Setting, float]
    curves: List[Curve]
    references: List[Choice]
    settings: List[Choice]
    choices: List[Choice]
    chosen: Choice
    verdict: Choice
    settings_learned_for: dict
    source: dict = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the JSON file for a codec's ``delta``."""

        def plain(choice: Choice) -> dict:
            content = asdict(choice)
            content['setting'] = choice.setting._asdict()
            content['gain'] = choice.gain and choice.gain._asdict()
            return content

        save_learned_delta(
            path, self.representation, self.chosen.delta,
            self.settings_learned_for,
            dict(
                granularity=self.chosen.name,
                metric=self.metric,
                fit=asdict(self.chosen.fit),
                held_out=asdict(self.chosen.held_out),
                **self.source,
                choices=[plain(choice) for choice in self.choices],
                settings_compared=[plain(choice) for choice in self.settings],
                other_decoders=[plain(choice) for choice in self.references],
                curves=[
                    dict(
                        curve.setting._asdict(),
                        delta=curve.deltas.tolist(),
                        similarity=curve.similarity.tolist(),
                        metric_delta=curve.metric_deltas.tolist(),
                        metric=curve.metrics.tolist())
                    for curve in self.curves
                ]))


class _Calibrator:
    """The search over captured people, shared by all processes."""

    def __init__(self, cfg: Config, people: People, records, holdout: float,
                 metric: Optional[str]) -> None:
        self.people, self.records = people, records
        held = hold_out(people.arrays['img_id'], holdout)
        self.parts = dict(fit=~held, held_out=held)
        self.scorers = {
            name: Scorer(cfg, people, members)
            for name, members in self.parts.items()
        }
        self.counts = people.visible.sum(-1)
        self.argmax = people.arrays['by_argmax']
        names = list(self.scorers['fit'](self.argmax))
        self.metric = primary_metric(cfg, names, metric)

    def _over_shards(self, function) -> list:
        """Apply ``function(records, rows)`` to every shard."""

        def on_shard(item):
            path, rows = item
            with np.load(path) as shard:
                return function(shard, rows)

        return distributed_map(on_shard,
                               zip(self.people.shards, self.people.slices()))

    def predict(self, setting: Setting, deltas: np.ndarray) -> np.ndarray:
        """Keypoints of all people in image pixels, (D, N, K, 2), for factors
        (D, 1 or K, 2)."""
        parts = self._over_shards(lambda shard, rows: self.people.to_image(
            self.records.decode(shard, setting, deltas), rows))
        return np.concatenate(parts).swapaxes(0, 1)

    def similarity_sums(self, setting: Setting, deltas: np.ndarray,
                        pairs: bool) -> np.ndarray:
        """Summed similarity on the fitted part at every factor, (D, K), or
        at every pair (x, y) of them, (D, D, K)."""

        def on_shard(shard, rows):
            if pairs:
                keypoints = self.records.decode_pairs(shard, setting, deltas)
            else:
                same = np.stack([deltas, deltas], -1)[:, None]
                keypoints = self.records.decode(shard, setting, same)
            fit = self.parts['fit'][rows]
            similarity = keypoint_similarity(
                self.people, self.people.to_image(keypoints, rows), rows)
            return similarity[fit].sum(0, dtype=np.float64)

        return np.sum(self._over_shards(on_shard), axis=0)

    def metric_values(self, predictions: np.ndarray) -> np.ndarray:
        """The metric on the fitted part of each of (D, N, K, 2)."""
        return np.array(
            distributed_map(
                lambda keypoints: self.scorers['fit'](keypoints)[self.metric],
                predictions))

    def person_similarity(self, keypoints: np.ndarray) -> np.ndarray:
        """Summed over each person's keypoints, shape (N,)."""
        everybody = slice(0, len(self.people))
        return keypoint_similarity(self.people, keypoints, everybody).sum(-1)

    def choices(self, named: List[tuple]) -> List[Choice]:
        """Score decoders given as (name, delta, setting, keypoints)."""
        tasks = [(keypoints, part) for *_, keypoints in named
                 for part in self.parts]

        def score(task):
            keypoints, part = task
            members = self.parts[part]
            similarity = self.person_similarity(keypoints)[members].sum()
            return Score(
                float(similarity / max(self.counts[members].sum(), 1)),
                self.scorers[part](keypoints))

        scores = distributed_map(score, tasks)
        return [
            Choice(name, delta, setting, *scores[2 * i:2 * i + 2])
            for i, (name, delta, setting, _) in enumerate(named)
        ]

    def gain(self, new: np.ndarray, old: np.ndarray) -> Gain:
        """Of keypoints over others, on the held-out part."""
        held = self.parts['held_out']
        return bootstrap_gain(
            self.person_similarity(new)[held],
            self.person_similarity(old)[held], self.counts[held],
            self.people.arrays['img_id'][held])

    def fit_number(self, setting: Setting, candidates: np.ndarray,
                   empirical: float) -> np.ndarray:
        """The best pair by the metric; the first given wins among equals."""
        candidates = np.unique(candidates, axis=0)
        far = np.abs(candidates - empirical).sum(-1)
        candidates = candidates[np.argsort(far, kind='stable')]
        values = self.metric_values(
            self.predict(setting, candidates[:, None]))
        return candidates[values.argmax()]

    def ladder(self, setting: Setting, curve: Curve,
               deltas: np.ndarray) -> List[tuple]:
        """Factors fitted from coarse to fine, as (name, array (1 or K, 2))."""
        empirical = self.records.empirical(setting)
        first = 'empirical' if self.records.representation == 'heatmap' \
            else 'symmetric'
        sums = self.similarity_sums(setting, deltas, pairs=False)
        whole = best_candidates(curve.metrics, curve.metric_deltas, empirical,
                                1)[0]
        number = self.fit_number(
            setting,
            np.vstack([
                whole,
                best_candidates(sums.sum(-1), deltas, empirical, FINALISTS)
            ]), empirical)
        pair_sums = self.similarity_sums(setting, deltas, pairs=True)
        pair = self.fit_number(
            setting,
            np.vstack([
                number,
                best_candidates(
                    pair_sums.sum(-1), deltas, empirical, FINALISTS)
            ]), empirical)
        ladder = [(first, [[empirical] * 2]), ('whole', [whole]),
                  ('fractional', [number]), ('x and y', [pair])]
        if self.records.representation == 'heatmap':
            ladder += [(name, [
                best_candidates(surface[..., k], deltas, empirical, 1)[0]
                for k in range(self.people.num_keypoints)
            ]) for name, surface in (('keypoint', sums),
                                     ('keypoint, x and y', pair_sums))]
        return [(name, np.array(delta)) for name, delta in ladder]


def _plain_delta(delta: np.ndarray) -> Any:
    """An array (1 or K, 2) in the shortest form that a codec takes."""
    if len(delta) > 1:
        return delta.tolist()
    x, y = delta[0].tolist()
    return x if x == y else [x, y]


def calibrate(cfg: Config,
              checkpoint: str,
              work_dir: Path,
              split: str = 'train',
              subset: Optional[int] = None,
              holdout: float = 0.2,
              metric: Optional[str] = None,
              low: float = -2.,
              high: Optional[float] = None,
              step: Optional[float] = None,
              corner: Optional[str] = None,
              smooth: Optional[bool] = None) -> Calibration:
    """Learn DAEC's factor for a trained model.

    In a distributed run every process calls it, sees the same ``work_dir``
    and gets the same result.

    Args:
        cfg (Config): Config of a top-down model.
        checkpoint (str): Its weights.
        work_dir (Path): Where the forward pass is kept.
        split (str): 'train' (the paper's), 'val' or 'test'.
        subset (int, optional): About how many people; all by default.
        holdout (float): Share of the images on which the choices are
            compared; they are fitted on the others.
        metric (str, optional): Which of the config's metrics decides. By
            default the one that its checkpoints are chosen by.
        low (float): Smallest factor, in cells or bins.
        high (float, optional): Largest factor; by default that which ends
            the window at the maximum.
        step (float, optional): Between factors, 1 / n. By default 0.25
            cells, or 0.5 bins.
        corner (str, optional): The corner for which a factor is chosen. By
            default that of the config's codec, else 'br', the method.
        smooth (bool, optional): Whether it is chosen for smoothed maps. By
            default as in the config's codec, else False.

    Returns:
        Calibration: The factors at every granularity, and the chosen one.

    Raises:
        ValueError: An argument, the data or the checkpoint do not serve.
    """
    check_choice('split', split, ('train', 'val', 'test'))
    check_number('holdout', holdout, above=0, below=1)
    check_number('low', low, high=0)
    if subset is not None:
        check_int('subset', subset, 1)
    records = build_records(cfg.model.head.decoder, low)
    high = records.high if high is None else high
    check_number('high', high, low=1, high=records.high)
    step = records.default_step if step is None else step
    check_number('step', step, above=0, high=1)
    if abs(1 / step - round(1 / step)) > 1e-6:
        raise invalid('step', step, '1 divided by a whole number')
    own = records.own_setting
    setting = Setting(own.corner if corner is None else corner,
                      own.smooth if smooth is None else smooth)
    if setting not in records.settings:
        raise invalid('corner and smooth', tuple(setting),
                      f'one of {[tuple(s) for s in records.settings]}')

    people = capture(cfg, checkpoint, records, split, work_dir, subset)
    calibrator = _Calibrator(cfg, people, records, holdout, metric)
    metric = calibrator.metric
    deltas = candidate_deltas(low, high, step)
    curves = [
        _curve(calibrator, s, deltas, by_metric=s.corner == setting.corner)
        for s in records.settings
    ]
    curve = curves[records.settings.index(setting)]
    references = [(name, None, setting, people.arrays[f'by_{name}'])
                  for name in records.references]
    best = [
        best_candidates(c.similarity, deltas, records.empirical(c.setting),
                        1)[0] for c in curves
    ]
    settings = [(str(c.setting), float(delta[0]), c.setting,
                 calibrator.predict(c.setting, delta[None, None])[0])
                for c, delta in zip(curves, best)]
    ladder = [(name, _plain_delta(delta), setting,
               calibrator.predict(setting, delta[None])[0])
              for name, delta in calibrator.ladder(setting, curve, deltas)]
    reference_choices = calibrator.choices(references)
    setting_choices = calibrator.choices(settings)
    choices = calibrator.choices(ladder)

    for choice, (*_, keypoints) in zip(reference_choices[1:], references[1:]):
        choice.against = reference_choices[0].name
        choice.gain = calibrator.gain(keypoints, references[0][-1])
    index, steps = climb(
        lambda i, j: calibrator.gain(ladder[i][-1], ladder[j][-1]),
        [choice.held_out.metrics[metric] for choice in choices])
    for choice, step_up in zip(choices[1:], steps):
        choice.against = choices[step_up.against].name
        choice.gain, choice.supported = step_up.gain, step_up.supported
    chosen = choices[index]
    rival = max(
        range(len(references)),
        key=lambda i: reference_choices[i].held_out.similarity)
    verdict = Choice(
        chosen.name,
        chosen.delta,
        setting,
        chosen.fit,
        chosen.held_out,
        against=reference_choices[rival].name,
        gain=calibrator.gain(ladder[index][-1], references[rival][-1]))
    learned_for = dict(records.identity)
    if records.representation == 'heatmap':
        learned_for.update(setting._asdict())
    source = dict(
        model=dict(
            config=Path(cfg.filename or '').name,
            checkpoint=Path(checkpoint).name,
            sha256=file_sha256(checkpoint),
            flip_test=bool(cfg.model.get('test_cfg', {}).get('flip_test'))),
        data=dict(
            split=split,
            ann_file=Path(people.ann_file).name,
            sha256=file_sha256(people.ann_file),
            people=len(people),
            images=len(np.unique(people.arrays['img_id'])),
            subset=subset,
            holdout=holdout))
    return Calibration(
        representation=records.representation,
        unit=records.unit,
        metric=metric,
        empirical={s: records.empirical(s)
                   for s in records.settings},
        curves=curves,
        references=reference_choices,
        settings=setting_choices,
        choices=choices,
        chosen=chosen,
        verdict=verdict,
        settings_learned_for=learned_for,
        source=source)


def _curve(calibrator: _Calibrator, setting: Setting, deltas: np.ndarray,
           by_metric: bool) -> Curve:
    sums = calibrator.similarity_sums(setting, deltas, pairs=False)
    fit = calibrator.parts['fit']
    similarity = sums.sum(-1) / max(calibrator.counts[fit].sum(), 1)
    whole = deltas[is_whole(deltas)] if by_metric else deltas[:0]
    pairs = np.stack([whole, whole], -1)[:, None]
    values = calibrator.metric_values(calibrator.predict(
        setting, pairs)) if by_metric else np.empty(0)
    return Curve(setting, deltas, similarity, whole, values)
