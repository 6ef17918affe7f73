# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Plots of a comparison."""
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import matplotlib
import numpy as np

matplotlib.use('Agg')  # writes files, shows nothing

from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from mmcv import imread  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmpose.registry import DATASETS  # noqa: E402

from .evaluation import quiet  # noqa: E402
from .runs import Run  # noqa: E402
from .tables import Row, shown_metrics  # noqa: E402

# distinct also for colour-blind readers (Okabe and Ito)
COLORS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9',
          '#F0E442', '#000000')
TRUTH_COLOR = '#39FF14'
PREDICTION_COLOR = '#FF2D55'


def save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=150, bbox_inches='tight')
    plt.close(figure)
    return path


def plot_decoders(rows: List[Row], path: Path) -> Path:
    """Grouped bars: the first metric (AP) by config and decoder."""
    key, name = next(iter(shown_metrics(rows).items()))
    configs = list(dict.fromkeys(row.config for row in rows))
    names = list(dict.fromkeys(row.decoder for row in rows))
    colors = {
        decoder: COLORS[i % len(COLORS)]
        for i, decoder in enumerate(names)
    }
    groups = [[row for row in rows if row.config == c] for c in configs]
    figure, axes = plt.subplots(
        figsize=(1.5 + 0.55 * sum(len(g) + 1 for g in groups), 4))
    x, centers = 0., []
    for group in groups:
        places = x + np.arange(len(group))
        for place, row in zip(places, group):
            value = row.metrics[key]
            axes.bar(place, value, 0.86, color=colors[row.decoder])
            axes.annotate(
                f'{value:.3f}', (place, value), (0, 2),
                textcoords='offset points',
                ha='center',
                fontsize=7)
        centers.append(places.mean())
        x = places[-1] + 2
    axes.set_xticks(centers, [
        f'{group[0].scheme}\n{group[0].size_text}' for group in groups
    ])
    axes.set_ylabel(name)
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(axis='x', length=0)
    axes.legend(
        [plt.Rectangle((0, 0), 1, 1, color=c) for c in colors.values()],
        names,
        title='decoder',
        loc='upper left',
        bbox_to_anchor=(1, 1),
        frameon=False)
    return save(figure, path)


class Person(NamedTuple):
    """An annotated person.

    Attributes:
        id (int): As in the data set.
        img_id (int): As in the data set.
        path (str): The image.
        bbox (np.ndarray): Corners x1, y1, x2, y2 in pixels, shape (4,).
        keypoints (np.ndarray): Pixels, shape (K, 2).
        visible (np.ndarray): Which are labelled, shape (K,).
    """
    id: int
    img_id: int
    path: str
    bbox: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray


def load_people(run: Run) -> Tuple[List[Person], List[Tuple[int, int]]]:
    """The annotated people of a run's test data.

    Returns:
        tuple: The people in the order of the data set, and the links of the
        skeleton as pairs of keypoints.
    """
    cfg = run.cfg.test_dataloader.dataset.copy()
    cfg.pipeline = []
    if 'bbox_file' in cfg:
        cfg.bbox_file = ''
    init_default_scope(run.cfg.get('default_scope', 'mmpose'))
    with quiet():
        dataset = DATASETS.build(cfg)
    infos = (dataset.get_data_info(i) for i in range(len(dataset)))
    people = [
        Person(info['id'], info['img_id'], info['img_path'], info['bbox'][0],
               info['keypoints'][0], info['keypoints_visible'][0] > 0)
        for info in infos
    ]
    return people, dataset.metainfo['skeleton_links']


