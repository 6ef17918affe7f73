# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The steps of the ladder: their candidates, how these are fitted, and the loss of each."""

from dataclasses import replace
from typing import List

import numpy as np

from ...codecs.calibration import LEVELS, Radii
from .fit import fit_maps, fit_radii, fit_scale
from .outputs import BORDERS, Outputs
from .samples import Decoding, Samples


class Step:
    """A step of the ladder.

    Attributes:
        title (str): What it chooses.
        unit (str): The unit of its loss.
    """

    title: str
    unit: str

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        """Names of the candidates: the first changes nothing, then from simple to fine."""
        raise NotImplementedError

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        """Fit a candidate on the half that is not held out."""
        raise NotImplementedError

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        """The loss of each keypoint, NaN where there is no truth, shape (N, K)."""
        raise NotImplementedError

    def describe(self, decoding: Decoding) -> str:
        """In words, what was fitted."""
        raise NotImplementedError


class _OfKeypoints(Step):
    """A step that moves keypoints. The loss is their distance from a similarity of 1."""

    unit = 'similarity'

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        similarity = samples.similarity(decoding.keypoints(samples))
        return np.where(samples.visible, 1 - similarity, np.nan)


class DecoderStep(_OfKeypoints):
    """The decoder: one without a parameter to fit, or DAEC with one factor, one for each axis, or
    factors for each keypoint."""

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
        """The factor, or factors, with the largest similarity, as a codec takes them."""
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
            # of equally good factors the one nearest to the empirical one
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
    """The flip test. DAEC's factor is fitted anew for each."""

    title = 'flip test'

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return [decoding.flip, *(flip for flip in samples.outputs if flip != decoding.flip)]

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        return DecoderStep().fit(decoding.name, replace(decoding, flip=name), samples)

    def describe(self, decoding: Decoding) -> str:
        return f'{decoding.flip}; {DecoderStep().describe(decoding)}'


class OffsetStep(_OfKeypoints):
    """The median of prediction minus truth, which is then subtracted."""

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
            offset = np.zeros((len(known), 2))  # stays 0 for keypoints that are never annotated
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
    """What scores are worth. The loss is the squared distance from the similarity that they should
    predict."""

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
    """Radii within which the truth lies, for each keypoint by its score. There is one candidate.
    Models can be compared by its pinball loss, which is lowest at the quantile."""

    title = 'radii'
    unit = 'pinball loss, px'

    def candidates(self, decoding: Decoding, samples: Samples) -> List[str]:
        return ['by keypoint and score']

    def fit(self, name: str, decoding: Decoding, samples: Samples) -> Decoding:
        return self.fit_on(~samples.held_out, decoding, samples)

    def fit_on(self, part: np.ndarray, decoding: Decoding, samples: Samples) -> Decoding:
        """Fit how radii depend on the score on the people who are not held out, and how large they
        are for each keypoint on those in ``part``, bool, shape (N,)."""
        scores, distances = decoding.scores(samples), decoding.distances(samples)
        fitted = ~samples.held_out
        scale = fit_scale(scores[fitted], distances[fitted])
        return replace(decoding, radii=fit_radii(scale, scores[part], distances[part]))

    def loss(self, decoding: Decoding, samples: Samples) -> np.ndarray:
        distances = decoding.distances(samples)[..., None]
        beyond = distances - Radii(**decoding.radii)(decoding.scores(samples))
        return np.maximum(beyond * LEVELS, beyond * (np.array(LEVELS) - 1)).sum(-1)

    def describe(self, decoding: Decoding) -> str:
        low, high = (np.concatenate(decoding.radii['pixels']) for _ in range(2))
        low, high = low.min(0), high.max(0)
        return ', '.join(f'{p:g}: {a:.1f} to {b:.1f} px' for p, a, b in zip(LEVELS, low, high))
