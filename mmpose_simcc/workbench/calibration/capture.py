# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The forward pass: what is kept of a model's outputs, by flip test."""

from typing import Dict, Optional, Tuple

import numpy as np
import torch
from mmengine.runner import Runner
from mmpose.models import TopdownPoseEstimator
from torch import Tensor

from ...functional import average_flip, mirror_images
from ...models import ExactFlipPoseEstimator
from ...utils.console import silenced, track
from ...utils.inference import pose_head, recorded_outputs
from ..compare.errors import CompareError
from ..compare.evaluation import load_model
from ..compare.runs import Run
from ..scoring import People
from .outputs import Outputs, keep_outputs
from .people import choose_images

BATCH = 8  # people; three flip tests and twenty decoders at once take memory


def _outputs_by_flip(
    model: TopdownPoseEstimator, batch: dict, flips: Dict[str, dict]
) -> Tuple[Dict[str, Tuple[Tensor, ...]], list]:
    """Network outputs of a batch by flip test, and its samples. The picture and each of its mirror
    images pass through the backbone once."""
    head, codec = pose_head(model), pose_head(model).decoder
    data = model.data_preprocessor(batch, False)
    inputs, samples = data['inputs'], data['data_samples']
    use_udp = getattr(codec, 'use_udp', False)

    def decoded(feats, test_cfg: dict) -> Tuple[Tensor, ...]:
        with recorded_outputs(head) as found:
            model.head.predict(feats, samples, test_cfg=test_cfg)
        return found[0]

    found = {}
    without_flip = {**model.test_cfg, 'flip_test': False}
    feats = model.extract_feat(inputs)
    reversed_feats = model.extract_feat(inputs.flip(-1)) if len(flips) > 1 else None
    for flip, test_cfg in flips.items():
        if flip == 'none':
            found[flip] = decoded(feats, without_flip)
        elif flip == 'stock':
            found[flip] = decoded([feats, reversed_feats], test_cfg)
        else:
            images = mirror_images(inputs, 'exact', use_udp)
            mirrored = decoded(
                reversed_feats if use_udp else model.extract_feat(images), without_flip
            )
            both = [decoded(feats, without_flip), mirrored]
            both = [item if len(item) > 1 else item[0] for item in both]
            averaged = average_flip(
                *both,
                samples[0].metainfo['flip_indices'],
                'exact',
                use_udp,
                getattr(codec, 'simcc_split_ratio', None),
            )
            found[flip] = averaged if isinstance(averaged, tuple) else (averaged,)
    return found, samples


def flip_tests(model: TopdownPoseEstimator) -> Dict[str, dict]:
    """The flip tests to compare, the model's own first, each with its ``test_cfg``. Of a model
    without a flip test none is tried."""
    test_cfg, codec = dict(model.test_cfg or {}), pose_head(model).decoder
    if not test_cfg.get('flip_test'):
        return dict(none=test_cfg)
    if not isinstance(model, ExactFlipPoseEstimator):
        return dict(stock=test_cfg, exact=test_cfg, none=test_cfg)
    stock = dict(test_cfg)
    if hasattr(codec, 'heatmap_size'):
        stock.setdefault('shift_heatmap', not codec.use_udp)
    return dict(exact=test_cfg, stock=stock, none=test_cfg)


@torch.no_grad()
def capture(
    run: Run, checkpoint: str, number: Optional[int] = None
) -> Tuple[TopdownPoseEstimator, Dict[str, Outputs], People]:
    """The forward pass over a config's test data.

    Args:
        run (Run): The config.
        checkpoint (str): Weights.
        number (int, optional): About how many people, of whole pictures drawn at random.

    Returns:
        tuple: The model, what is kept of its outputs by flip test, and the people.

    Raises:
        CompareError: The checkpoint does not fit, or the data show nobody.
    """
    model = load_model(run, checkpoint)
    codec = run.equivalent_codec()
    cfg = run.cfg.test_dataloader
    cfg = dict(cfg, batch_size=min(cfg.get('batch_size', BATCH), BATCH))
    with silenced():
        loader = Runner.build_dataloader(cfg, seed=0)
    dataset = loader.dataset
    if len(dataset) == 0:
        raise CompareError(f'{run.name}: there is nobody in {run.annotation_files[0]}')
    if number is not None and number < len(dataset):
        img_ids = np.array([dataset.get_data_info(i)['img_id'] for i in range(len(dataset))])
        rows = np.flatnonzero(np.isin(img_ids, choose_images(img_ids, number)))
        dataset.get_subset_(rows.tolist())
        loader = Runner.build_dataloader(dict(cfg, dataset=dataset), seed=0)
    flips = flip_tests(model)
    outputs = {flip: keep_outputs(codec) for flip in flips}
    people = People(dataset.metainfo)
    for batch in track(loader, 'forward pass'):
        found, samples = _outputs_by_flip(model, batch, flips)
        for flip, tensors in found.items():
            outputs[flip].append(*tensors)
        people.append(samples)
    return model, outputs, people
