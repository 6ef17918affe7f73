# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is tried on a trained model, in which order, and what of it is kept.

:data:`LADDER` is the order. A step has candidates, from the simplest to the finest, which it fits
on one part of the pictures; :func:`climb` compares them on the other part, and keeps one only
where these pictures support it.
"""

from dataclasses import dataclass, field, replace
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy.stats import t

from ...codecs.calibration import LEVELS, Radii, ScoreMaps
from ..statistics import adjust
from .fit import fit_maps, fit_radii
from .outputs import BORDERS, Outputs

ERROR_RATE = 0.05  # of a step: that it keeps anything though nothing gains


@dataclass
class Samples:
    """N people: the truth, and what a model says of them.

    Attributes:
        outputs (dict): :class:`~.outputs.Outputs` by flip test; the model's own comes first.
        truth (np.ndarray): Annotated keypoints in image pixels, shape (N, K, 2).
        visible (np.ndarray): Which are annotated, bool, shape (N, K).
        img_ids (np.ndarray): The image of each person, shape (N,).
        scale (np.ndarray): Image pixels to an input pixel, shape (N, 2).
        corner (np.ndarray): Image pixels of the input's corner, shape (N, 2).
        similarity (callable): COCO's similarity of keypoints (P, ..., K, 2) in image pixels to
            the truth of people ``rows``: in [0, 1], shape (P, ..., K).
        worth (callable): What a score is held against, of keypoints (N, K, 2) in image pixels:
            in [0, 1], NaN where there is no truth, shape (N, K).
        held_out (np.ndarray): Who is in the part that compares, bool, shape (N,).
    """

    outputs: Dict[str, Outputs]
    truth: np.ndarray
    visible: np.ndarray
    img_ids: np.ndarray
    scale: np.ndarray
    corner: np.ndarray
    similarity: Callable[[np.ndarray, slice], np.ndarray]
    worth: Callable[[np.ndarray], np.ndarray]
    held_out: np.ndarray
    _pair_sums: Dict[Tuple[str, str], np.ndarray] = field(default_factory=dict)

    def to_image(self, keypoints: np.ndarray, rows: slice = slice(None)) -> np.ndarray:
        """Input-image pixels (P, ..., K, 2) to image pixels."""
        shape = (-1, *[1] * (keypoints.ndim - 2), 2)
        return keypoints * self.scale[rows].reshape(shape) + self.corner[rows].reshape(shape)

    def pair_sums(self, flip: str, border: str) -> np.ndarray:
        """Similarity at every pair of DAEC's factors, summed over the fitted part, (D, D, K)."""
        if (flip, border) not in self._pair_sums:
            total = 0.0
            for rows, keypoints in self.outputs[flip].predict_pairs(border):
                fitted = (self.visible[rows] & ~self.held_out[rows, None])[:, None, None]
                found = self.similarity(self.to_image(keypoints, rows), rows)
                total = total + (found * fitted).sum(0, dtype=np.float64)
            self._pair_sums[flip, border] = total
        return self._pair_sums[flip, border]


@dataclass(frozen=True)
class Decoding:
    """How outputs are decoded: what is learned of a model.

    Attributes:
        name (str): The candidate of :class:`DecoderStep` that it is.
        decoder (dict): Type of the codec and its arguments of decoding.
        flip (str): The flip test.
        offset (np.ndarray, optional): Taken off, input-image pixels, shape (K or 1, 2).
        score_maps (list, optional): See :class:`~mmpose_simcc.codecs.calibration.ScoreMaps`.
        radii (dict, optional): See :class:`~mmpose_simcc.codecs.calibration.Radii`.
    """

    name: str
    decoder: dict
    flip: str
    offset: Optional[np.ndarray] = None
    score_maps: Optional[list] = None
    radii: Optional[dict] = None

    def errors(self, samples: Samples) -> np.ndarray:
        """Prediction minus truth, input-image pixels, NaN where there is no truth, (N, K, 2)."""
        error = (self.keypoints(samples) - samples.truth) / samples.scale[:, None]
        return np.where(samples.visible[..., None], error, np.nan)

    def keypoints(self, samples: Samples) -> np.ndarray:
        """Image pixels, shape (N, K, 2)."""
        found = samples.outputs[self.flip].predict(self.decoder)
        return samples.to_image(found if self.offset is None else found - self.offset)

    def scores(self, samples: Samples) -> np.ndarray:
        """Shape (N, K)."""
        scores = samples.outputs[self.flip].scores
        return scores if self.score_maps is None else ScoreMaps(self.score_maps)(scores)

    def distances(self, samples: Samples) -> np.ndarray:
        """From the truth, input-image pixels, NaN where there is none, shape (N, K)."""
        return np.linalg.norm(self.errors(samples), axis=-1)


