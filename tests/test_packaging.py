# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What pip installs serves mim, and configs may hold types as classes."""

import json
import re
import shutil
import tarfile

import mmpose.registry
import pytest
from click.testing import CliRunner
from conftest import ROOT, run, run_elsewhere, run_tool
from mim.cli import cli
from mmengine.config import Config
from mmengine.registry import Registry
from mmpose.utils import register_all_modules
from modelindex.load_model_index import load

from mmpose_simcc.utils.inference import load_config
from mmpose_simcc.workbench.toy import make_toy_coco

register_all_modules()
pytestmark = pytest.mark.slow
NAME = 'simcc_res18_1xb8-4e_toy-coco-64x64.py'
CONFIG = ROOT / 'configs' / 'body_2d_keypoint' / 'simcc' / 'toy_coco' / NAME
QUICK = (
    '--cfg-options',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'randomness.seed=0',
    'default_hooks.logger.interval=1',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where a user works: the toy data lie where the configs look."""
    folder = tmp_path_factory.mktemp('user')
    make_toy_coco(folder / 'data' / 'toy_coco', train=24, val=8, workers=1)
    return folder


@pytest.fixture(scope='module')
def trained(folder):
    """Trained by its name alone, which mim finds in the package."""
    return run(
        'mim',
        'train',
        'mmpose_simcc',
        NAME,
        '--gpus',
        0,
        '--work-dir',
        folder / 'text',
        *QUICK,
        cwd=folder,
    )


def as_pure_python(cfg: Config) -> str:
    """The text of a config with imported classes in place of their names."""
    registries = [
        value
        for value in vars(mmpose.registry).values()
        if isinstance(value, Registry) and value.scope == 'mmpose'
    ]
    imports = set()

    def imported(match):
        found = next(filter(None, (registry.get(match[1]) for registry in registries)), None)
        if found is None:  # such as a parameter that is called type
            return match[0]
        module = found.__module__
        if module.startswith('mmpose_simcc'):
            module = 'mmpose_simcc'  # as users write it
        imports.add(f'from {module} import {found.__name__}\n')
        return f'type={found.__name__}'

    cfg = cfg.copy()
    cfg.pop('custom_imports')
    cfg.default_scope = None
    text = re.sub(r"type='(\w+)'", imported, cfg.pretty_text)
    return ''.join(sorted(imports)) + text


def losses(out):
    return re.findall(r'Epoch\(train\).* loss: ([\d.]+)', out)


class TestMim:
    def test_train(self, trained, folder):
        assert 'Training finished successfully' in trained
        assert len(losses(trained)) > 1
        assert (folder / 'text' / 'epoch_1.pth').is_file()

    def test_test(self, trained, folder):
        out = run(
            'mim',
            'test',
            'mmpose_simcc',
            NAME,
            '--checkpoint',
            folder / 'text' / 'epoch_1.pth',
            '--gpus',
            0,
            '--work-dir',
            folder / 'test',
            cwd=folder,
        )
        (before,) = re.findall(r'coco/AP: (\S+)', trained)
        (after,) = re.findall(r'coco/AP: (\S+)', out)
        assert float(after) == pytest.approx(float(before), abs=1e-6)

    def test_search(self, folder):
        words = 'mim search mmpose_simcc --model TokenPose --field parameters --json found.json'
        run(*words.split(), cwd=folder)
        found = json.loads((folder / 'found.json').read_text())
        index = load(str(ROOT / 'model-index.yml'))
        expected = {
            model.name: model.metadata.data['Parameters']
            for model in index.models
            if model.in_collection == 'TokenPose'
        }
        assert len(expected) > 1
        assert found['parameters'] == expected

    def test_search_by_config(self):
        found = self.search('--config', 'td-hm_res50_quarter-8xb64-210e_mpii-256x256')
        assert 'simplebaseline2d' in found.output and '33999440' in found.output

    def test_search_of_nothing(self):
        error = self.search('--model', 'nothing').exception
        assert 'Expected models' in str(error) and 'tokenpose' in str(error)

    @staticmethod
    def search(*words):
        """mim in this process."""
        return CliRunner().invoke(cli, ['search', 'mmpose_simcc', *words])


def test_sdist_holds_what_git_tracks(uv, tmp_path):
    """But for what only a clone uses."""
    if not (ROOT / '.git').exists():
        pytest.skip('needs a clone')
    run_elsewhere(uv, 'build', '--quiet', '--sdist', '--out-dir', tmp_path, ROOT)
    (sdist,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(sdist) as content:
        held = {name.partition('/')[2] for name in content.getnames()}
    tracked = set(run_elsewhere(shutil.which('git'), 'ls-files', cwd=ROOT).split())
    missing = {name for name in tracked - held if not name.startswith('.')}
    assert not missing


class TestPurePython:
    @pytest.fixture(scope='class')
    def pure(self, folder):
        path = folder / 'pure.py'
        path.write_text(as_pure_python(Config.fromfile(CONFIG)))
        assert 'from mmpose_simcc import SimCC' in path.read_text()
        return path

    def test_trains_to_the_same_losses(self, pure, folder, trained):
        done = run_tool('train.py', pure, '--work-dir', folder / 'pure', *QUICK, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert losses(done.stdout) == losses(trained)

    def test_tools_read_it_as_the_text_config(self, pure):
        ours = load_config(str(pure))
        text = load_config(str(CONFIG))
        for part in (
            lambda cfg: cfg.model.head,
            lambda cfg: cfg.codec,
            lambda cfg: cfg.train_dataloader.dataset,
            lambda cfg: cfg.test_dataloader.dataset,
            lambda cfg: cfg.test_evaluator,
        ):
            assert json.dumps(part(ours), sort_keys=True) == json.dumps(part(text), sort_keys=True)

    def test_compares(self, pure, trained, folder):
        """Its trained checkpoint, by every decoder of its kind."""
        out = run(
            'mim',
            'run',
            'mmpose_simcc',
            'compare',
            f'{pure}={folder / "text" / "epoch_1.pth"}',
            cwd=folder,
        )
        assert '.mim/tools/compare.py' in out
        assert 'pure' in out and 'argmax' in out
