# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""A page of training samples as the network gets them."""

import base64
import copy
from html import escape
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS

from ...utils.configs import dicts, dicts_of_type
from ...utils.console import silenced
from ...utils.files import whole_file
from .coco import as_tested

HEIGHT = 320  # of a picture on the page, in pixels
NAMED = 24  # if there are more keypoints, numbers are shown, since names would hide the picture
LEFT, RIGHT, OTHER = (255, 144, 30), (60, 60, 255), (80, 220, 80)  # BGR
PAGE = """\
<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em; }}
img {{ height: {height}px; border-radius: 4px; }}
td, th {{ padding: 4px; text-align: left; vertical-align: bottom; font-weight: normal; }}
.key b {{ padding: 0 .5em; border-radius: 3px; color: #fff; }}
</style>
<h1>{title}</h1>
<p>Each row is one annotation: the picture with its box, the crop that the network sees in a test,
and two crops of training with augmentation. Each name should stand at its keypoint, also in the
mirrored crops.</p>
<p class="key"><b style="background:#1e90ff">left</b> <b style="background:#ff3c3c">right</b>
<b style="background:#50b450">neither</b>{legend}</p>
<table>
<tr><th>picture<th>crop<th colspan="2">with augmentation
{rows}
</table></html>
"""


def write_samples(cfg: Config, path, number: int = 12) -> int:
    """Write a page of training samples: the picture with points, names and box, the crop of a
    test, and two crops with augmentation.

    Args:
        cfg (Config): A top-down config.
        path (str | Path): The HTML file, which includes the pictures.
        number (int): How many samples are drawn at random. Defaults to 12.

    Returns:
        int: How many samples are on the page: fewer than ``number`` if there are no more.
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    with silenced():
        training = _data_set(cfg.train_dataloader.dataset)
        test = cfg.get('val_dataloader') or cfg.get('test_dataloader')
        pipeline = next(each['pipeline'] for each in dicts(test['dataset']) if each.get('pipeline'))
        test_crops = _data_set(as_tested(cfg.train_dataloader.dataset, pipeline))
    names = training.metainfo['keypoint_id2name']
    np.random.seed(0)  # of the augmentation
    chosen = np.random.default_rng(0).permutation(len(training))[:number]
    rows = []
    for index in sorted(chosen.tolist()):
        whole = _draw_whole(training.get_data_info(index), names)
        crops = [_draw_crop(data[index], names) for data in (test_crops, training, training)]
        cells = ''.join(f'<td>{_image(picture)}' for picture in [whole, *crops])
        rows.append(f'<tr>{cells}')
    legend = ''
    if len(names) > NAMED and not all(str(index) in name for index, name in names.items()):
        legend = '. ' + ', '.join(f'{index} {name}' for index, name in sorted(names.items()))
    title = f'Samples of {Path(cfg.filename).name if cfg.filename else "a config"}'
    with whole_file(path) as unfinished:
        page = PAGE.format(
            title=escape(title), rows='\n'.join(rows), height=HEIGHT, legend=escape(legend)
        )
        unfinished.write_text(page, encoding='utf-8')
    return len(rows)


def _data_set(dataset: dict):
    dataset = copy.deepcopy(dataset)
    for pack in dicts_of_type(dataset, 'PackPoseInputs'):
        pack['pack_transformed'] = True
    return DATASETS.build(dataset)


def _colour(name: str):
    name = name.lower()
    return LEFT if 'left' in name else RIGHT if 'right' in name else OTHER


def _draw_points(picture: np.ndarray, points, visible, names) -> np.ndarray:
    """Draw points, with their names on the outer side, on a picture scaled to :data:`HEIGHT`."""
    scale = HEIGHT / picture.shape[0]
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    middle = np.median(np.asarray(points)[np.asarray(visible) > 0, 0]) if np.any(visible) else 0
    font = cv2.FONT_HERSHEY_SIMPLEX
    for index, ((x, y), value) in enumerate(zip(points, visible)):
        if value <= 0:
            continue
        # the centre of pixel i is at i, in the scaled picture at scale (i + 1 / 2) - 1 / 2
        place = tuple(int(round(scale * (c + 0.5) - 0.5)) for c in (x, y))
        cv2.circle(picture, place, 3, _colour(names[index]), -1, cv2.LINE_AA)
        text = names[index] if len(names) <= NAMED else str(index)
        width = cv2.getTextSize(text, font, 0.32, 1)[0][0]
        left = place[0] + 5 if x > middle else place[0] - 5 - width
        where = max(0, min(left, picture.shape[1] - width)), place[1] + 4
        for colour, thickness in (((0, 0, 0), 2), ((255, 255, 255), 1)):
            cv2.putText(picture, text, where, font, 0.32, colour, thickness, cv2.LINE_AA)
    return picture


def _draw_whole(info: dict, names) -> np.ndarray:
    picture = cv2.imread(info['img_path'])
    if picture is None:
        raise ValueError(f'{info["img_path"]} cannot be read')
    x0, y0, x1, y1 = (int(round(value)) for value in np.ravel(info['bbox'])[:4])
    thickness = max(1, round(picture.shape[0] / HEIGHT))
    cv2.rectangle(picture, (x0, y0), (x1, y1), (0, 220, 220), thickness)
    return _draw_points(
        picture, info['keypoints'][0], _labelled(info['keypoints_visible'])[0], names
    )


def _labelled(visible: np.ndarray) -> np.ndarray:
    """Visibility (N, K). ``KeypointConverter`` adds a second channel, the weights of a loss."""
    return visible[..., 0] if visible.ndim == 3 else visible


def _draw_crop(sample: dict, names) -> np.ndarray:
    picture = sample['inputs'].permute(1, 2, 0).numpy()
    picture = np.ascontiguousarray(picture if picture.shape[-1] == 3 else picture.repeat(3, -1))
    instances = sample['data_samples'].gt_instances
    points = np.asarray(instances.transformed_keypoints)[0]
    height, width = picture.shape[:2]
    visible = _labelled(np.asarray(instances.keypoints_visible))[0]
    inside = ((points > -0.5) & (points < (width - 0.5, height - 0.5))).all(-1)
    return _draw_points(picture, points, visible * inside, names)


def _image(picture: np.ndarray) -> str:
    _, data = cv2.imencode('.jpg', picture, (cv2.IMWRITE_JPEG_QUALITY, 85))
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
