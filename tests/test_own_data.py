# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The page on data of one's own, its commands followed on drawn people in YOLO's format."""

import re

import pytest
from conftest import ROOT, run_tool
from mmengine.config import Config

from mmpose_simcc.workbench.toy import make_toy_coco

PAGE = ROOT / 'docs' / 'own_data.md'
if not PAGE.is_file():
    pytest.skip('outside the repository', allow_module_level=True)

pytestmark = pytest.mark.slow
QUICK = """
model['backbone'] = dict(depth=18, init_cfg=None)
model['head']['in_channels'] = 512
train_cfg = dict(max_epochs=1, val_interval=1)
train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
val_dataloader.update(num_workers=0, persistent_workers=False)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with a data set of YOLO-pose."""
    sleap_io = pytest.importorskip('sleap_io')
    folder = tmp_path_factory.mktemp('mine')
    make_toy_coco(folder / 'toy', train=12, val=1, seed=3, workers=1)
    labels = sleap_io.load_coco(
        folder / 'toy/annotations/person_keypoints_train2017.json',
        dataset_root=folder / 'toy/train2017',
    )
    sleap_io.save_ultralytics(labels, str(folder / 'labels'), verbose=False)
    return folder


def test_the_commands(folder, monkeypatch):
    """Import, check and compare, each as the page has it."""
    monkeypatch.setenv('PYTHONPATH', f'{ROOT}')
    commands = re.findall(r'```bash\npython tools/(.*)\n```', PAGE.read_text())
    assert [command.split()[0] for command in commands] == [
        'import_data.py',
        'check_data.py',
        'compare.py',
    ]
    for command in commands:
        done = run_tool(*command.replace('labels.slp', 'labels').split(), cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        config = folder / 'data/mine/heatmap.py'
        if command.startswith('import_data'):
            config.write_text(config.read_text() + QUICK)
    assert (folder / 'samples.html').read_text().count('<img') >= 4
    assert 'AP' in done.stdout and 'PCK' in done.stdout
    assert Config.fromfile(config).model.head.out_channels == 17
