# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a user types: training, testing, and MMPose's inference APIs.

One config goes through mim; for the others its scripts run in this process.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import run, run_tool
from mmengine.config import Config
from mmpose.apis import MMPoseInferencer, inference_topdown, init_model

pytestmark = pytest.mark.slow
CONFIGS = dict(
    heatmap='topdown_heatmap/coco/td-hm_res50_quarter-8xb64-210e_coco-64x64.py',
    simcc='simcc/coco/simcc_res50_upfree-8xb64-210e_coco-64x64.py',
)
OVERRIDES = """
_base_ = [{base!r}]
data_root = {root!r}
_data = dict(data_root=data_root)
_quick = dict(num_workers=0, persistent_workers=False)
model = dict(backbone=dict(depth=18, init_cfg=None),
             head=dict(in_channels=512))
train_dataloader = dict(batch_size=8, dataset=_data, **_quick)
val_dataloader = dict(dataset=dict(bbox_file=None, **_data), **_quick)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/person_keypoints_val2017.json')
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=1, val_interval=1)
param_scheduler = []
randomness = dict(seed=0)
"""


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory, repo_root):
    root = tmp_path_factory.mktemp('toy')
    run('python', repo_root / 'tools' / 'make_toy_coco.py', root, '--train', 24, '--val', 8)
    return root


def printed(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope='module', params=['heatmap-toy', 'simcc-toy', 'simcc-coco'])
def trained(request, tmp_path_factory, repo_root):
    """A config of this project, trained for an epoch."""
    kind, data = request.param.split('-')
    if data == 'toy':
        root = request.getfixturevalue('toy_root')
    else:
        root = request.getfixturevalue('shared_dir') / 'data' / 'coco'
    work_dir = tmp_path_factory.mktemp(request.param)
    config = work_dir / f'{kind}.py'
    base = repo_root / 'configs' / 'body_2d_keypoint' / CONFIGS[kind]
    config.write_text(OVERRIDES.format(base=str(base), root=f'{root}/'))
    arguments = config, '--work-dir', work_dir
    if request.param == 'heatmap-toy':
        out = run('mim', 'train', 'mmpose', *arguments, '--gpus', 0, cwd=work_dir)
        assert 'Training finished successfully' in out
    else:
        out = printed(run_tool('train.py', *arguments, cwd=work_dir))
    assert re.search(r'loss: \d', out)
    return dict(
        kind=kind,
        config=str(config),
        checkpoint=str(work_dir / 'epoch_1.pth'),
        work_dir=work_dir,
        image=str(sorted((Path(root) / 'val2017').glob('*.jpg'))[0]),
    )


def scores_of(out):
    return dict(re.findall(r'coco/(AP|AR|AP \.5): ([\d.-]+)', out))


def test_scores(trained):
    out = printed(
        run_tool('test.py', trained['config'], trained['checkpoint'], cwd=trained['work_dir'])
    )
    assert set(scores_of(out)) == {'AP', 'AP .5', 'AR'}


@pytest.mark.parametrize('decoder', ['DARKCodec', 'DAECCodec'])
def test_decoder_swaps_from_the_command_line(trained, decoder):
    if trained['kind'] != 'heatmap':
        pytest.skip('heatmap decoders')
    config, checkpoint, folder = trained['config'], trained['checkpoint'], trained['work_dir']
    options = '--cfg-options', f'model.head.decoder.type={decoder}'
    if decoder == 'DARKCodec':
        out = run('mim', 'test', 'mmpose', config, '--checkpoint', checkpoint, *options, cwd=folder)
    else:
        out = printed(run_tool('test.py', config, checkpoint, *options, cwd=folder))
    assert set(scores_of(out)) == {'AP', 'AP .5', 'AR'}
    # the log holds the config that ran
    assert re.search(rf"decoder=dict\(.{{0,300}}?type='{decoder}'", out, re.S)


def test_init_model_and_inference_topdown(trained):
    model = init_model(trained['config'], trained['checkpoint'], 'cpu')
    (sample,) = inference_topdown(model, trained['image'])
    keypoints = sample.pred_instances.keypoints
    height, width = sample.ori_shape
    assert keypoints.shape == (1, 17, 2) and np.isfinite(keypoints).all()
    scores = sample.pred_instances.keypoint_scores
    if trained['kind'] == 'simcc':
        assert (scores >= 0).all() and (scores <= 1).all()
    # a box as large as the image: predictions lie around it
    assert (np.abs(keypoints - (width / 2, height / 2)) < max(width, height) * 1.5).all()


def test_inferencer_and_visualizer(trained):
    """Whole-image box, with the responses drawn."""
    cfg = Config.fromfile(trained['config'])
    cfg.model.test_cfg.output_heatmaps = True
    config = trained['work_dir'] / 'with_heatmaps.py'
    cfg.dump(config)
    inferencer = MMPoseInferencer(
        pose2d=str(config),
        pose2d_weights=trained['checkpoint'],
        det_model='whole_image',
        device='cpu',
    )
    result = next(inferencer(trained['image'], draw_heatmap=True, return_vis=True, kpt_thr=0.0))
    (person,) = result['predictions'][0]
    assert len(person['keypoints']) == 17
    picture = result['visualization'][0]
    assert picture.ndim == 3 and picture.std() > 0
