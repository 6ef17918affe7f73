# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Learns DAEC's factor from data (DAEC, Sections 3.2 and 3.3) in one forward
pass, at several granularities, and keeps the finest that held-out images
support."""

from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
from mmengine.config import Config

from ...codecs.learned import save_learned_delta
from ...config import check_frames
from ...utils.checks import check_choice, check_int, check_number, invalid
from ...utils.files import file_sha256
from ...utils.inference import pose_head_cfg
from ..identity import name_model
from ..metrics import goodness
from .capture import People, capture
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
from .sharing import distributed_map, threaded_map

FINALISTS = 3  # that the metric decides between, found by the proxy
TOGETHER = 64  # people decoded at once
PAIRS_TOGETHER = 8  # at all pairs of factors, where their arrays take 5 MB each
PARTS = 64  # into which a search is split for its processes and threads


@dataclass
class Score:
    """How good a decoder is on a part of the images.

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
        setting (Setting): Corner, smoothing and border.
        fit (Score): On the images it was chosen on. Corners and smoothings
            have no metrics there.
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
        setting (Setting): Corner, smoothing and border.
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
        references (list[Choice]): Other decoders, compared with argmax; last
            DARK less its offset (:meth:`_Calibrator.offset`), with DARK.
        settings (list[Choice]): Each setting at its best factor by
            similarity.
        choices (list[Choice]): From the simplest to the finest.
        chosen (Choice): The finest that is supported.
        verdict (Choice): The chosen one against the best other decoder.
        settings_learned_for (dict): The codec's arguments it is valid for.
        metric_images (dict): By part, ``'fit'`` or ``'held_out'``, how many
            of its images the metrics are of, in words.
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
    metric_images: Dict[str, str]
    source: dict = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the JSON file for a codec's ``delta``."""

        def plain(choice: Choice) -> dict:
            content = asdict(choice)
            content['setting'] = choice.setting._asdict()
            content['gain'] = choice.gain and choice.gain._asdict()
            return content

        save_learned_delta(
            path,
            self.representation,
            self.chosen.delta,
            self.settings_learned_for,
            dict(
                granularity=self.chosen.name,
                metric=self.metric,
                metric_images=self.metric_images,
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
                        metric=curve.metrics.tolist(),
                    )
                    for curve in self.curves
                ],
            ),
        )


class _Decoder(NamedTuple):
    """DAEC at a factor, or a reference by its name.

    Attributes:
        name (str): The row's name in a table.
        setting (Setting): Corner, smoothing and border.
        pairs (tuple, optional): Factors (x, y), one pair or one a keypoint.
        recorded (str, optional): The reference that it is, by what its
            predictions are called.
        offset (np.ndarray, optional): What is taken off them, input-image
            pixels, shape (K, 2).
    """

    name: str
    setting: Setting
    pairs: Optional[Tuple[Tuple[float, float], ...]] = None
    recorded: Optional[str] = None
    offset: Optional[np.ndarray] = None

    @property
    def identity(self) -> tuple:
        """Equal for decoders that do the same."""
        return (self.setting, self.pairs) if self.pairs else (self.name,)

    @property
    def delta(self) -> Any:
        """In the shortest form that a codec takes."""
        if self.pairs is None:
            return None
        if len(self.pairs) > 1:
            return [list(pair) for pair in self.pairs]
        x, y = self.pairs[0]
        return x if x == y else [x, y]


def _daec(setting: Setting, pairs: Sequence, name: str = '') -> _Decoder:
    return _Decoder(name, setting, tuple(tuple(map(float, pair)) for pair in pairs))


def _reference(name: str, setting: Setting) -> _Decoder:
    return _Decoder(name, setting, recorded=f'by_{name}')


