# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the codecs mean to whole models: test loop and forward pass."""

import tempfile
from typing import Any, Callable, List

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.runner import Runner
from mmpose.registry import KEYPOINT_CODECS, TRANSFORMS
from torch.utils.data import DataLoader

from mmpose_simcc.config import set_representation
from mmpose_simcc.utils.inference import build_model, load_config

from .codecs import KEYPOINTS, SETTINGS, STOCK
from .comparison import OURS, Aim, Comparison

STOCK_CONFIGS = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
RES50 = STOCK_CONFIGS + 'td-hm_res50_8xb64-210e_coco-256x192.py'
HRNET_W32 = STOCK_CONFIGS + 'td-hm_hrnet-w32_8xb64-210e_coco-256x192.py'
SETTING = SETTINGS[0]

# decoders of the same heatmaps
DECODERS = {
    'quarter': (dict(type='HeatmapCodec'), dict(type='MSRAHeatmap')),
    'DARK': (dict(type='DARKCodec'), dict(type='MSRAHeatmap', unbiased=True)),
}
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # COCO's
# images of the test loop and of its batches
IMAGES = dict(cpu=(8, 8), cuda=(256, 64))


def _people(number: int) -> List[dict]:
    """Images of noise with random keypoints, in the shape of a pipeline's output in a test."""
    size = np.array(SETTING.input_size)
    rng = np.random.default_rng(0)
    pack = TRANSFORMS.build(dict(type='PackPoseInputs'))
    people = []
    for _ in range(number):
        keypoints = rng.uniform(0, size - 1, (1, KEYPOINTS, 2)).astype(np.float32)
        results = dict(
            img=rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8),
            img_shape=tuple(size[::-1]),
            keypoints=keypoints,
            transformed_keypoints=keypoints,
            keypoints_visible=np.ones((1, KEYPOINTS), dtype=np.float32),
            bbox=np.array([[0, 0, *size]], dtype=np.float32),
            bbox_score=np.ones(1, dtype=np.float32),
            input_size=tuple(size),
            input_center=size / 2,
            input_scale=size.astype(np.float32),
            flip_indices=FLIP,
        )
        people.append(pack(results))
    return people


def test_loop_comparisons(device: str = 'cpu') -> List[Comparison]:
    """The test loop of MMEngine's Runner (normalise, forward, flip test, decode, map back to the
    image) of one network with stock's decoder and with ours, at 256x192, without a metric."""
    images, batch = IMAGES[device]
    people = _people(images)
    comparisons = []
    for name, path in (('SimBa-R50', RES50), ('HRNet-W32', HRNET_W32)):
        runner = _runner(path, people, batch)
        for method, decoders in DECODERS.items():
            for flip in (True, False):
                functions = {
                    key: _test(runner, dict(**decoder, **SETTING.heatmap), flip)
                    for key, decoder in zip((OURS, STOCK), decoders)
                }
                comparisons.append(
                    Comparison(
                        f'test loop, {name}',
                        f'{method}, flip test' if flip else method,
                        str(SETTING),
                        functions,
                        images,
                    )
                )
    return comparisons


def _runner(path: str, people: List[dict], batch: int) -> Runner:
    """A Runner for the test of a config's model."""
    loader = DataLoader(
        people, batch, collate_fn=pseudo_collate, num_workers=2, persistent_workers=True
    )
    return Runner(
        build_model(load_config(path)),
        work_dir=tempfile.mkdtemp(),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=[],
        log_level='ERROR',
        default_hooks=dict(logger=None),
        default_scope='mmpose',
        experiment_name=path.rsplit('/', 1)[-1],
    )


def _test(runner: Runner, decoder: dict, flip: bool) -> Callable[[], Any]:
    codec = KEYPOINT_CODECS.build(decoder)

    def run():
        runner.model.head.decoder = codec
        runner.model.test_cfg['flip_test'] = flip
        return runner.test()

    return run


def forward_comparison(device: str = 'cpu') -> Comparison:
    """The forward pass of SimpleBaseline-R50 with SimCC and no deconvolution
    against its heatmap, one image at 256x192. The paper's frames a second
    are 21 against 17."""
    simcc = load_config(RES50)
    set_representation(
        simcc,
        dict(type='SimCCCodec', **SETTING.simcc),
        dict(type='SimCCClassifierHead', channels_per_keypoint=28),
    )
    width, height = SETTING.input_size
    image = torch.zeros(1, 3, height, width, device=device)

    def forward(cfg: Config) -> Callable[[], Any]:
        model = build_model(cfg).to(device)

        @torch.inference_mode()
        def run():
            return model(image, None)

        return run

    functions = {OURS: forward(simcc), 'heatmap': forward(load_config(RES50))}
    return Comparison(
        'forward, SimBa-R50',
        'SimCC, no deconvolution',
        str(SETTING),
        functions,
        aim=Aim('heatmap', 1.235),
    )
