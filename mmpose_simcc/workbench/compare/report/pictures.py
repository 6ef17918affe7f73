# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Pictures of predicted and true skeletons."""

from itertools import groupby
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmcv import imread

from ....utils.configs import dicts
from ...data.coco import as_tested
from ..data import read_data
from ..rows import Row, best_row
from ..runs import Run

TRUTH = '#39FF14'
PREDICTIONS = ('#FF2D55', '#00C2FF')
NUMBER = 6  # people
# no space between pictures
TIGHT = dict(wspace=0.03, hspace=0.03, left=0, right=1, bottom=0, top=0.98)


class Person(NamedTuple):
    """An annotated person.

    Attributes:
        id (int): As in the data set.
        img_id (int): As in the data set.
        path (str): The image.
        bbox (np.ndarray): Corners x1, y1, x2, y2 in pixels, shape (4,).
        keypoints (np.ndarray): Pixels, shape (K, 2).
        labelled (np.ndarray): Which are labelled, shape (K,).
    """

    id: int
    img_id: int
    path: str
    bbox: np.ndarray
    keypoints: np.ndarray
    labelled: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return float((self.bbox[2:] - self.bbox[:2]).max())

    @property
    def center(self) -> np.ndarray:
        """The box's, shape (2,)."""
        return (self.bbox[:2] + self.bbox[2:]) / 2


class AnnotatedPeople(NamedTuple):
    """The annotated people of a data set.

    Attributes:
        people (list[Person]): In the order of the data set.
        links (list): Pairs of keypoints that a skeleton joins.
        names (dict): Names of the keypoints by index.
    """

    people: List[Person]
    links: List[Tuple[int, int]]
    names: Dict[int, str]


def load_people(run: Run) -> AnnotatedPeople:
    """The annotated people of a run's test data, with the keypoints that its model predicts."""
    cfg = as_tested(run.cfg.test_dataloader.dataset, [])  # keypoint converters alone
    for node in dicts(cfg):
        if node.get('bbox_file'):
            node['bbox_file'] = ''
    dataset = read_data(run.cfg, cfg)
    people = []
    for info in map(dataset.__getitem__, range(len(dataset))):
        keypoints = info['keypoints'][0]
        visible = info['keypoints_visible'][0].reshape(len(keypoints), -1)[:, 0]
        whose = info['id'], info['img_id'], info['img_path'], info['bbox'][0]
        people.append(Person(*whose, keypoints, visible > 0))
    meta = dataset.metainfo
    number = len(people[0].keypoints)
    links = [link for link in meta['skeleton_links'] if max(link) < number]
    return AnnotatedPeople(people, links, meta['keypoint_id2name'])


class StoredPredictions:
    """Stored predictions of a row.

    Args:
        row (Row): The row.
        training (int): Of which of its trainings.
    """

    def __init__(self, row: Row, training: int = 0) -> None:
        stored = row.trainings[training]
        self.keypoints, ids, img_ids = stored.load('keypoints', 'ids', 'img_ids')
        self._detected = row.has_detected_boxes
        self._by_id = {id_: i for i, id_ in enumerate(ids.tolist())}
        self._by_image: Dict[int, List[int]] = {}
        for i, img_id in enumerate(img_ids.tolist()):
            self._by_image.setdefault(img_id, []).append(i)

    def of(self, person: Person) -> Optional[np.ndarray]:
        """Keypoints (K, 2) in image pixels of an annotated person: by its id, or, where boxes were
        detected, the nearest in the image. None where there are none."""
        if not self._detected:
            place = self._by_id.get(person.id)
            return None if place is None else self.keypoints[place]
        found = self.keypoints[self._by_image.get(person.img_id, [])]
        if len(found) == 0 or not person.labelled.any():
            return None
        far = np.linalg.norm(found - person.keypoints, axis=-1)
        return found[far[:, person.labelled].mean(-1).argmin()]


def _show(axes: Axes, person: Person, center: np.ndarray, radius: float) -> None:
    """A square part of a person's image."""
    axes.imshow(imread(person.path, channel_order='rgb'))
    x, y = center
    axes.set(xlim=(x - radius, x + radius), ylim=(y + radius, y - radius), xticks=[], yticks=[])
    axes.set_facecolor('#eeeeee')
    axes.spines[:].set_visible(False)


def _draw(
    axes: Axes, keypoints: np.ndarray, labelled: np.ndarray, links, color: str, width: float
) -> None:
    for pair in map(list, links):
        if labelled[pair].all():
            axes.plot(*keypoints[pair].T, color=color, linewidth=width, solid_capstyle='round')
    axes.plot(
        *keypoints[labelled].T,
        'o',
        color=color,
        markersize=1.4 * width,
        markeredgewidth=0 if len(links) else 0.6,
        # many points without bones would hide those under them
        markerfacecolor=color if len(links) else 'none',
    )


def _legend(figure: Figure, names: Sequence[str]) -> None:
    handles = [Line2D([], [], color=color, linewidth=3) for color in (TRUTH, *PREDICTIONS)]
    figure.legend(
        handles[: len(names)],
        names,
        loc='lower center',
        bbox_to_anchor=(0.5, 0.98),
        ncols=len(names),
        frameon=False,
    )