class Step:
    """A step of the ladder.

    Attributes:
        title (str): What it is about.
        unit (str): Of its gains.
    """

    title: str
    unit: str

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        """Names; first what there is without the step, then from the simplest to the finest."""
        raise NotImplementedError

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        """A candidate, fitted on the part that is not held out."""
        raise NotImplementedError

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        """How bad it is for each keypoint, NaN where there is no truth, shape (N, K)."""
        raise NotImplementedError

    def describe(self, decoding: Decoding) -> str:
        """What was fitted, in words."""
        raise NotImplementedError


class _OfKeypoints(Step):
    """A step that moves keypoints: they should be similar to the truth."""

    unit = 'similarity'

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        similarity = samples.similarity(decoding.keypoints(samples), slice(None))
        return np.where(samples.visible, 1 - similarity, np.nan)


class DecoderStep(_OfKeypoints):
    """The decoder: those without a parameter, and DAEC with factors of every fineness."""

    title = 'decoder'
    factors = ('empirical', 'whole', 'fractional', 'x, y', 'keypoint', 'keypoint x, y')

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        outputs = samples.outputs[decoding.flip]
        factors = self.factors if outputs.has_factors_of_keypoints else self.factors[:4]
        daec = [f'daec, {border}, {factor}' for border in BORDERS for factor in factors]
        fixed = [name for name, decoder in outputs.fixed.items() if decoder != outputs.own]
        return ['as it is', *fixed, *daec]

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        outputs = samples.outputs[decoding.flip]
        if name == 'as it is':
            return replace(decoding, name=name, decoder=outputs.own)
        if name in outputs.fixed:
            return replace(decoding, name=name, decoder=outputs.fixed[name])
        _, border, factor = name.split(', ', 2)
        delta = self._factor(factor, samples.pair_sums(decoding.flip, border), outputs)
        return replace(decoding, name=name, decoder=outputs.daec(delta, border))

    @staticmethod
    def _factor(factor: str, sums: np.ndarray, outputs: Outputs):
        """The factor with the largest similarity, in a form that a codec takes."""
        deltas, empirical = outputs.deltas, outputs.empirical
        if factor == 'empirical':
            return empirical
        if 'keypoint' in factor:
            columns = [sums[..., k] for k in range(sums.shape[-1])]
        else:
            columns = [sums.sum(-1)]
        both = 'x, y' in factor
        found = []
        for values in columns:
            pairs = np.argwhere(np.ones_like(values, bool) if both else np.eye(len(deltas)) > 0)
            if factor == 'whole':
                whole = np.abs(deltas - deltas.round()) < 1e-6
                pairs = pairs[whole[pairs].all(1)]
            # of equals the nearest to the empirical one
            far = np.abs(deltas[pairs] - empirical).sum(1)
            best = pairs[np.lexsort((far, -values[tuple(pairs.T)]))[0]]
            found.append(deltas[best].tolist() if both else float(deltas[best[0]]))
        if 'keypoint' not in factor:
            return found[0]
        return found if both else [[delta, delta] for delta in found]

    def describe(self, decoding: Decoding) -> str:
        changed = {k: v for k, v in decoding.decoder.items() if k != 'type'}
        if isinstance(changed.get('delta'), list) and len(changed['delta']) > 2:
            low, high = np.min(changed['delta'], 0), np.max(changed['delta'], 0)
            changed['delta'] = ' / '.join(f'{a:g} to {b:g}' for a, b in zip(low, high))
        arguments = ', '.join(f'{k}={v}' for k, v in changed.items())
        return f'{decoding.decoder["type"]}({arguments})'


class FlipStep(_OfKeypoints):
    """The flip test. A factor is fitted anew for each."""

    title = 'flip test'

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return [decoding.flip, *(flip for flip in samples.outputs if flip != decoding.flip)]

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        return DecoderStep().fit(decoding.name, replace(decoding, flip=name), samples)

    def describe(self, decoding: Decoding) -> str:
        return f'{decoding.flip}; {DecoderStep().describe(decoding)}'