class Predictions:
    """Stored predictions of a row.

    Args:
        row (Row): The row.
    """

    def __init__(self, row: Row) -> None:
        with np.load(f'{row.predictions}.npz') as stored:
            self.keypoints = stored['keypoints']
            self.img_ids = stored['img_ids']
            self._by_id = {id_: i for i, id_ in enumerate(stored['ids'])}
        self._by_image: Dict[int, List[int]] = {}
        for i, img_id in enumerate(self.img_ids.tolist()):
            self._by_image.setdefault(img_id, []).append(i)

    def of(self, person: Person,
           from_detections: bool) -> Optional[np.ndarray]:
        """Keypoints (K, 2) in image pixels of an annotated person: by its
        id, or, where boxes were detected, the nearest in the image."""
        if not from_detections:
            return self.keypoints[self._by_id[person.id]]
        found = self.keypoints[self._by_image.get(person.img_id, [])]
        if len(found) == 0:
            return None
        far = np.linalg.norm(found - person.keypoints, axis=-1)
        return found[far[:, person.visible].mean(-1).argmin()]


def choose_people(people: List[Person], number: int) -> List[Person]:
    """Fully visible people, spread over the data set."""
    full = sorted(people, key=lambda person: -int(person.visible.sum()))
    full = full[:max(number, len(full) // 5)]
    full.sort(key=lambda person: person.id)
    places = np.linspace(0, len(full) - 1, min(number, len(full)))
    return [full[round(place)] for place in places]


def draw_person(axes: Axes,
                person: Person,
                links: Sequence[Tuple[int, int]],
                predictions: Sequence[Tuple[np.ndarray, str]],
                margin: float = 0.15) -> None:
    """Draw the truth and predictions over a person's part of the image."""
    image = imread(person.path, channel_order='rgb')
    size = (person.bbox[2:] - person.bbox[:2]).max() * (0.5 + margin)
    x, y = (person.bbox[2:] + person.bbox[:2]) / 2
    axes.imshow(image, interpolation='lanczos')
    axes.set(
        xlim=(x - size, x + size),
        ylim=(y + size, y - size),
        xticks=[],
        yticks=[],
        facecolor='#eeeeee')
    axes.spines[:].set_visible(False)
    _draw_skeleton(axes, person.keypoints, person.visible, links,
                   TRUTH_COLOR, 2.4)
    for keypoints, color in predictions:
        _draw_skeleton(axes, keypoints, person.visible, links, color, 1.1)


def _draw_skeleton(axes: Axes, keypoints: np.ndarray, visible: np.ndarray,
                   links: Sequence[Tuple[int, int]], color: str,
                   width: float) -> None:
    for pair in links:
        if visible[list(pair)].all():
            axes.plot(
                *keypoints[list(pair)].T,
                color=color,
                linewidth=width,
                solid_capstyle='round')
    axes.plot(
        *keypoints[visible].T,
        'o',
        color=color,
        markersize=1.4 * width,
        markeredgewidth=0)


def plot_samples(rows: List[Row],
                 runs: Sequence[Run],
                 path: Path,
                 number: int = 6) -> Path:
    """Sample people: a row for each model with its best decoder, predicted
    over true skeletons."""
    key = next(iter(shown_metrics(rows)))
    people, links = load_people(runs[0])
    chosen = choose_people(people, number)
    figure, grid = plt.subplots(
        len(runs),
        len(chosen),
        figsize=(2 * len(chosen), 2.1 * len(runs)),
        squeeze=False)
    for axes_row, run in zip(grid, runs):
        row = max((row for row in rows if row.config == run.name),
                  key=lambda row: row.metrics[key])
        predictions = Predictions(row)
        detected = bool(run.cfg.test_dataloader.dataset.get('bbox_file'))
        for axes, person in zip(axes_row, chosen):
            keypoints = predictions.of(person, detected)
            draw_person(
                axes, person, links,
                [] if keypoints is None else [(keypoints, PREDICTION_COLOR)])
        axes_row[0].set_ylabel(
            f'{row.scheme}\n{row.decoder}', fontsize=9)
    figure.legend([
        plt.Line2D([], [], color=TRUTH_COLOR, linewidth=3),
        plt.Line2D([], [], color=PREDICTION_COLOR, linewidth=2)
    ], ['annotated', 'predicted'],
                  loc='lower center',
                  bbox_to_anchor=(0.5, 0.95),
                  ncols=2,
                  frameon=False)
    figure.subplots_adjust(wspace=0.03, hspace=0.03, top=0.95)
    return save(figure, path)
