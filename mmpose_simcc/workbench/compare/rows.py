# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The rows of a comparison, and the names and units of their metrics."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from ..complexity import Complexity
from ..metrics import RELIABILITY, goodness, short_name
from .errors import CompareError
from .runs import Run

# those of COCO's metrics that are shown: MMPose's names, and the papers'
COCO_METRICS = {
    'coco/AP': 'AP',
    'coco/AP .5': 'AP50',
    'coco/AP .75': 'AP75',
    'coco/AP (M)': 'AP(M)',
    'coco/AP (L)': 'AP(L)',
    'coco/AR': 'AR',
}
# the best row is the best by the first of these that the rows have, with AP last for data whose
# sigmas, on which AP depends, are not measured
MAIN_METRICS = ('AP', 'PCK', 'PCKh', 'tPCK', 'NME', 'EPE', 'AUC')
COSTS = {
    '#Params': lambda row: f'{row.params:.1f}M',
    'GFLOPs': lambda row: f'{row.paper_gflops:.2f}',
}


@dataclass
class Training:
    """What one training of a run gives with one decoder.

    Attributes:
        checkpoint (str): The weights.
        predictions (str): Path of the predictions without suffix.
        metrics (dict): Values by MMPose's names.
        calibrated_on (str, optional): The pictures on which the decoder's scores were calibrated.
    """

    checkpoint: str
    predictions: str
    metrics: Dict[str, float]
    calibrated_on: Optional[str] = None

    def load(self, *names: str) -> List[np.ndarray]:
        """Arrays of the predictions, by their names, see
        :class:`~mmpose_simcc.workbench.scoring.Scores`."""
        with np.load(f'{self.predictions}.npz') as stored:
            return [stored[name] for name in names]


@dataclass
class Row:
    """One decoder of one run.

    Attributes:
        config (str): Name of the run.
        scheme (str): Representation in words.
        decoder (str): Name of the decoder.
        input_size (tuple): Width and height in pixels.
        params (float): Millions of parameters.
        paper_gflops (float): GFLOPs as the papers count them.
        gflops (float): 10**9 multiply-adds that are really done.
        forward_ms (float): Median time of one image through the network.
        decode_ms (float): Median time of decoding one image.
        trainings (list[Training]): One for each seed.
        boxes (str): The boxes by which people are cut out.
        test_data (str): Equal for rows that are tested on the same data.
        known_sigmas (bool): Whether the data set's sigmas, on which AP depends, are measured.
        factors (dict): What a study varies.
        metrics (dict): Means over the trainings by MMPose's names, of the metrics that all of
            them have.
    """

    config: str
    scheme: str
    decoder: str
    input_size: Tuple[int, int]
    params: float
    paper_gflops: float
    gflops: float
    forward_ms: float
    decode_ms: float
    trainings: List[Training]
    boxes: str = 'annotated'
    test_data: str = ''
    known_sigmas: bool = True
    factors: Dict[str, Any] = field(default_factory=dict)
    metrics: Dict[str, float] = field(init=False)

    @classmethod
    def of(
        cls,
        run: Run,
        decoder: str,
        trainings: List[Training],
        input_size: Tuple[int, int],
        cost: Complexity,
        forward: float = 0.0,
        decode: float = 0.0,
    ) -> 'Row':
        """A decoder of a run, with the seconds of the forward pass and of decoding."""
        return cls(
            config=run.name,
            scheme=run.scheme,
            decoder=decoder,
            input_size=input_size,
            params=cost.params / 1e6,
            paper_gflops=cost.paper_gflops,
            gflops=cost.gflops,
            forward_ms=1e3 * forward,
            decode_ms=1e3 * decode,
            trainings=trainings,
            boxes=run.boxes,
            test_data=run.test_data,
            known_sigmas=run.knows_sigmas,
            factors=run.factors,
        )

    def __post_init__(self) -> None:
        self.metrics = {
            key: float(np.mean([training.metrics[key] for training in self.trainings]))
            for key in self.trainings[0].metrics
            if all(key in training.metrics for training in self.trainings)
        }

    def spread(self, key: str) -> Optional[float]:
        """Standard deviation of a metric between trainings; None of one."""
        if len(self.trainings) == 1:
            return None
        return float(np.std([training.metrics[key] for training in self.trainings], ddof=1))

    def has(self, factors: Dict[str, Any]) -> bool:
        """Whether the row is one of those that a study names by these factors."""
        return all(self.factors.get(name) == value for name, value in factors.items())

    @property
    def has_detected_boxes(self) -> bool:
        """Whether people are cut out by boxes that a detector found: these have no truth."""
        return self.boxes != 'annotated'

    @property
    def size_text(self) -> str:
        """Height x width, as in the names of configs."""
        return '{1}x{0}'.format(*self.input_size)


def shown_metrics(rows: Sequence[Row]) -> Dict[str, str]:
    """The metrics that tables show: MMPose's names, and what tables call them. COCO's come first;
    where sigmas are not measured, after the other metrics of keypoints."""
    names = _names(key for row in rows for key in row.metrics)
    if all(row.known_sigmas for row in rows):
        return names
    places = {key: 2 if key in RELIABILITY else key.startswith('coco/') for key in names}
    return {key: names[key] for key in sorted(names, key=places.get)}


def _names(keys: Iterable[str]) -> Dict[str, str]:
    """Short names of metrics; the whole name where two would be called the same."""
    found = dict.fromkeys(keys)
    names = {key: name for key, name in COCO_METRICS.items() if key in found}
    names.update({key: short_name(key) for key in found if not key.startswith('coco/')})
    count = Counter(names.values())
    return {key: name if count[name] == 1 else key for key, name in names.items()}


def find_key(name: str, keys: Iterable[str]) -> str:
    """MMPose's name of the metric that tables call so.

    Raises:
        CompareError: There is no such metric among the keys.
    """
    names = {shown: key for key, shown in _names(keys).items()}
    if name not in names:
        raise CompareError(f'there is no metric {name}; there are {", ".join(names)}')
    return names[name]


def main_metric(rows: Sequence[Row]) -> str:
    """The metric that tells the best, as tables call it."""
    shown = shown_metrics(rows)
    by_short_name = {short_name(key): name for key, name in reversed(shown.items())}
    order = MAIN_METRICS
    if not all(row.known_sigmas for row in rows):
        order = (*order[1:], 'AP')
    found = [by_short_name[main] for main in order if main in by_short_name]
    return (found or [*shown.values()])[0]


def metric_key(rows: Sequence[Row], name: Optional[str] = None) -> str:
    """MMPose's name of a metric, by default of the main one.

    Raises:
        CompareError: The rows have no such metric.
    """
    return find_key(name or main_metric(rows), (key for row in rows for key in row.metrics))


def unit_factor(row: Row, key: str) -> float:
    """The factor that turns a metric into percent, as papers give it, or pixels."""
    name = short_name(key)
    of_mpii = f'{key[: len(key) - len(name)]}PCK@0.1' in row.metrics  # whose PCK is in percent
    in_percent = of_mpii and (name in ('PCK', 'PCK@0.1') or name.endswith(' PCK'))
    return 1.0 if in_percent or name == 'EPE' else 100.0


def best_row(rows: Sequence[Row], key: str) -> Row:
    """The best of rows that have a metric."""
    return max(rows, key=lambda row: goodness(row.metrics[key], key))
