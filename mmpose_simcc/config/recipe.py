# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""How the models of the papers' tables were trained.

Figures are those of SimCC's published experiments (github.com/leeyegy/SimCC, folder
``experiments``), which train SimpleBaseline and HRNet by the same recipes for heatmaps, and of
TokenPose's. MMPose's own schedule, which the ready configs have, differs.
"""

from typing import NamedTuple, Optional, Tuple

from mmengine.config import Config

from ..utils.checks import invalid
from ..utils.configs import is_simcc_codec, label_codecs, pose_head_cfg, type_name
from .sizes import num_deconvs

LEARNING_RATE = 1e-3  # of Adam, without weight decay
BATCHES = dict(CocoDataset=(32, 4), MpiiDataset=(32, 4))  # pictures on a GPU, and GPUs
BATCHES['CrowdPoseDataset'] = (64, 1)  # SimCC, Section 4.3


class Recipe(NamedTuple):
    """Schedule and augmentation of a model."""

    epochs: int
    milestones: Tuple[int, int]  # epochs after which the learning rate is divided by 10
    rotation: float  # standard deviation in degrees, at most twice as much
    scale: float  # of the box, at most so much larger or smaller
    half_body: float  # probability


RESNET = Recipe(140, (90, 120), rotation=40, scale=0.3, half_body=0)
HRNET = Recipe(210, (170, 200), rotation=45, scale=0.35, half_body=0.3)
# the experiments' files; SimCC's text (Section 4.4) has COCO's augmentation for MPII
HRNET_MPII = Recipe(210, (170, 200), rotation=30, scale=0.25, half_body=0)
TOKENPOSE = HRNET._replace(epochs=300, milestones=(200, 260))

# Equal label smoothing where it is not 0.1, by backbone, input size (w, h) and data set
SMOOTHING = {
    ('HRNet-W32', (128, 128), 'CocoDataset'): 0.2,
    ('ResNet-101', (128, 128), 'CocoDataset'): 0.2,
    ('ResNet-101', (192, 256), 'CocoDataset'): 0.4,
    ('HRNet-W32', (64, 64), 'MpiiDataset'): 0.2,
    ('HRNet-W32', (256, 256), 'MpiiDataset'): 0.2,
}
# Equal smoothing with a loss that is averaged over the bins ("NORM"), not summed
AVERAGED_OVER_BINS = {
    ('ResNet-101', (288, 384), 'CocoDataset'),
    ('ResNet-152', (288, 384), 'CocoDataset'),
    ('HRNet-W32', (64, 64), 'MpiiDataset'),
    ('HRNet-W32', (256, 256), 'MpiiDataset'),
}


def use_published_recipe(cfg: dict) -> None:
    """Train a model as its publication did, in place: schedule, optimizer, batch, augmentation
    and, for SimCC, label smoothing and the reduction of the loss.

    Training takes 32 pictures on each of 4 GPUs (CrowdPose: 64 in all); with others, MMPose's
    ``--auto-scale-lr`` adapts the learning rate. Rotation and scale are normal as published; what
    lies beyond the bounds is drawn again, where the published code puts it on them.

    Args:
        cfg (Config | dict): The config of a model on ResNet, HRNet or TokenPose for COCO,
            CrowdPose or MPII, or ``_base_`` in a config file.

    Raises:
        ValueError: It is that of another model or data set.

    Example:
        A config file that trains SimCC's Table 1 as published::

            _base_ = ['simcc_hrnet-w48_8xb32-210e_coco-256x192.py']

            from mmpose_simcc.config import use_published_recipe

            use_published_recipe(_base_)
    """
    if isinstance(cfg, Config):
        cfg = cfg._cfg_dict
    head = pose_head_cfg(cfg)
    codec = head.get('decoder')
    if not isinstance(codec, dict) or 'input_size' not in codec:
        raise invalid('cfg', type_name(head), 'a top-down config whose head has a `decoder`')
    data_set = type_name(cfg['train_dataloader']['dataset'])
    recipe = _recipe(cfg['model']['backbone'], data_set, is_simcc_codec(codec))

    cfg['train_cfg']['max_epochs'] = recipe.epochs
    cfg['optim_wrapper'] = dict(optimizer=dict(type='Adam', lr=LEARNING_RATE))
    cfg['param_scheduler'] = [
        dict(
            type='MultiStepLR',
            milestones=list(recipe.milestones),
            gamma=0.1,
            end=recipe.epochs,
            by_epoch=True,
        )
    ]
    batch, gpus = BATCHES[data_set]
    cfg['train_dataloader']['batch_size'] = batch
    cfg['auto_scale_lr'] = dict(base_batch_size=batch * gpus)
    dataset = cfg['train_dataloader']['dataset']
    dataset['pipeline'] = _augmentation(dataset['pipeline'], recipe)
    if is_simcc_codec(codec):
        _set_labels_and_loss(cfg, head, codec, data_set)


def _recipe(backbone: dict, data_set: str, is_simcc: bool) -> Recipe:
    kind = type_name(backbone)
    if data_set not in BATCHES:
        raise invalid('cfg', data_set, 'a config for COCO, CrowdPose or MPII')
    if kind == 'ResNet':
        return RESNET
    if kind == 'HRNet':
        return HRNET_MPII if data_set == 'MpiiDataset' else HRNET
    if kind == 'TokenPose':  # with SimCC as HRNet (SimCC, Section 4.1)
        return HRNET if is_simcc else TOKENPOSE
    raise invalid('cfg', kind, 'a config of a model on ResNet, HRNet or TokenPose')


def _augmentation(pipeline: list, recipe: Recipe) -> list:
    """The pipeline with a recipe's random boxes."""
    changed = []
    for transform in pipeline:
        if type_name(transform) == 'RandomHalfBody':
            continue
        if type_name(transform) == 'RandomBBoxTransform':
            if recipe.half_body:
                changed.append(dict(type='RandomHalfBody', prob=recipe.half_body))
            transform = dict(
                type='RandomBBoxTransform',
                shift_prob=0,
                scale_factor=(1 - recipe.scale, 1 + recipe.scale),
                rotate_factor=2 * recipe.rotation,
                rotate_prob=0.6,
            )
        changed.append(transform)
    return changed


def _set_labels_and_loss(cfg: dict, head: dict, codec: dict, data_set: str) -> None:
    """Label smoothing and the reduction of SimCC's loss."""
    model = _published_name(cfg['model']['backbone'], head), tuple(codec['input_size']), data_set
    reduction = 'stock'  # Gaussian labels: averaged over the bins
    if codec.get('label_smoothing', 'gaussian') in ('equal', 'none'):
        reduction = 'stock' if model in AVERAGED_OVER_BINS else 'mean'
    if codec.get('label_smoothing') == 'equal':
        smoothing = SMOOTHING.get(model, 0.1)
        for each in (codec, cfg.get('codec'), *label_codecs(cfg)):
            if each:
                each['smoothing'] = smoothing
    if type_name(head.get('loss') or {}) in ('', 'SimCCKLLoss'):
        head['loss'] = dict(type='SimCCKLLoss', use_target_weight=True, reduction=reduction)


def _published_name(backbone: dict, head: dict) -> Optional[str]:
    """The backbone as the tables above name it; ResNet without deconvolutions has none there."""
    if type_name(backbone) == 'HRNet':
        return f'HRNet-W{backbone["extra"]["stage4"]["num_channels"][0]}'
    if type_name(backbone) == 'ResNet' and num_deconvs(head):
        return f'ResNet-{backbone["depth"]}'
    return None