class OffsetStep(_OfKeypoints):
    """The median of prediction minus truth, which is taken off."""

    title = 'offset'

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return ['none', 'all', 'x, y', 'keypoint x, y']

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        if name == 'none':
            return decoding
        error = decoding.errors(samples)[~samples.held_out]
        if name == 'all':
            offset = np.full((1, 2), np.nanmedian(error))
        elif name == 'x, y':
            offset = np.nanmedian(error, (0, 1))[None]
        else:
            known = ~np.isnan(error).all((0, 2))
            offset = np.zeros((len(known), 2))  # of keypoints that are never annotated
            offset[known] = np.nanmedian(error[:, known], 0)
        return replace(decoding, offset=offset.round(4))

    def describe(self, decoding: Decoding) -> str:
        if decoding.offset is None:
            return ''
        low, high = decoding.offset.min(0), decoding.offset.max(0)
        if len(decoding.offset) == 1:
            return 'x {:+.2f}, y {:+.2f} px'.format(*low)
        return f'x {low[0]:+.2f} to {high[0]:+.2f}, y {low[1]:+.2f} to {high[1]:+.2f} px'


class ScoreStep(Step):
    """What scores are worth: they should be close to the similarity that they predict."""

    title = 'scores'
    unit = 'squared error'

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return ['as they are', 'one map', 'a map for each keypoint']

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        if name == 'as they are':
            return decoding
        fitted = ~samples.held_out
        scores = decoding.scores(samples)[fitted]
        worth = samples.worth(decoding.keypoints(samples))[fitted]
        return replace(decoding, score_maps=fit_maps(scores, worth, name.startswith('a map')))

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        worth = samples.worth(decoding.keypoints(samples))
        return (decoding.scores(samples) - worth) ** 2

    def describe(self, decoding: Decoding) -> str:
        points = len({str(points) for points in decoding.score_maps or ()})
        return f'{points} maps' if points > 1 else ''


