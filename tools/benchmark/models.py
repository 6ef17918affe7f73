# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the codecs mean to whole models: test loop and forward pass."""

import tempfile
from typing import Any, Callable, List, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.runner import Runner
from mmpose.registry import KEYPOINT_CODECS, TRANSFORMS
from torch.utils.data import DataLoader, Dataset

from mmpose_simcc.config import set_representation
from mmpose_simcc.utils.inference import build_model, load_config

from .codecs import KEYPOINTS, SETTINGS, STOCK
from .timing import OURS, Comparison

STOCK_CONFIGS = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/'
RES50 = STOCK_CONFIGS + 'td-hm_res50_8xb64-210e_coco-256x192.py'
HRNET_W32 = STOCK_CONFIGS + 'td-hm_hrnet-w32_8xb64-210e_coco-256x192.py'

# decoders of the same heatmaps
DECODERS = {
    'quarter': ('HeatmapCodec', dict(type='MSRAHeatmap')),
    'DARK': ('DARKCodec', dict(type='MSRAHeatmap', unbiased=True)),
}
FLIP = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # COCO's


class RandomPeople(Dataset):
    """Images of noise with random keypoints, in the shape of a pipeline's
    output in a test.

    Args:
        input_size (tuple): Input size (w, h) in pixels.
        length (int): Number of samples.
    """

    def __init__(self, input_size: Tuple[int, int], length: int) -> None:
        self.size = np.array(input_size)
        self.length = length
        self.image = np.random.default_rng(0).integers(
            0, 255, (*input_size[::-1], 3), dtype=np.uint8
        )
        self.pack = TRANSFORMS.build(dict(type='PackPoseInputs'))

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng(index)
        keypoints = rng.uniform(0, self.size - 1, (1, KEYPOINTS, 2))
        keypoints = keypoints.astype(np.float32)
        results = dict(
            img=self.image,
            img_shape=self.image.shape[:2],
            keypoints=keypoints,
            transformed_keypoints=keypoints,
            keypoints_visible=np.ones((1, KEYPOINTS), dtype=np.float32),
            bbox=np.array([[0, 0, *self.size]], dtype=np.float32),
            bbox_score=np.ones(1, dtype=np.float32),
            input_size=tuple(self.size),
            input_center=self.size / 2,
            input_scale=self.size.astype(np.float32),
            flip_indices=FLIP,
        )
        return self.pack(results)


# images of the test loop and of its batches
IMAGES = dict(cpu=(8, 8), cuda=(256, 64))


def end_to_end(device: str = 'cpu') -> List[Comparison]:
    """The test loop of MMEngine's Runner (load, normalise, forward, flip test,
    decode, map back to the image) of one network with stock's decoder and with
    ours, at 256x192, without a metric."""
    setting = SETTINGS[0]
    images, batch = IMAGES[device]
    comparisons = []
    for name, path in (('SimBa-R50', RES50), ('HRNet-W32', HRNET_W32)):
        runner = _runner(path, setting.input_size, images, batch)
        for method, (ours, stock) in DECODERS.items():
            decoders = {
                OURS: dict(type=ours, **setting.heatmap),
                STOCK: dict(**stock, **setting.heatmap),
            }
            for flip in (True, False):
                functions = {
                    key: _test(runner, KEYPOINT_CODECS.build(decoder), flip)
                    for key, decoder in decoders.items()
                }
                comparisons.append(
                    Comparison(
                        f'test loop, {name}',
                        f'{method}, flip test' if flip else method,
                        str(setting),
                        functions,
                        dict.fromkeys(functions, images),
                    )
                )
    return comparisons


class NoMetric(BaseMetric):
    """Takes what a test loop predicts."""

    default_prefix = 'none'

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results: list) -> dict:
        return {}


def _runner(path: str, input_size: Tuple[int, int], images: int, batch: int) -> Runner:
    """A Runner for the test of a config's model."""
    model = build_model(load_config(path))
    dataset = RandomPeople(input_size, images)
    loader = DataLoader(
        dataset, batch, collate_fn=pseudo_collate, num_workers=2, persistent_workers=True
    )
    return Runner(
        model,
        work_dir=tempfile.mkdtemp(),
        test_dataloader=loader,
        test_cfg=dict(),
        test_evaluator=NoMetric(),
        log_level='ERROR',
        default_hooks=dict(logger=None),
        default_scope='mmpose',
        experiment_name=path.rsplit('/', 1)[-1],
    )


def _test(runner: Runner, decoder, flip: bool) -> Callable[[], Any]:

    def run():
        runner.model.head.decoder = decoder
        runner.model.test_cfg['flip_test'] = flip
        return runner.test()

    return run


def forward_times(device: str = 'cpu') -> List[Comparison]:
    """The forward pass of SimpleBaseline-R50 with SimCC and no deconvolution
    against its heatmap, one image at 256x192. The paper's frames a second
    are 21 against 17."""
    setting = SETTINGS[0]
    simcc = load_config(RES50)
    set_representation(
        simcc,
        dict(type='SimCCCodec', **setting.simcc),
        dict(type='SimCCClassifierHead', channels_per_keypoint=28),
    )
    width, height = setting.input_size
    image = torch.zeros(1, 3, height, width, device=device)

    def forward(cfg: Config) -> Callable[[], Any]:
        model = build_model(cfg).to(device)

        @torch.inference_mode()
        def run():
            return model(image, None)

        return run

    functions = {OURS: forward(simcc), 'heatmap': forward(load_config(RES50))}
    return [
        Comparison(
            'forward, SimBa-R50',
            'SimCC, no deconvolution',
            str(setting),
            functions,
            dict.fromkeys(functions, 1),
            aim=1.235,
            peer='heatmap',
        )
    ]
