# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tools rehearsed at COCO's size, with a network of one layer."""

import multiprocessing
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, Dict, NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.runner import Runner
from mmpose.registry import KEYPOINT_CODECS, MODELS
from torch import Tensor, nn

from mmpose_simcc.functional import gaussian_heatmaps
from mmpose_simcc.utils.console import silenced
from mmpose_simcc.utils.inference import build_model, network_outputs
from mmpose_simcc.workbench.calibration import calibrate
from mmpose_simcc.workbench.calibration.outputs import keep_outputs
from mmpose_simcc.workbench.compare.bootstrap import resampled
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.evaluation import evaluate
from mmpose_simcc.workbench.compare.rows import Training
from mmpose_simcc.workbench.compare.runs import Run, read_config
from mmpose_simcc.workbench.scoring import People, Predictions, Scorer
from mmpose_simcc.workbench.tables import markdown_table
from mmpose_simcc.workbench.timing import time_in_turns

from .coco_size import (
    KEYPOINTS,
    write_annotations,
    write_detections,
    write_picture,
    write_predictions,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/body_2d_keypoint/topdown_heatmap/coco'
TRAIN, TEST = (64_115, 149_813), (5_000, 11_004)  # pictures and people
DETECTIONS = 104_125
BATCH = 64
DECODERS = ('argmax', 'quarter', 'second_max', 'dark', 'daec')


@MODELS.register_module()
class OneLayer(BaseModule):
    """The least that gives feature maps a quarter of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x: Tensor) -> tuple:
        return (self.conv(x),)


def config(size: str, root: Path) -> Config:
    """A config of COCO's people with the least network, on drawn data."""
    cfg = read_config(str(CONFIGS / f'td-hm_hrnet-w32_quarter-8xb64-210e_coco-{size}.py'))
    cfg.model.backbone = dict(type='OneLayer')
    cfg.model.head.in_channels = 8
    for split in ('train', 'test'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{root}/'
    cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.test_dataloader.dataset.bbox_file = str(root / 'detections.json')
    cfg.test_evaluator.ann_file = str(root / 'annotations/person_keypoints_val2017.json')
    return cfg


def _checkpoint(cfg: Config, root: Path) -> str:
    path = root / 'one_layer.pth'
    torch.manual_seed(0)
    torch.save(build_model(cfg).state_dict(), path)
    return str(path)


def draw_annotations(root: Path, part: float) -> str:
    """COCO's two files of annotations, detections and pictures."""
    for split, (pictures, people) in (('train2017', TRAIN), ('val2017', TEST)):
        path = root / f'annotations/person_keypoints_{split}.json'
        write_annotations(path, round(part * pictures), round(part * people))
        write_picture(root / split)
    write_detections(path, root / 'detections.json', round(part * DETECTIONS))
    return f'{round(part * TRAIN[1])} and {round(part * TEST[1])} people'


def compare_decoders(root: Path, part: float) -> str:
    """The evaluation of a comparison: five decoders on one forward pass."""
    cfg = config('64x64', root)
    run = Run('one layer', cfg)
    decoders = decoders_of(run, DECODERS)
    prefixes = {name: root / f'row-{name}' for name in decoders}
    evaluate(run, _checkpoint(cfg, root), decoders, prefixes)
    return f'{round(part * DETECTIONS)} detections, {len(decoders)} decoders'


def resample_rows(root: Path, part: float) -> str:
    """The intervals of a comparison: AP of five rows on 1,000 resamples."""
    run = Run('one layer', config('64x64', root))
    annotations = root / 'annotations/person_keypoints_val2017.json'
    for seed, name in enumerate(DECODERS):
        prefix = root / f'resampled-{name}'
        predictions = Path(f'{prefix}.keypoints.json')
        write_predictions(annotations, predictions, round(part * DETECTIONS), seed)
        Path(f'{prefix}.coco-AP.npy').unlink(missing_ok=True)
    start = time.process_time()
    for name in DECODERS:
        training = Training('', str(root / f'resampled-{name}'), {})
        samples = resampled(training, run, 'coco/AP')
    rows = f'{len(DECODERS)} rows, {len(samples)} resamples'
    return f'{rows}, {time.process_time() - start:.0f} CPU seconds without drawing predictions'


def calibrate_model(root: Path, part: float) -> str:
    """A calibration at 96x72 maps: people of the training set, all of whose annotations are
    read, through the network and up the ladder."""
    cfg = config('384x288', root)
    found = calibrate(cfg, _checkpoint(cfg, root), root / 'calibration', split='train')
    return f'{round(part * TRAIN[1])} people to draw from, {found.calibrated_on}'


def time_steps(root: Path, part: float) -> str:
    """CPU milliseconds an image of what is done after a forward pass, in batches of 64."""
    steps = {}
    for size in ('256x192', '384x288'):
        cfg = config(size, root)
        codec = KEYPOINT_CODECS.build(cfg.model.head.decoder)
        W, H = codec.heatmap_size
        inside = torch.rand(BATCH, KEYPOINTS, 2) * torch.tensor([W - 1, H - 1])
        maps, _ = gaussian_heatmaps(inside, (W, H), codec.sigma)
        maps = 0.8 * maps + 0.02 * torch.rand(maps.shape)
        for name, decoder in decoders_of(Run('one layer', cfg), DECODERS).items():
            decode = KEYPOINT_CODECS.build(decoder).batch_decode
            steps[f'{name} {size}'] = partial(decode, maps)
        steps[f'calibration {size}'] = partial(keep_outputs(codec).append, maps)
    times = time_in_turns(steps, rounds=5, clock=time.process_time)
    seconds = {name: np.median(of_step) / BATCH for name, of_step in times.items()}
    seconds.update(_time_metrics(root))
    return '; '.join(f'{name} {1000 * second:.3f}' for name, second in seconds.items())


def _time_metrics(root: Path) -> Dict[str, float]:
    """Seconds a detection of what a comparison does for each decoder after it has decoded."""
    run = Run('one layer', config('64x64', root))
    model = build_model(run.cfg)
    with silenced():
        loader = Runner.build_dataloader(run.cfg.test_dataloader, seed=0)
    people, predictions = People(loader.dataset.metainfo), Predictions()
    size, truth, keeping = len(loader.dataset), 0.0, 0.0
    for outputs, samples in network_outputs(model, loader):
        decoded = model.head.decode(outputs[0])
        start = time.process_time()
        model.add_pred_to_datasample(decoded, None, samples)
        predictions.append(samples)
        kept = time.process_time()
        people.append(samples)
        keeping += kept - start
        truth += time.process_time() - kept
    scorer = Scorer(run.cfg.test_evaluator, people)
    start = time.process_time()
    scorer(*predictions.load())
    evaluating = time.process_time() - start
    return {
        'keeping the truth, once': truth / size,
        'keeping predictions': keeping / size,
        'metrics': evaluating / size,
    }


PARTS: Dict[str, Callable[[Path, float], str]] = dict(
    annotations=draw_annotations,
    evaluation=compare_decoders,
    intervals=resample_rows,
    calibration=calibrate_model,
    steps=time_steps,
)


class Rehearsal(NamedTuple):
    """What one part took.

    Attributes:
        part (str): Its name.
        size (str): What was done.
        seconds (float): Wall time.
        cpu (float): Seconds of its CPU time.
        imported (float): Resident MiB after the imports.
        peak (float): Resident MiB at most.
    """

    part: str
    size: str
    seconds: float
    cpu: float
    imported: float
    peak: float


def _resident() -> float:
    """The most that this process had in memory until now, in MiB; nan on Windows."""
    if os.name == 'nt':
        return float('nan')
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == 'darwin' else 2**10)


def _rehearse(name: str, root: Path, part: float) -> Rehearsal:
    imported = _resident()
    start, cpu = time.perf_counter(), time.process_time()
    size = PARTS[name](root, part)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return Rehearsal(name, size, seconds, cpu, imported, _resident())


def rehearse(name: str, root: Path, part: float) -> Rehearsal:
    """Rehearse a part in a process of its own.

    Args:
        name (str): One of PARTS; the first makes what the others need.
        root (Path): The folder for it all.
        part (float): Of COCO's size, in (0, 1].
    """
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_rehearse, (name, root, part))


def scale_table(rehearsals) -> str:
    """Peak memory and time of each part, in Markdown."""
    rows = [
        (
            r.part,
            r.size,
            f'{r.peak:.0f}',
            f'{r.peak - r.imported:.0f}',
            f'{r.seconds:.0f}',
            f'{r.cpu:.0f}',
        )
        for r in rehearsals
    ]
    headers = (
        'part',
        'size',
        'peak resident MiB',
        'of it after the imports',
        'seconds',
        'CPU seconds',
    )
    return markdown_table(rows, headers)