class _Calibrator:
    """The search over captured people, shared by all processes and threads."""

    def __init__(
        self, cfg: Config, people: People, records, holdout: float, metric: Optional[str]
    ) -> None:
        self.people, self.records = people, records
        held = hold_out(people.arrays['img_id'], holdout)
        self.parts = dict(fit=~held, held_out=held)
        self.scorers = {name: Scorer(cfg, people, members) for name, members in self.parts.items()}
        self.counts = people.visible.sum(-1)
        self._metrics, self._similarity = {}, {}
        names = list(self.metrics('fit', [_reference('argmax', Setting())])[0])
        self.metric = primary_metric(cfg, names, metric)

    def _over_people(
        self,
        members: np.ndarray,
        names: Set[str],
        function,
        combine,
        description: str,
        together: int = TOGETHER,
    ) -> list:
        """Apply ``function(records, rows)`` to people, a few at a time.

        Args:
            members (np.ndarray): Which people, bool, shape (N,).
            names (set[str]): What of their records is read.
            function (callable): Of records and the indices of their people.
            combine (callable): Of results, one by one, a single one.
            description (str): What is done.
            together (int): How many people at a time.

        Returns:
            list: Combined results of less than 2 PARTS parts, which are the
            same for any number of processes and threads, in the order of the
            people.
        """

        def on_shard(path: Path, rows: slice):
            inside = np.flatnonzero(members[rows])
            with np.load(path) as shard:
                arrays = {name: shard[name][inside] for name in names}
            for start in range(0, len(inside), together):
                few = slice(start, start + together)
                records = {name: array[few] for name, array in arrays.items()}
                yield function(records, rows.start + inside[few])

        def on_part(shards):
            return combine(result for shard in shards for result in on_shard(*shard))

        shards = [
            (path, rows)
            for path, rows in zip(self.people.shards, self.people.slices())
            if members[rows].any()
        ]
        size = max(1, len(shards) // PARTS)
        parts = [shards[start : start + size] for start in range(0, len(shards), size)]
        return distributed_map(on_part, parts, description, threaded_map)

    def _over_predictions(
        self, members: np.ndarray, decoders: Sequence[_Decoder], function
    ) -> List[np.ndarray]:
        """Apply ``function(keypoints, rows)`` to what each decoder predicts of
        some people, (P, K, 2) in image pixels of a few at a time; joined over
        the people."""
        if not decoders:
            return []

        def arrays(decoder: _Decoder) -> Tuple[str, ...]:
            return (decoder.recorded,) if decoder.recorded else self.records.arrays(decoder.setting)

        def predict(records, group: List[_Decoder]) -> Iterable[np.ndarray]:
            if group[0].recorded:
                return [records[d.recorded] - (0 if d.offset is None else d.offset) for d in group]
            deltas = [np.broadcast_to(d.pairs, (self.people.num_keypoints, 2)) for d in group]
            return self.records.decode(records, group[0].setting, np.stack(deltas)).swapaxes(0, 1)

        def on_records(records, rows):
            return [
                function(self.people.to_image(keypoints, rows), rows)
                for _, group in groupby(decoders, lambda d: d.pairs and d.setting)
                for keypoints in predict(records, list(group))
            ]

        def join(found):
            return [np.concatenate(of_decoder) for of_decoder in zip(*found)]

        names = {name for decoder in decoders for name in arrays(decoder)}
        return join(self._over_people(members, names, on_records, join, 'decode'))

    def offset(self, decoder: _Decoder) -> np.ndarray:
        """The median of prediction minus truth on the fitted part, for each
        keypoint along x and y: what a cut window corrects, measured. Of a
        reference, input-image pixels, shape (K, 2)."""
        people, fit = self.people, self.parts['fit']
        arrays = people.arrays

        def errors(keypoints: np.ndarray, rows: np.ndarray) -> np.ndarray:
            pixels = arrays['input_size'][rows] / arrays['input_scale'][rows]
            found = (keypoints - arrays['gt_keypoints'][rows, 0]) * pixels[:, None]
            return found.astype(np.float32)

        (found,) = self._over_predictions(fit, [decoder], errors)
        offset = np.zeros(found.shape[1:], np.float32)
        for k, annotated in enumerate(people.visible[fit].T):
            if annotated.any():
                offset[k] = np.median(found[annotated, k], axis=0)
        return offset

    def metrics(self, part: str, decoders: Sequence[_Decoder]) -> List[Dict[str, float]]:
        """The config's metrics; those known already are not computed
        again."""
        missing = {d.identity: d for d in decoders if (part, d.identity) not in self._metrics}
        scorer = self.scorers[part]
        members = np.isin(np.arange(len(self.people)), scorer.rows)
        keypoints = self._over_predictions(
            members, list(missing.values()), lambda keypoints, rows: keypoints
        )
        values = distributed_map(scorer, keypoints, 'metric')
        for identity, value in zip(missing, values):
            self._metrics[part, identity] = value
        return [self._metrics[part, d.identity] for d in decoders]

    def similarity_sums(self, setting: Setting, deltas: np.ndarray, pairs: bool) -> np.ndarray:
        """Summed similarity on the fitted part at every factor, (D, K), or
        at every pair (x, y) of them, (D, D, K)."""

        def on_records(records, rows):
            if pairs:
                keypoints = self.records.decode_pairs(records, setting, deltas)
            else:
                same = np.broadcast_to(deltas[:, None, None], (len(deltas), 1, 2))
                keypoints = self.records.decode(records, setting, same)
            keypoints = self.people.to_image(keypoints, rows)
            similarity = keypoint_similarity(self.people, keypoints, rows)
            # of one order in memory, on which the rounding of later sums depends
            return np.ascontiguousarray(similarity.sum(0, dtype=np.float64))

        def add(sums):
            return reduce(np.add, sums)

        names = set(self.records.arrays(setting))
        together = PAIRS_TOGETHER if pairs else TOGETHER
        return add(self._over_people(self.parts['fit'], names, on_records, add, 'search', together))

    def person_similarity(self, part: str, decoders: Sequence[_Decoder]) -> List[np.ndarray]:
        """Summed over each person's keypoints, (P,) for each decoder; what
        is known already is not computed again."""
        missing = {d.identity: d for d in decoders if (part, d.identity) not in self._similarity}
        sums = self._over_predictions(
            self.parts[part],
            list(missing.values()),
            lambda keypoints, rows: keypoint_similarity(self.people, keypoints, rows).sum(-1),
        )
        for identity, similarity in zip(missing, sums):
            self._similarity[part, identity] = similarity
        return [self._similarity[part, d.identity] for d in decoders]

    def curve(
        self, setting: Setting, deltas: np.ndarray, sums: np.ndarray, by_metric: bool
    ) -> Curve:
        """A setting at every factor, of :meth:`similarity_sums` (D, K); the
        metric scores the whole ones."""
        fit = self.parts['fit']
        similarity = sums.sum(-1) / max(self.counts[fit].sum(), 1)
        whole = deltas[is_whole(deltas)] if by_metric else deltas[:0]
        metrics = self.metrics('fit', [_daec(setting, [(d, d)]) for d in whole])
        values = np.array([values[self.metric] for values in metrics])
        return Curve(setting, deltas, similarity, whole, values)

    def _fit_number(self, setting: Setting, candidates: np.ndarray, empirical: float) -> np.ndarray:
        """The best pair by the metric; of equals the nearest to the
        empirical."""
        candidates = np.unique(candidates, axis=0)
        far = np.abs(candidates - empirical).sum(-1)
        candidates = candidates[np.argsort(far, kind='stable')]
        metrics = self.metrics('fit', [_daec(setting, [pair]) for pair in candidates])
        values = [goodness(values[self.metric], self.metric) for values in metrics]
        return candidates[np.argmax(values)]

    def ladder(self, curve: Curve, pair_sums: np.ndarray) -> List[_Decoder]:
        """Factors fitted from coarse to fine.

        Args:
            curve (Curve): By :meth:`curve`.
            pair_sums (np.ndarray): By :meth:`similarity_sums`, (D, D, K).
        """
        setting, deltas = curve.setting, curve.deltas
        empirical = self.records.empirical(setting)
        is_heatmap = self.records.representation == 'heatmap'
        sums = pair_sums.diagonal().T  # at equal factors

        def best(values, factors, number):
            return best_candidates(values, factors, empirical, number)

        whole = best(goodness(curve.metrics, self.metric), curve.metric_deltas, 1)[0]
        number = self._fit_number(
            setting, np.vstack([whole, best(sums.sum(-1), deltas, FINALISTS)]), empirical
        )
        pair = self._fit_number(
            setting, np.vstack([number, best(pair_sums.sum(-1), deltas, FINALISTS)]), empirical
        )
        ladder = [
            ('empirical' if is_heatmap else 'symmetric', [(empirical, empirical)]),
            ('whole', [whole]),
            ('fractional', [number]),
            ('x, y', [pair]),
        ]
        if is_heatmap:
            keypoints = range(self.people.num_keypoints)
            ladder += [
                (name, [best(values[..., k], deltas, 1)[0] for k in keypoints])
                for name, values in (('keypoint', sums), ('keypoint x, y', pair_sums))
            ]
        return [_daec(setting, pairs, name) for name, pairs in ladder]

    def scores(self, part: str, decoders: Sequence[_Decoder]) -> List[Score]:
        """How good decoders are on a part of the images."""
        number = max(self.counts[self.parts[part]].sum(), 1)
        sums, metrics = self.person_similarity(part, decoders), self.metrics(part, decoders)
        return [Score(float(s.sum() / number), values) for s, values in zip(sums, metrics)]

    def choices(
        self, decoders: Sequence[_Decoder], fit: Optional[List[Score]] = None
    ) -> List[Choice]:
        """Score decoders on the held-out part, and on the fitted one where
        that is not known."""
        fit = fit or self.scores('fit', decoders)
        held_out = self.scores('held_out', decoders)
        return [
            Choice(decoder.name, decoder.delta, decoder.setting, *scores)
            for decoder, *scores in zip(decoders, fit, held_out)
        ]

    def gain(self, new: _Decoder, old: _Decoder) -> Gain:
        """Of a decoder over another on the held-out part."""
        held = self.parts['held_out']
        sums = self.person_similarity('held_out', [new, old])
        return bootstrap_gain(*sums, self.counts[held], self.people.arrays['img_id'][held])


def learn(
    cfg: Config,
    people: People,
    records,
    setting: Setting,
    deltas: np.ndarray,
    holdout: float = 0.2,
    metric: Optional[str] = None,
) -> Calibration:
    """Learn DAEC's factor from captured people.

    Args:
        cfg (Config): Its ``test_evaluator`` names the metrics.
        people (People): See :func:`~.capture.capture`.
        records (HeatmapRecords | SimCCRecords): By which they were captured.
        setting (Setting): Corner, smoothing and border that a factor is chosen for.
        deltas (np.ndarray): Factors to choose from, shape (D,).
        holdout (float): See :func:`calibrate`.
        metric (str, optional): See :func:`calibrate`.

    Returns:
        Calibration: Without ``source``.

    Raises:
        ValueError: The metrics cannot be computed from these data, or there
            are too few images.
    """
    calibrator = _Calibrator(cfg, people, records, holdout, metric)
    metric = calibrator.metric
    # every corner and smoothing, and the other border
    compared = [s for s in records.settings if s.border == setting.border or s[:2] == setting[:2]]
    pair_sums = calibrator.similarity_sums(setting, deltas, pairs=True)
    curves = []
    for s in compared:
        sums = (
            pair_sums.diagonal().T  # the pairs of equal factors
            if s == setting
            else calibrator.similarity_sums(s, deltas, pairs=False)
        )
        curves.append(calibrator.curve(s, deltas, sums, by_metric=s.corner == setting.corner))
    at_best, fit_at_best = [], []
    for curve in curves:
        pair = best_candidates(curve.similarity, deltas, records.empirical(curve.setting), 1)
        at_best.append(_daec(curve.setting, pair, str(curve.setting)))
        fit_at_best.append(Score(float(curve.similarity.max()), {}))
    references = [_reference(name, setting) for name in records.references]
    dark = _reference('dark', setting)
    less_offset = dark._replace(name='dark, less offset', offset=calibrator.offset(dark))
    ladder = calibrator.ladder(curves[compared.index(setting)], pair_sums)
    reference_choices = calibrator.choices([*references, less_offset])
    choices = calibrator.choices(ladder)

    argmax, *others = references
    against = [*((decoder, argmax) for decoder in others), (less_offset, dark)]
    for choice, (decoder, other) in zip(reference_choices[1:], against):
        choice.against, choice.gain = other.name, calibrator.gain(decoder, other)
    index, steps = climb(
        lambda i, j: calibrator.gain(ladder[i], ladder[j]),
        [goodness(choice.held_out.metrics[metric], metric) for choice in choices],
    )
    for choice, step in zip(choices[1:], steps):
        choice.against = choices[step.against].name
        choice.gain, choice.supported = step.gain, step.supported
    rival = max(range(len(references)), key=lambda i: reference_choices[i].held_out.similarity)
    learned_for = dict(records.identity)
    if records.representation == 'heatmap':
        learned_for.update(setting._asdict())
    return Calibration(
        representation=records.representation,
        unit=records.unit,
        metric=metric,
        empirical={s: records.empirical(s) for s in records.settings},
        curves=curves,
        references=reference_choices,
        settings=calibrator.choices(at_best, fit_at_best),
        choices=choices,
        chosen=choices[index],
        verdict=replace(
            choices[index],
            against=references[rival].name,
            gain=calibrator.gain(ladder[index], references[rival]),
            supported=None,
        ),
        settings_learned_for=learned_for,
        metric_images={name: scorer.images for name, scorer in calibrator.scorers.items()},
    )


def calibrate(
    cfg: Config,
    checkpoint: str,
    work_dir: Path,
    split: str = 'train',
    subset: Optional[int] = None,
    holdout: float = 0.2,
    metric: Optional[str] = None,
    low: Optional[float] = None,
    high: Optional[float] = None,
    step: Optional[float] = None,
    corner: Optional[str] = None,
    smooth: Optional[bool] = None,
    border: Optional[str] = None,
    hash_pictures: bool = False,
) -> Calibration:
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
            default the one that its checkpoints are chosen by. It is of at
            most :data:`~.scoring.METRIC_IMAGES` images of each part.
        low (float, optional): Smallest factor, in cells or bins. By default
            -2 cells, as in the paper, or -sigma bins.
        high (float, optional): Largest factor; by default that which ends
            the window at the maximum.
        step (float, optional): Between factors, 1 / n. By default 0.25
            cells, or 0.5 bins.
        corner (str, optional): The corner for which a factor is chosen. By
            default that of the config's codec, else 'br', the method.
        smooth (bool, optional): Whether it is chosen for smoothed maps. By
            default as in the config's codec, else False.
        border (str, optional): What windows do at the map's border, 'clip' or
            'symmetric'. By default as in the config's codec, else 'clip'.
        hash_pictures (bool): Whether pictures count by their content, for
            which all are read; else by size and modification time.

    Returns:
        Calibration: The factors at every granularity, and the chosen one.

    Raises:
        ValueError: An argument, the data or the checkpoint do not serve.
    """
    check_choice('split', split, ('train', 'val', 'test'))
    check_number('holdout', holdout, above=0, below=1)
    if low is not None:
        check_number('low', low, high=0)
    if subset is not None:
        check_int('subset', subset, 1)
    check_frames(cfg)
    head = pose_head_cfg(cfg)
    records = build_records(head.decoder, low, head.get('loss'))
    high = records.high if high is None else high
    check_number('high', high, low=1, high=records.high)
    step = records.default_step if step is None else step
    check_number('step', step, above=0, high=1)
    if abs(1 / step - round(1 / step)) > 1e-6:
        raise invalid('step', step, '1 divided by a whole number')
    own = records.own_setting
    setting = Setting(
        own.corner if corner is None else corner,
        own.smooth if smooth is None else smooth,
        own.border if border is None else border,
    )
    if setting not in records.settings:
        raise invalid(
            'corner, smooth and border',
            tuple(setting),
            f'one of {[tuple(s) for s in records.settings]}',
        )

    people = capture(cfg, checkpoint, records, split, work_dir, subset, hash_pictures)
    deltas = candidate_deltas(records.low, high, step)
    calibration = learn(cfg, people, records, setting, deltas, holdout, metric)
    calibration.source = dict(
        model=name_model(cfg, checkpoint),
        data=dict(
            split=split,
            ann_file=Path(people.ann_file).name,
            sha256=file_sha256(people.ann_file),
            people=len(people),
            images=len(np.unique(people.arrays['img_id'])),
            subset=subset,
            holdout=holdout,
        ),
    )
    return calibration
