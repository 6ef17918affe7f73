# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The forward pass of a calibration: a model's outputs under each flip test."""

from typing import Dict, Optional, Tuple

import numpy as np
import torch
from mmengine.runner import Runner
from mmpose.models import TopdownPoseEstimator
from torch import Tensor

from ...functional import mirror_images
from ...models import ExactFlipPoseEstimator
from ...models.pose_estimators.exact_flip import averaged_with_mirrored, reads_udp_crops
from ...utils.console import silenced, track
from ...utils.inference import pose_head, recorded_outputs
from ..compare.errors import CompareError
from ..compare.evaluation import load_model
from ..compare.runs import Run
from ..scoring import People
from .outputs import Outputs, keep_outputs
from .people import choose_images

BATCH = 8  # people; three flip tests and twenty decoders at once take memory


def flip_tests(model: TopdownPoseEstimator) -> Dict[str, dict]:
    """The flip tests to compare, each with its ``test_cfg``. The model's own is the first, and the
    only one if it makes none."""
    test_cfg = dict(model.test_cfg or {})
    none = dict(test_cfg, flip_test=False)
    if not test_cfg.get('flip_test'):
        return dict(none=none)
    if not isinstance(model, ExactFlipPoseEstimator):
        return dict(stock=test_cfg, exact=none, none=none)
    stock = dict(test_cfg)
    if hasattr(pose_head(model).decoder, 'heatmap_size'):
        stock.setdefault('shift_heatmap', not reads_udp_crops(model))
    return dict(exact=none, stock=stock, none=none)


def _outputs_by_flip(
    model: TopdownPoseEstimator, batch: dict, flips: Dict[str, dict]
) -> Tuple[Dict[str, Tuple[Tensor, ...]], list]:
    """Network outputs of a batch by flip test, and its samples. The backbone sees the pictures, and
    each of their mirror images, once."""
    data = model.data_preprocessor(batch, False)
    inputs, samples = data['inputs'], data['data_samples']
    feats = model.extract_feat(inputs)

    def outputs_of(feats, test_cfg: dict) -> Tuple[Tensor, ...]:
        with recorded_outputs(pose_head(model)) as found:
            model.head.predict(feats, samples, test_cfg=test_cfg)
        return found[0]

    found = {}
    if 'stock' in flips:
        reversed_feats = model.extract_feat(inputs.flip(-1))
    for flip, test_cfg in flips.items():
        if flip == 'none':
            found[flip] = outputs_of(feats, test_cfg)
        elif flip == 'stock':
            found[flip] = outputs_of([feats, reversed_feats], test_cfg)
        else:
            mirrored_feats = reversed_feats
            if not reads_udp_crops(model):
                mirrored_feats = model.extract_feat(mirror_images(inputs, 'exact'))
            flip_indices = samples[0].metainfo['flip_indices']
            with averaged_with_mirrored(model, mirrored_feats, flip_indices):
                found[flip] = outputs_of(feats, test_cfg)
    return found, samples


@torch.no_grad()
def capture(
    run: Run, checkpoint: str, number: Optional[int] = None
) -> Tuple[TopdownPoseEstimator, Dict[str, Outputs], People]:
    """Run a model over its config's test data.

    Args:
        run (Run): The config.
        checkpoint (str): The weights.
        number (int, optional): About how many people, of whole pictures drawn at random. All by
            default.

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
