# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The page on data of one's own, followed word for word on drawn people with 14 keypoints."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT, run_tool
from mmengine.config import Config

from mmpose_simcc.workbench.toy import make_toy_coco

PAGE = ROOT / 'docs' / 'own_data.md'
if not PAGE.is_file():
    pytest.skip('outside the repository', allow_module_level=True)

pytestmark = pytest.mark.slow
QUICK = """
model = dict(backbone=dict(depth=18, init_cfg=None), head=dict(in_channels=512))
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader.update(num_workers=0, persistent_workers=False)
"""


def as_mine(content):
    """COCO's 17 keypoints as the page's 14: head, neck and the limbs."""
    for annotation in content['annotations']:
        points = np.array(annotation['keypoints'], float).reshape(17, 3)
        neck = points[5:7].mean(0)
        neck[2] = points[5:7, 2].min()
        points = np.vstack([points[:1], neck[None], points[5:]])
        annotation['keypoints'] = points.ravel().tolist()
        annotation['num_keypoints'] = int((points[:, 2] > 0).sum())
    return content


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """The three files of the page and the folder of data that it describes."""
    folder = tmp_path_factory.mktemp('mine')
    make_toy_coco(folder / 'toy', train=12, val=6, seed=3, workers=1)
    data = folder / 'data' / 'mine'
    (data / 'annotations').mkdir(parents=True)
    (data / 'images').mkdir()
    for split in ('train', 'val'):
        source = folder / 'toy' / 'annotations' / f'person_keypoints_{split}2017.json'
        content = as_mine(json.loads(source.read_text()))
        (data / 'annotations' / f'{split}.json').write_text(json.dumps(content))
        for picture in (folder / 'toy' / f'{split}2017').iterdir():
            picture.rename(data / 'images' / picture.name)
    for code in re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.S):
        name = re.match(r'# (\S+)\n', code)[1]
        (folder / name).write_text(code + (QUICK if 'simcc' in name else ''))
    return folder


def test_the_command(folder, monkeypatch):
    (command,) = re.findall(r'```bash\npython tools/(\S+) (\S+)\n```', PAGE.read_text())
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}')
    done = run_tool(*command, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert 'AP' in done.stdout
    cfg = Config.fromfile(folder / 'mine_simcc.py')
    assert cfg.model.head.out_channels == 14
    (result,) = (folder / 'work_dirs' / 'compare' / 'results').glob('*.npz')
    assert np.load(result)['keypoints'].shape[1:] == (14, 2)