class RadiusStep(Step):
    """Radii that hold the truth: the smaller the better, as long as they do. The pinball loss has
    its minimum at the quantile."""

    title = 'radii'
    unit = 'pinball loss, px'
    kinds = {
        'one': (False, False),
        'by score': (False, True),
        'by keypoint': (True, False),
        'by keypoint and score': (True, True),
    }

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return list(self.kinds)

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        return self.fit_on(~samples.held_out, name, decoding, samples)

    def fit_on(self, part: np.ndarray, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        """Fit on some people, bool, shape (N,)."""
        scores, distances = decoding.scores(samples), decoding.distances(samples)
        radii = fit_radii(scores[part], distances[part], *self.kinds[name])
        return replace(decoding, radii=radii)

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        distances = decoding.distances(samples)[..., None]
        beyond = distances - Radii(**decoding.radii)(decoding.scores(samples))
        return np.maximum(beyond * LEVELS, beyond * (np.array(LEVELS) - 1)).sum(-1)

    def describe(self, decoding: Decoding) -> str:
        low, high = (np.concatenate(decoding.radii['pixels']) for _ in range(2))
        low, high = low.min(0), high.max(0)
        return ', '.join(f'{p:g}: {a:.1f} to {b:.1f} px' for p, a, b in zip(LEVELS, low, high))


LADDER = (DecoderStep(), FlipStep(), OffsetStep(), ScoreStep(), RadiusStep())


def hold_out(img_ids: np.ndarray, part: float) -> np.ndarray:
    """Draw a part of the images, always the same.

    Args:
        img_ids (np.ndarray): The image of each person, shape (N,).
        part (float): Share of the images, in (0, 1).

    Returns:
        np.ndarray: Which people are held out, bool, shape (N,).

    Raises:
        ValueError: There are too few images for two parts.
    """
    images = np.unique(img_ids)
    number = round(part * len(images))
    if not 0 < number < len(images):
        raise ValueError(
            f'{len(images)} images cannot be split into a part to fit and {part:g} of them held out'
        )
    drawn = np.random.default_rng(1).permutation(len(images))[:number]
    return np.isin(img_ids, images[drawn])


class Gain(NamedTuple):
    """By how much a mean loss over keypoints is smaller.

    Attributes:
        value (float): The difference.
        low (float): Of its 95% interval.
        high (float): Of its 95% interval.
        p_value (float): Of the hypothesis that there is none.
    """

    value: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        return f'{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]'


def paired_gain(loss: np.ndarray, smaller: np.ndarray, img_ids: np.ndarray) -> Gain:
    """Compare losses of the same keypoints, paired by picture, since people of a picture are
    alike: the ratio of two means over pictures, with its variance to first order (Cochran,
    Sampling Techniques, 1977, Section 2.11) and Student's t.

    Args:
        loss (np.ndarray): Shape (N, K), NaN where there is no truth.
        smaller (np.ndarray): That which ought to be smaller.
        img_ids (np.ndarray): The image of each person, shape (N,).
    """
    images, image_of = np.unique(img_ids, return_inverse=True)
    known = ~np.isnan(loss)
    difference = np.bincount(image_of, np.nansum(loss - smaller, 1))
    counts = np.bincount(image_of, known.sum(1))
    value = difference.sum() / max(counts.sum(), 1)
    n = len(images)
    spread = np.sqrt(((difference - value * counts) ** 2).sum() * n / max(n - 1, 1))
    error = spread / max(counts.sum(), 1)
    if error == 0:
        return Gain(value, value, value, float(value == 0))
    half = t.isf(0.025, n - 1) * error
    return Gain(value, value - half, value + half, 2 * t.sf(abs(value) / error, n - 1))


@dataclass
class Trial:
    """A candidate of a step.

    Attributes:
        name (str): The candidate.
        decoding (Decoding): Fitted.
        loss (float): Its mean on the held-out part.
        gain (Gain): Over the step's first candidate there.
        supported (bool): Whether the held-out part supports it, see :func:`climb`.
        chosen (bool): Whether it is kept.
        words (str): What was fitted.
    """

    name: str
    decoding: Decoding
    loss: float
    gain: Gain
    supported: bool
    chosen: bool
    words: str


def climb(
    decoding: Decoding, samples: Samples, ladder: Sequence[Step] = LADDER
) -> Tuple[Decoding, List[Tuple[Step, List[Trial]]]]:
    """Go up the ladder.

    Of a step those candidates are supported that gain on the held-out part over what there is
    without it, by their paired p-values, adjusted by Holm for all of the step's candidates. Of
    the supported ones the simplest is kept that is not told apart from the best.

    Args:
        decoding (Decoding): Where it begins.
        samples (Samples): The people.
        ladder (sequence[Step]): The steps.

    Returns:
        tuple: What is kept, and what was tried in each step.
    """
    held, tried = samples.held_out, []
    for step in ladder:
        names = step.candidates(decoding, samples)
        fitted = [step.fit(name, decoding, samples) for name in names]
        losses = [step.loss(candidate, samples)[held] for candidate in fitted]
        images = samples.img_ids[held]
        gains = [paired_gain(losses[0], loss, images) for loss in losses]
        p_values = adjust([gain.p_value for gain in gains[1:]], len(gains) - 1)
        supported = [
            i
            for i, p_value in enumerate(p_values, 1)
            if p_value < ERROR_RATE and gains[i].value > 0
        ]
        chosen = 0
        if supported:
            best = max(supported, key=lambda i: gains[i].value)
            chosen = next(
                i for i in supported if paired_gain(losses[i], losses[best], images).low <= 0
            )
        decoding = fitted[chosen]
        trials = [
            Trial(
                name,
                candidate,
                float(np.nanmean(loss)),
                gain,
                i in supported,
                i == chosen,
                step.describe(candidate),
            )
            for i, (name, candidate, loss, gain) in enumerate(zip(names, fitted, losses, gains))
        ]
        tried.append((step, trials))
    return decoding, tried


def coverage(kind: str, decoding: Decoding, samples: Samples) -> List[dict]:
    """How often radii hold the truth on pictures that decided on nothing: those of each half of
    the held-out part on its other half.

    Args:
        kind (str): A candidate of :class:`RadiusStep`.
        decoding (Decoding): What else is kept.
        samples (Samples): The people.

    Returns:
        list[dict]: Rows of ``group``, ``keypoints`` (how many) and the share within each radius.
    """
    held = samples.held_out
    first = held.copy()
    first[held] = hold_out(samples.img_ids[held], 0.5)
    second = held & ~first
    scores, distances = decoding.scores(samples), decoding.distances(samples)
    within = np.zeros((*distances.shape, len(LEVELS)), bool)
    for part, other in ((first, second), (second, first)):
        radii = Radii(**RadiusStep().fit_on(part, kind, decoding, samples).radii)
        within[other] = distances[other, :, None] <= radii(scores[other])
    scores, distances, within = scores[held], distances[held], within[held]
    known = ~np.isnan(distances)
    K = known.shape[1]
    size = np.broadcast_to(samples.scale[held].mean(1)[:, None], known.shape)
    groups = {'all': known}
    for name, values in (('score', scores), ('size', size)):
        edges = np.quantile(values[known], np.linspace(0, 1, 6))
        for low, high in zip(edges, edges[1:]):
            inside = (values >= low) & ((values < high) | (high == edges[-1]))
            unit = ' image px per input px' if name == 'size' else ''
            groups[f'{name} {low:.2f} to {high:.2f}{unit}'] = known & inside
    for k in range(K):
        groups[f'keypoint {k}'] = known & (np.arange(K) == k)
    return [
        dict(
            group=name,
            keypoints=int(members.sum()),
            **{f'{level:g}': float(share) for level, share in zip(LEVELS, within[members].mean(0))},
        )
        for name, members in groups.items()
        if members.any()
    ]
