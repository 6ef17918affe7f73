# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""By which score are people ranked best? AP of several, with boxes as a detector gives them."""

import json
from pathlib import Path
from typing import List

import numpy as np
from command_line import CommandLine, errors_in_a_line

from mmpose_simcc.codecs.calibration import INSTANCE_SCORES, Calibration, read_calibration
from mmpose_simcc.deploy.client.smooth import box_overlaps
from mmpose_simcc.utils.console import silenced
from mmpose_simcc.utils.inference import pose_head
from mmpose_simcc.workbench.calibration.capture import capture
from mmpose_simcc.workbench.compare.bootstrap import match_predictions
from mmpose_simcc.workbench.compare.rows import Training
from mmpose_simcc.workbench.compare.runs import Run, read_config
from mmpose_simcc.workbench.data.coco import annotations_of, datasets_of, read_annotations
from mmpose_simcc.workbench.scoring import Scorer
from mmpose_simcc.workbench.statistics import (
    Measured,
    average_precision,
    noise_of_difference,
    resample,
)
from mmpose_simcc.workbench.tables import markdown_table

STOCK = "MMPose's, scores as they are"
FOUND = 0.95  # of the people
TWICE = 0.2  # of these, with a worse second box
WRONG = 1.0  # boxes where nobody is, a picture
MOVED, RESIZED = 0.05, 0.1  # standard deviations, of the box's size and of its logarithm


def draw_detections(content: dict, unsure: float, seed: int = 0) -> List[dict]:
    """Boxes as a detector gives them, of annotations in COCO's format: most people found, some
    twice, all boxes off, scores that follow the overlap with the truth, and boxes where nobody
    is, with low scores.

    Returns:
        list[dict]: In COCO's format for results.
    """
    rng = np.random.default_rng(seed)
    found = []

    def add(image_id: int, box: np.ndarray, score: float) -> None:
        score = float(np.clip(score, 0.05, 1))
        found.append(dict(image_id=image_id, category_id=1, bbox=box.tolist(), score=score))

    def moved(box: np.ndarray, by: float) -> np.ndarray:
        size = box[2:] * np.exp(by * RESIZED * rng.standard_normal(2))
        center = box[:2] + box[2:] / 2 + by * MOVED * box[2:] * rng.standard_normal(2)
        return np.concatenate([center - size / 2, size])

    people = [(a['image_id'], np.array(a['bbox'], float)) for a in content['annotations']]
    for image_id, box in people:
        for share, by in ((FOUND, 1), (FOUND * TWICE, 3)):
            if rng.random() < share:
                drawn = moved(box, by)
                overlap = box_overlaps(box[None], drawn[None]).item()
                add(image_id, drawn, overlap + unsure * rng.standard_normal())
    for image in content['images']:
        for _ in range(rng.poisson(WRONG)):
            size = people[rng.integers(len(people))][1][2:]
            corner = rng.random(2) * np.maximum([image['width'], image['height']] - size, 0)
            add(image['id'], np.concatenate([corner, size]), rng.beta(2, 4))
    return found


def compare_scores(run: Run, checkpoint: str, content: dict, folder: Path) -> str:
    """AP with every score of a person, and what that gains over MMPose's rule with scores as they
    are, the box's times the mean of keypoint scores above 0.2.

    Args:
        run (Run): Tested on detected boxes.
        checkpoint (str): Its weights.
        content (dict): A calibration's.
        folder (Path): For results.

    Returns:
        str: A Markdown table.
    """
    model, outputs, people = capture(run, checkpoint)
    calibration = Calibration(pose_head(model).decoder, content)
    found = outputs[calibration.flip_test]
    keypoints = found.predict(content['decoder'])
    if calibration.offset is not None:
        keypoints = keypoints - calibration.offset
    keypoints, raw = people.to_image(keypoints), found.scores
    scores = raw if calibration.score_maps is None else calibration.score_maps(raw)
    boxes = people.arrays['gt_bbox_scores']
    rules = {'box alone': boxes}
    for name, of_keypoints in (('as they are', raw), ('calibrated', scores)):
        for rule in INSTANCE_SCORES:
            calibration.instance_score = rule
            rules[f'{rule}, scores {name}'] = calibration.score_instance(of_keypoints, boxes)
    by_rule = Scorer(dict(run.cfg.test_evaluator, score_mode='keypoint'), people)  # their mean
    measured = {
        STOCK: _measure(Scorer(run.cfg.test_evaluator, people), keypoints, raw, folder / 'stock')
    }
    for number, (name, of_people) in enumerate(rules.items()):
        alike = np.repeat(of_people[:, None], keypoints.shape[1], 1)
        measured[name] = _measure(by_rule, keypoints, alike, folder / str(number))
    rows = []
    for name, row in measured.items():
        gain = 100 * float(row.values[0] - measured[STOCK].values[0])
        half = 100 * float(noise_of_difference(row, measured[STOCK]).half_width())
        interval = '' if name == STOCK else f'{gain:+.2f} [{gain - half:+.2f}, {gain + half:+.2f}]'
        rows.append([name, f'{100 * row.values[0]:.2f}', interval])
    header = ['score of a person', 'AP', 'gain [95%]']
    return markdown_table(rows, header)


def _measure(scorer: Scorer, keypoints: np.ndarray, scores: np.ndarray, prefix: Path) -> Measured:
    """AP, and on resampled pictures."""
    value = scorer(keypoints, scores, prefix).metrics['coco/AP']
    with silenced():
        categories = match_predictions(Training('', str(prefix), {}), scorer.metrics[0])
    images = len(categories[0].annotated)
    samples = average_precision(categories, resample(images))
    return Measured(np.array([value]), samples[None], ('one',), images)


def parse_args():
    parser = CommandLine(
        'AP of people ranked by several scores, with boxes drawn as a detector gives them around '
        "the test data's annotations: most people found, some twice, all boxes off, scores that "
        'follow the overlap with the truth, and boxes where nobody is.',
        'benchmark_instance_scores.py CONFIG CHECKPOINT decoder.json',
    )
    parser.add_config()
    parser.add_checkpoint()
    parser.add_argument('calibration', metavar='FILE.json', help='by tools/calibrate.py')
    parser.add_argument(
        '--unsure',
        type=float,
        default=0.15,
        help="standard deviation of a box's score around its overlap (default: %(default)s)",
    )
    parser.add_argument('--seed', type=int, default=0, help='of the boxes (default: %(default)s)')
    parser.add_data()
    parser.add_cfg_options()
    parser.add_work_dir('instance_scores', 'boxes and results')
    return parser.parse_args()


def main():
    args = parse_args()
    with errors_in_a_line():
        cfg = read_config(args.config, args.cfg_options, args.data)
        (dataset,) = datasets_of(cfg, 'test')
        args.work_dir.mkdir(parents=True, exist_ok=True)
        detections = args.work_dir / 'detections.json'
        drawn = draw_detections(read_annotations(annotations_of(dataset)), args.unsure, args.seed)
        detections.write_text(json.dumps(drawn), encoding='utf-8')
        dataset['bbox_file'] = str(detections.resolve())
        run = Run(Path(args.config).stem, cfg, args.checkpoint)
        content = read_calibration(args.calibration)
        print(compare_scores(run, args.checkpoint, content, args.work_dir))


if __name__ == '__main__':
    main()