def _choose(people: List[Person]) -> List[Person]:
    """The most completely labelled people, spread over the data set."""
    full = sorted(people, key=lambda person: -int(person.labelled.sum()))
    full = sorted(full[: max(NUMBER, len(full) // 5)], key=lambda person: person.id)
    places = np.linspace(0, len(full) - 1, min(NUMBER, len(full)))
    return [full[round(place)] for place in places]


def plot_samples(rows: Sequence[Row], key: str, data: Dict[str, AnnotatedPeople]) -> Figure:
    """Sample people: a line for each model with its best decoder, predicted over true skeletons.

    Args:
        rows (list[Row]): The rows.
        key (str): The metric that tells the best.
        data (dict): The people of each row's ``test_data``.
    """
    best = [best_row([*group], key) for _, group in groupby(rows, key=lambda row: row.config)]
    stored = [StoredPredictions(row) for row in best]
    chosen = {}
    for row, predictions in zip(best, stored):
        known = [
            person
            for person in data[row.test_data].people
            if row.has_detected_boxes or predictions.of(person) is not None
        ]
        chosen.setdefault(row.test_data, _choose(known))
    columns = max(map(len, chosen.values()))
    figure = Figure(figsize=(2 * columns, 2 * len(best)))
    grid = figure.subplots(len(best), columns, squeeze=False, gridspec_kw=TIGHT)
    for line, row, predictions in zip(grid, best, stored):
        links = data[row.test_data].links
        for axes in line[len(chosen[row.test_data]) :]:
            axes.axis('off')
        for axes, person in zip(line, chosen[row.test_data]):
            _show(axes, person, person.center, 0.65 * person.size)
            _draw(axes, person.keypoints, person.labelled, links, TRUTH, 2.4)
            keypoints = predictions.of(person)
            if keypoints is not None:
                _draw(axes, keypoints, person.labelled, links, PREDICTIONS[0], 1.1)
        line[0].set_ylabel(f'{row.scheme}\n{row.size_text}, {row.decoder}', fontsize=8)
    _legend(figure, ['annotated', 'predicted'])
    return figure


class Disagreement(NamedTuple):
    """A person on whom two rows disagree.

    Attributes:
        distance (float): Between the two, relative to the person's size.
        keypoint (int): The one that they place farthest apart.
        person (Person): The person.
        pair (list): Both predictions, shape (K, 2) each.
    """

    distance: float
    keypoint: int
    person: Person
    pair: List[np.ndarray]


def disagreements(people: Sequence[Person], rows: Sequence[Row]) -> List[Disagreement]:
    """The people on whom two rows disagree, by falling distance."""
    stored = [StoredPredictions(row) for row in rows]
    found = []
    for person in people:
        pair = [predictions.of(person) for predictions in stored]
        if person.labelled.any() and all(p is not None for p in pair):
            apart = np.linalg.norm(pair[0] - pair[1], axis=-1)
            keypoint = int(np.where(person.labelled, apart, -1).argmax())
            found.append(Disagreement(apart[keypoint] / person.size, keypoint, person, pair))
    return sorted(found, key=lambda case: -case.distance)


def plot_disagreement(rows: Sequence[Row], names: Sequence[str], data: AnnotatedPeople) -> Figure:
    """The people on whom two rows disagree most, and the keypoint in question enlarged.

    Args:
        rows (sequence[Row]): Two rows.
        names (sequence[str]): What to call them.
        data (AnnotatedPeople): The test data of both.
    """
    cases = disagreements(data.people, rows)[:NUMBER]
    figure = Figure(figsize=(2 * max(len(cases), 1), 4.2))
    grid = figure.subplots(2, max(len(cases), 1), squeeze=False, gridspec_kw=TIGHT)
    for (whole, part), (_, keypoint, person, pair) in zip(grid.T, cases):
        _show(whole, person, person.center, 0.65 * person.size)
        _draw(whole, person.keypoints, person.labelled, data.links, TRUTH, 2)
        points = np.stack([k[keypoint] for k in (person.keypoints, *pair)])
        center = (points.min(0) + points.max(0)) / 2
        radius = max(0.06 * person.size, 0.7 * np.ptp(points, axis=0).max())
        corner = center - radius
        whole.add_patch(Rectangle(corner, 2 * radius, 2 * radius, fill=False, color='white'))
        _show(part, person, center, radius)
        for keypoints, color in zip(pair, PREDICTIONS):
            _draw(whole, keypoints, person.labelled, data.links, color, 0.9)
        for point, color, marker in zip(points, (TRUTH, *PREDICTIONS), 'Xos'):
            part.plot(*point, marker, color=color, markersize=9, markeredgecolor='black')
        apart = np.linalg.norm(points[1] - points[2])
        name = data.names[keypoint].replace('_', ' ')
        part.set_xlabel(f'{name}\n{apart:.1f} px apart', fontsize=8)
    _legend(figure, ['annotated', *names])
    return figure
