# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import contextlib
import copy
import importlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import mmpose
import numpy as np
import pytest
import torch
from conftest import BESIDE_TESTS, LAUNCHERS, ROOT, run_tool
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint
from mmengine.utils import digit_version
from mmpose.registry import DATASETS

from mmpose_simcc.codecs.calibration import made_for, save_calibration
from mmpose_simcc.config import check_config, set_representation
from mmpose_simcc.utils.inference import build_model, pose_head_cfg
from mmpose_simcc.workbench import identity
from mmpose_simcc.workbench.compare import (
    CompareError,
    Launcher,
    Run,
    Study,
    compare,
    named_models,
    study_runs,
)
from mmpose_simcc.workbench.compare.data import use_data
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.report import remarks
from mmpose_simcc.workbench.compare.report.tables import flat_table, write_tables
from mmpose_simcc.workbench.compare.runs import read_config
from mmpose_simcc.workbench.compare.trainings import (
    say_outdated,
    training_config,
    training_dir,
)
from mmpose_simcc.workbench.identity import (
    Content,
    forward_identity,
    picture_names,
    training_identity,
)
from mmpose_simcc.workbench.toy import make_toy_coco

METAINFO = Path(mmpose.__file__).parent / '.mim/configs/_base_/datasets/coco.py'
CONFIGS = ROOT / 'configs' / 'body_2d_keypoint'
HEATMAP = str(CONFIGS / 'topdown_heatmap/toy_coco' / 'td-hm_res18_1xb8-4e_toy-coco-64x64.py')
DARK = HEATMAP.replace('res18_', 'res18_dark-')
SIMCC = str(CONFIGS / 'simcc/toy_coco/simcc_res18_1xb8-4e_toy-coco-64x64.py')


def heatmap_run_with(run, **test_cfg):
    run = replace(run, cfg=copy.deepcopy(run.cfg))
    run.cfg.model.test_cfg.update(test_cfg)
    return run


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=12, val=10, seed=1, workers=1)
    return str(root)


def load_run(spec, data_root=None, gt_boxes=False):
    (run,) = study_runs(Study(named_models([spec])), data_root, gt_boxes)
    return run


def with_random_weights(config, toy_root, folder, gt_boxes=False, seed=0, change=None):
    """A run with made-up weights, whose loaders work in this process; ``change`` gets its config
    before it is built."""
    run = load_run(config, toy_root, gt_boxes)
    if change:
        change(run.cfg)
    run.cfg.test_dataloader.num_workers = 0
    run.cfg.test_dataloader.persistent_workers = False
    # beside CocoMetric: made-up weights have an AP of 0
    run.cfg.test_evaluator = [run.cfg.test_evaluator, dict(type='PCKAccuracy', thr=0.3)]
    torch.manual_seed(seed)
    model = build_model(run.cfg)
    for weight in model.head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    run.checkpoint = str(folder / f'{run.name}-{seed}.pth')
    save_checkpoint(dict(state_dict=model.state_dict()), run.checkpoint)
    return run


@pytest.fixture(scope='module')
def heatmap_run(toy_root, tmp_path_factory):
    return with_random_weights(HEATMAP, toy_root, tmp_path_factory.mktemp('heatmap'))


@pytest.fixture(scope='module')
def simcc_run(toy_root, tmp_path_factory):
    return with_random_weights(SIMCC, toy_root, tmp_path_factory.mktemp('simcc'))


@pytest.fixture(scope='module')
def compared(heatmap_run, simcc_run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('compare')
    names = ['argmax', 'quarter', 'second_max', 'dark', 'daec']
    return work_dir, compare([heatmap_run, simcc_run], work_dir, names)


def run_stock(run, decoder, work_dir, **metric):
    """What MMEngine's Runner gives with this decoder in the config."""
    cfg = copy.deepcopy(run.cfg)
    pose_head_cfg(cfg).decoder = decoder
    cfg.work_dir = str(work_dir)
    cfg.load_from = run.checkpoint
    cfg.experiment_name = work_dir.name
    cfg.test_evaluator[0].update(metric)
    return Runner.from_cfg(cfg).test()


def stock_test(run, decoder, work_dir):
    """The same, and the predictions that COCO's metric writes."""
    metrics = run_stock(run, decoder, work_dir, outfile_prefix=str(work_dir / 'stock'))
    return metrics, json.loads((work_dir / 'stock.keypoints.json').read_text())


class TestCompare:
    def test_rows(self, compared):
        _, rows = compared
        assert [(row.config[:5], row.decoder) for row in rows] == [
            ('td-hm', 'argmax'),
            ('td-hm', 'quarter'),
            ('td-hm', 'second_max'),
            ('td-hm', 'dark'),
            ('td-hm', 'daec'),
            ('simcc', 'argmax'),
            ('simcc', 'dark'),
            ('simcc', 'daec'),
        ]
        assert len({row.metrics['PCK'] for row in rows}) > 2
        assert all(row.forward_ms > row.decode_ms > 0 for row in rows)

    @pytest.mark.parametrize('index', range(8))
    def test_equals_stock_test(self, compared, heatmap_run, simcc_run, index, tmp_path):
        _, rows = compared
        row = rows[index]
        run = heatmap_run if row.config == heatmap_run.name else simcc_run
        decoder = decoders_of(run, [row.decoder])[row.decoder]
        metrics, predictions = stock_test(run, decoder, tmp_path)
        assert {key: row.metrics[key] for key in metrics} == pytest.approx(metrics, abs=1e-12)
        assert row.metrics['PCK'] > 0
        own = json.loads(Path(f'{row.trainings[0].predictions}.keypoints.json').read_text())
        assert len(own) == len(predictions) > 5
        for mine, stock in zip(own, predictions):
            assert mine['image_id'] == stock['image_id']
            np.testing.assert_allclose(mine['keypoints'], stock['keypoints'])
            assert mine['score'] == pytest.approx(stock['score'])

    def test_done_rows_are_not_computed_again(self, compared, heatmap_run, simcc_run):
        work_dir, rows = compared
        files = sorted(work_dir.rglob('*'))
        before = [path.stat().st_mtime_ns for path in files]
        again = compare(
            [heatmap_run, simcc_run], work_dir, ['argmax', 'quarter', 'second_max', 'dark', 'daec']
        )
        assert again == rows
        assert sorted(work_dir.rglob('*')) == files
        assert [path.stat().st_mtime_ns for path in files] == before

    def test_a_calibration_is_a_row_of_its_own(self, heatmap_run, tmp_path):
        """It decodes in the place of whatever decoder has it."""
        path = str(tmp_path / 'c.json')
        codec = heatmap_run.build_codec()
        content = dict(
            made_for=dict(made_for(codec), num_keypoints=17, flip_test='exact'),
            decoder=dict(type='DARKCodec'),
            calibrated_on='some pictures',
        )
        save_calibration(path, content)
        cfg = copy.deepcopy(heatmap_run.cfg)
        cfg.model.test_cfg.flip_test = True
        cfg.model.head.decoder.calibration = path
        decoders = decoders_of(Run('calibrated', cfg))
        assert list(decoders)[-1] == 'calibrated'
        assert [d.get('calibration') for d in decoders.values()] == [None] * 6 + [path]
        study = [dict(name='own', type='DARKCodec', calibration=path)]
        decoders = decoders_of(heatmap_run_with(heatmap_run, flip_test=True), study)
        assert list(decoders) == ['own', 'own, calibrated']

    def test_tables_hold_the_rows(self, compared, tmp_path):
        _, rows = compared
        markdown, comma, whole = write_tables(rows, tmp_path)
        cells = flat_table(rows).cells
        assert cells.columns.tolist()[10:] == [
            'AP',
            'AP50',
            'AP75',
            'AP(M)',
            'AP(L)',
            'AR',
            'PCK',
            'ECE (%)',
            'AUROC',
        ]
        lines = markdown.read_text().splitlines()
        assert [c.strip() for c in lines[2].split('|')[1:-1]] == cells.iloc[0].tolist()
        assert len(lines) == 2 + len(rows)
        assert len(comma.read_text().splitlines()) == 1 + len(rows)
        loaded = json.loads(whole.read_text())
        assert [r['metrics'] for r in loaded] == [r.metrics for r in rows]


ANNOTATIONS = 'annotations/person_keypoints_{}2017.json'


def picture(run, split='train'):
    root = run.cfg.train_dataloader.dataset.data_root
    return sorted(Path(root, f'{split}2017').glob('*.jpg'))[0]


def touch(split):
    def change(run, folder):
        os.utime(picture(run, split), ns=(1, 1))

    return change


def replace_by_same_size(run, folder):
    """Another picture of the same size, at another time."""
    path = picture(run)
    content = path.read_bytes()
    path.write_bytes(content[::-1])
    os.utime(path, ns=(1, 1))


def move(run, folder):
    root = Path(run.cfg.train_dataloader.dataset.data_root)
    shutil.copytree(root, folder / 'moved', copy_function=shutil.copy2)
    use_data(run.cfg, str(folder / 'moved'))


def annotate(split):
    def change(run, folder):
        root = Path(run.cfg.train_dataloader.dataset.data_root)
        path = root / ANNOTATIONS.format(split)
        content = json.loads(path.read_text())
        content['annotations'][0]['keypoints'][0] += 1
        path.write_text(json.dumps(content))

    return change


def add_picture(run, folder):
    """One that no annotation names."""
    (picture(run).parent / 'other.jpg').write_bytes(b'')


def sigmas(value, name='own.py', comment=''):
    """All data sets by a metainfo file of one's own."""

    def change(run, folder):
        text = Path(METAINFO).read_text()
        text, done = re.subn(r'sigmas=\[\s*0\.026', f'sigmas=[{value}', text)
        assert done == 1
        (folder / name).write_text(comment + text)
        for split in ('train', 'test'):
            run.cfg[f'{split}_dataloader'].dataset.metainfo = dict(from_file=str(folder / name))

    return change


def set_option(**options):
    def change(run, folder):
        run.cfg.merge_from_dict({name.replace('__', '.'): v for name, v in options.items()})

    return change


def represent(**codec):
    return lambda run, folder: set_representation(run.cfg, codec)


def attribute(value):
    """An object without __repr__, in a hook, a transform and a metric."""

    class Plain:
        def __init__(self):
            self.value = value

    def change(run, folder):
        run.cfg.custom_hooks = [dict(type='EpochSeedHook', extra=Plain())]
        run.cfg.test_dataloader.dataset.pipeline[0]['extra'] = Plain()
        run.cfg.test_evaluator['extra'] = Plain()

    return change


def pretrained(value):
    def change(run, folder):
        path = folder / f'{secrets.token_hex(4)}.pth'
        path.write_text(value)
        run.cfg.load_from = str(path)

    return change


def boxes(value):
    def change(run, folder):
        path = folder / f'{secrets.token_hex(4)}.json'
        path.write_text(f'[{value}]')
        run.cfg.test_dataloader.dataset.bbox_file = str(path)

    return change


# what is changed, and whether the training and the results are computed again
CHANGES = {
    'nothing': (lambda run, folder: None, '', ''),
    'data folder': (move, '', ''),
    'annotations of the training data': (annotate('train'), 'train', 'test'),
    'annotations of the test data': (annotate('val'), '', 'test'),
    'a training picture touched': (touch('train'), 'train', 'test'),
    'a test picture touched': (touch('val'), '', 'test'),
    'a training picture replaced': (replace_by_same_size, 'train', 'test'),
    'a picture that nothing names': (add_picture, '', ''),
    'metainfo of the same content': (sigmas(0.026), '', ''),
    'its path and a comment': (sigmas(0.026, 'b.py', '# 2\n'), '', ''),
    'custom sigmas': (sigmas(0.03), 'train', 'test'),
    'seed': (set_option(randomness=dict(seed=7)), 'train', 'test'),
    'epochs': (set_option(train_cfg__max_epochs=9), 'train', 'test'),
    'learning rate': (set_option(optim_wrapper__optimizer__lr=0.1), 'train', 'test'),
    'scaled learning rate': (set_option(auto_scale_lr__enable=True), 'train', 'test'),
    'batch': (set_option(train_dataloader__batch_size=3), 'train', 'test'),
    'network': (set_option(model__backbone__depth=34), 'train', 'test'),
    'flip test': (set_option(model__test_cfg__flip_test=False), '', 'test'),
    'stock flip test': (set_option(model__type='TopdownPoseEstimator'), '', 'test'),
    'refinement': (represent(type='HeatmapCodec', refine='none'), '', ''),
    'DARK': (represent(type='DARKCodec', unbiased=False), '', ''),
    'DAEC': (represent(type='DAECCodec', unbiased=False), '', ''),
    'the same sigma': (represent(type='HeatmapCodec', sigma=2.0), '', ''),
    'sigma': (represent(type='HeatmapCodec', sigma=3), 'train', 'test'),
    'unbiased labels': (represent(type='DARKCodec', unbiased=True), 'train', 'test'),
    'input size': (represent(type='HeatmapCodec', input_size=(128, 128)), 'train', 'test'),
    'metric': (set_option(test_evaluator__nms_mode='none'), '', 'test'),
    'data workers': (set_option(train_dataloader__num_workers=7), '', ''),
    'logging': (set_option(default_hooks__logger__interval=7), '', ''),
    'checkpoints': (set_option(default_hooks__checkpoint__interval=7), '', ''),
    'validation': (set_option(train_cfg__val_interval=7), '', ''),
    'work folder': (set_option(work_dir='elsewhere'), '', ''),
}


class TestWhatIsComputedAgain:
    @pytest.fixture
    def run(self, toy_root, tmp_path):
        shutil.copytree(toy_root, tmp_path / 'data', copy_function=shutil.copy2)
        return load_run(HEATMAP, str(tmp_path / 'data'))

    @staticmethod
    def identities(run, processes=1, **options):
        """As a new command finds them."""
        content = Content(**options)
        training = training_identity(run.cfg, processes, content)
        return training, forward_identity(run.cfg, training, content)

    def changed(self, before, after):
        return tuple(name if a != b else '' for name, a, b in zip(('train', 'test'), before, after))

    @pytest.mark.parametrize('change,training,result', CHANGES.values(), ids=CHANGES)
    def test_change(self, run, tmp_path, change, training, result):
        before = self.identities(run)
        change(run, tmp_path)
        assert self.changed(before, self.identities(run)) == (training, result)

    def test_processes(self, run):
        """They share a training; evaluation is the same by any number."""
        before = self.identities(run)
        assert self.changed(before, self.identities(run, 8)) == ('train', 'test')
        assert Launcher('pytorch', 8).world_size == Launcher('slurm', 8).world_size == 8
        assert Launcher().world_size == Launcher('none', 8).world_size == 1

    @pytest.mark.parametrize(
        'package', ['mmpose', 'mmengine', 'torch', 'mmpose_simcc', 'numpy', 'cv2', 'mmcv']
    )
    def test_versions(self, run, package, monkeypatch):
        before = self.identities(run)
        monkeypatch.setattr(sys.modules[package], '__version__', '0.0.1')
        assert self.changed(before, self.identities(run)) == ('train', 'test')

    def test_versions_of_what_is_not_used(self, run, monkeypatch):
        before = self.identities(run)
        monkeypatch.setattr(sys.modules['rich.console'], '__version__', '0.0.1', raising=False)
        monkeypatch.setattr(sys.modules['matplotlib'], '__version__', '0.0.1')
        assert self.identities(run) == before

    def test_source_of_own_modules(self, run, tmp_path, monkeypatch):
        """A hook of one's own: its source counts, which has no version."""
        path = tmp_path / 'own_hooks_of_a_test.py'
        monkeypatch.syspath_prepend(str(tmp_path))
        run.cfg.custom_imports = dict(imports=['mmpose_simcc', path.stem])
        found = []
        for text in ('a = 1', 'a = 1', 'a = 2'):
            path.write_text(text)
            importlib.import_module(path.stem)
            found.append(self.identities(run))
        assert found[0] == found[1]
        assert self.changed(found[1], found[2]) == ('train', 'test')

    def test_builds_of_one_torch_are_equal(self, run, monkeypatch):
        before = self.identities(run)
        monkeypatch.setattr(torch, '__version__', torch.__version__.split('+')[0] + '+other')
        assert self.identities(run) == before

    @pytest.mark.parametrize(
        'change, training', [(pretrained, 'train'), (attribute, 'train'), (boxes, '')]
    )
    def test_files_by_content_and_objects_by_attributes(self, run, tmp_path, change, training):
        found = []
        for value in ('1', '1', '2'):
            change(value)(run, tmp_path)
            found.append(self.identities(run))
        assert found[0] == found[1]
        assert self.changed(found[1], found[2]) == (training, 'test')

    def test_normalized_labels(self, toy_root):
        run, found = load_run(SIMCC, toy_root), []
        for normalize in (True, True, False):
            codec = dict(type='SimCCCodec', label_smoothing='gaussian', sigma=2)
            set_representation(run.cfg, dict(codec, normalize=normalize))
            found.append(self.identities(run))
        assert found[0] == found[1]
        assert self.changed(found[1], found[2]) == ('train', 'test')

    def test_hashed_pictures(self, run, tmp_path):
        """Their times do not count, their bytes do even at the same size and
        time."""
        hashed = self.identities(run, hash_pictures=True)
        touch('train')(run, tmp_path)
        touch('val')(run, tmp_path)
        assert self.identities(run, hash_pictures=True) == hashed
        timed = self.identities(run)
        replace_by_same_size(run, tmp_path)
        assert self.identities(run) == timed
        assert self.changed(hashed, self.identities(run, hash_pictures=True))[0] == 'train'

    def test_calibrations(self, tmp_path):
        found = []
        for name, text in (('a', '1'), ('b', '1'), ('c', '2')):
            path = tmp_path / f'{name}.json'
            path.write_text(text)
            codec = dict(type='DAECCodec', calibration=str(path))
            found.append(identity.digest(Content().of(codec)))
        assert found[0] == found[1] != found[2]

    def test_says_which_training_does_not_serve(self, run, tmp_path, capsys):
        """That of the same name, not one whose name only begins alike."""
        (training, _), kept = self.identities(run), []
        for name, of, has_finished in (
            (run.name, training, True),
            (run.name, '0' * len(training), True),
            (run.name, '1' * len(training), False),
            (f'{run.name}-seed', '2' * len(training), True),
        ):
            folder = training_dir(Run(name, run.cfg), of, tmp_path)
            folder.mkdir(parents=True)
            kept.append(folder)
            if has_finished:
                (folder / 'finished.txt').write_text('epoch_1.pth')
        touch('train')(run, tmp_path)
        anew, _ = self.identities(run)
        say_outdated(run, anew, tmp_path)
        said = capsys.readouterr().err
        assert [str(folder) in said for folder in kept] == [True, True, False, False]
        assert '--hash' in said

    def test_pictures_are_looked_at_once(self, run, monkeypatch):
        looks = []
        stat = os.stat
        monkeypatch.setattr(
            identity.os, 'stat', lambda path, **options: looks.append(path) or stat(path, **options)
        )
        content = Content()
        for _ in range(3):
            training_identity(run.cfg, 1, content)
            forward_identity(run.cfg, 'w', content)
        pictures = [str(path) for path in looks if str(path).endswith('.jpg')]
        assert len(pictures) == len(set(pictures)) == 12 + 10


def test_pictures_of_annotations(tmp_path):
    """Without parsing: escaped names, other texts, MPII's list."""
    path = tmp_path / 'a.json'
    names = ['a/b.jpg', 'ä "q" \\.png', 'x.jpg']
    coco = dict(
        info='"file_name": "no.jpg"',
        images=[dict(file_name=name, coco_url='http://x/y.jpg') for name in names],
    )
    for text in (json.dumps(coco), json.dumps(coco, ensure_ascii=False, indent=1)):
        path.write_text(text)
        assert picture_names(path) == sorted(names)
    path.write_text(json.dumps([dict(image=name, joints=[1]) for name in names]))
    assert picture_names(path) == sorted(names)
    path.write_text('')
    assert picture_names(path) == []


@pytest.mark.slow
def test_digest_is_equal_in_every_process():
    """Whatever the order of sets, and addresses."""
    code = (
        'import sys, numpy as np, functools\n'
        'from mmpose_simcc.workbench.identity import digest\n'
        'class Plain:\n'
        '    def __init__(self): self.words = set("abcdefgh")\n'
        'class Slots:\n'
        '    __slots__ = ("x",)\n'
        '    def __init__(self): self.x = Plain\n'
        'print(digest([Plain(), Slots(), np.arange(3), functools.partial(len), {1: (2,)}]))\n'
    )
    found = set()
    for seed in ('1', '2'):
        env = dict(os.environ, PYTHONHASHSEED=seed)
        done = subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True)
        found.add(done.stdout)
        assert done.returncode == 0, done.stderr
    assert len(found) == 1


class Exploit:
    """Unpickling this creates the file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestErrors:
    """Each is one line that says what to do."""

    def error(self, call):
        with pytest.raises(CompareError) as info:
            call()
        message = str(info.value)
        assert '\n' not in message
        return message

    def test_missing_data(self, tmp_path):
        run = load_run(HEATMAP, 'nowhere/coco')
        message = self.error(lambda: compare([run], tmp_path))
        assert 'nowhere/coco/annotations' in message
        assert 'make_toy_coco' in message and 'cocodataset.org' in message

    def test_wrong_config(self, tmp_path):
        path = tmp_path / 'wrong.py'
        assert 'absent.py' in self.error(lambda: load_run('absent.py'))
        path.write_text('model = dict(\n')
        assert 'wrong.py' in self.error(lambda: load_run(str(path)))
        path.write_text("model = dict(type='BottomupPoseEstimator')")
        assert 'BottomupPoseEstimator' in self.error(lambda: load_run(str(path)))

    def test_absent_checkpoint(self):
        assert 'absent.pth' in self.error(lambda: load_run(f'{HEATMAP}=absent.pth'))

    def test_checkpoint_of_another_model(self, heatmap_run, simcc_run, tmp_path):
        run = Run('heatmap', heatmap_run.cfg, simcc_run.checkpoint)
        message = self.error(lambda: compare([run], tmp_path))
        assert 'has no `head.deconv_layers.0.weight`' in message

    def test_unreadable_checkpoint(self, heatmap_run, tmp_path):
        path = tmp_path / 'half.pth'
        whole = Path(heatmap_run.checkpoint).read_bytes()
        run = Run('heatmap', heatmap_run.cfg, str(path))
        sizes = (0, 1, 1000, len(whole) // 2, len(whole) - 1)
        for content in (b'no checkpoint', *(whole[:size] for size in sizes)):
            path.write_bytes(content)
            assert 'half.pth cannot be read' in self.error(lambda: compare([run], tmp_path))

    def test_malicious_checkpoint(self, heatmap_run, tmp_path):
        trace = tmp_path / 'was_here'
        path = tmp_path / 'evil.pth'
        torch.save(dict(state_dict={}, evil=Exploit(trace)), path)
        run = Run('heatmap', heatmap_run.cfg, str(path))
        assert 'evil.pth cannot be read' in self.error(lambda: compare([run], tmp_path))
        assert not trace.exists()

    def test_unknown_decoder(self, heatmap_run, tmp_path):
        assert "'soft'" in self.error(lambda: compare([heatmap_run], tmp_path, ['soft']))

    def test_wrong_decoder_argument(self, heatmap_run, tmp_path):
        decoder = dict(name='cut', type='DAECCodec', corner='middle')
        assert '`corner`' in self.error(lambda: compare([heatmap_run], tmp_path, [decoder]))

    def test_command_line_says_it_in_a_line(self, tmp_path):
        done = run_tool('compare.py', 'absent.py', cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith('compare: config ')


class TestBoxes:
    RES50 = 'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
    FILE = 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'

    def test_other_data_keep_the_boxes_of_the_config(self, tmp_path):
        run = load_run(self.RES50, str(tmp_path))
        assert run.cfg.test_dataloader.dataset.bbox_file == f'{tmp_path}/{self.FILE}'
        assert run.cfg.test_dataloader.dataset.data_root == f'{tmp_path}/'
        assert run.cfg.test_evaluator.ann_file.startswith(f'{tmp_path}/')
        assert run.boxes == 'COCO_val2017_detections_AP_H_56_person.json (detector AP 56)'

    def test_boxes_elsewhere_stay_there(self, tmp_path):
        cfg = read_config(self.RES50)
        cfg.test_dataloader.dataset.bbox_file = '/elsewhere/boxes.json'
        use_data(cfg, str(tmp_path))
        assert cfg.test_dataloader.dataset.bbox_file == '/elsewhere/boxes.json'
        assert Run('a', cfg).boxes == 'boxes.json'

    def test_missing_boxes_stop(self, toy_root, tmp_path):
        run = load_run(self.RES50, toy_root)
        with pytest.raises(CompareError, match=f'no {toy_root}/{self.FILE}.*--gt-boxes') as info:
            compare([run], tmp_path)
        assert '\n' not in str(info.value)

    def test_annotated_boxes_on_request(self, toy_root):
        run = load_run(self.RES50, toy_root, gt_boxes=True)
        run.check_data('test')
        assert run.boxes == 'annotated'

    def test_rows_say_by_which_boxes(self, heatmap_run, toy_root, tmp_path):
        """Detected boxes: fewer people and other centres than annotated."""
        truth = json.loads(Path(toy_root, 'annotations/person_keypoints_val2017.json').read_text())
        boxes = tmp_path / 'toy_detections_AP_H_73_person.json'
        detections = [
            dict(image_id=a['image_id'], category_id=1, bbox=a['bbox'], score=0.9)
            for a in truth['annotations']
        ]
        boxes.write_text(json.dumps(detections[:5]))
        cfg = copy.deepcopy(heatmap_run.cfg)
        cfg.test_dataloader.dataset.bbox_file = str(boxes)
        detected = Run('detected', cfg, heatmap_run.checkpoint)
        annotated = Run('annotated', heatmap_run.cfg, heatmap_run.checkpoint)
        (row,) = compare([detected], tmp_path, ['argmax'])
        assert row.boxes == 'toy_detections_AP_H_73_person.json (detector AP 73)'
        assert flat_table([row]).cells['Boxes'].tolist() == [row.boxes]
        with np.load(f'{row.trainings[0].predictions}.npz') as stored:
            assert len(stored['ids']) == 5
        (line,) = remarks(Study([]), [detected, annotated])
        assert 'detected by toy_detections' in line and 'annotated by annotated' in line


def test_launchers_start_programs():
    srun = Launcher('slurm', 8, '-p gpu --gres=gpu:8').command('-m', 'program', 'argument')
    assert srun[:6] == ['srun', '--ntasks=8', '--kill-on-bad-exit=1', '-p', 'gpu', '--gres=gpu:8']
    torchrun = Launcher('pytorch', 4).command('-m', 'program', 'argument')
    assert '--nproc_per_node=4' in torchrun
    plain = Launcher().command('-m', 'program', 'argument')
    for command, name in ((srun, 'slurm'), (torchrun, 'pytorch'), (plain, 'none')):
        assert command[-5:] == ['-m', 'program', 'argument', '--launcher', name]


@pytest.fixture(scope='module')
def odd_run(tmp_path_factory):
    """Nine people, whom a sampler for two processes fills up to ten."""
    folder = tmp_path_factory.mktemp('odd')
    make_toy_coco(folder / 'data', train=12, val=8, seed=1, workers=1)
    run = with_random_weights(HEATMAP, str(folder / 'data'), folder)
    run.cfg.test_evaluator.append(dict(type='EPE'))
    run.cfg.test_dataloader.batch_size = 2
    run.cfg.test_dataloader.sampler = dict(type='DefaultSampler', shuffle=False, round_up=True)
    return run


@pytest.mark.slow
@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_two_processes_equal_one(odd_run, tmp_path, launcher):
    # not DARK, whose steps have a limit: outputs round by the size of a batch, and some lie near it
    decoders = ['argmax', 'quarter']
    one = compare([odd_run], tmp_path / 'one', decoders)
    two = compare([odd_run], tmp_path / 'two', decoders, Launcher(launcher, 2))
    assert one[0].metrics != one[1].metrics
    for row, other in zip(one, two):
        assert other.metrics == pytest.approx(row.metrics, abs=1e-6)
        files = [r.trainings[0].predictions for r in (row, other)]
        with np.load(f'{files[0]}.npz') as a, np.load(f'{files[1]}.npz') as b:
            assert a.files == b.files and len(a['ids']) == 9
            for name in a.files:
                np.testing.assert_allclose(b[name], a[name], atol=1e-4)
        texts = [Path(f'{file}.keypoints.json').read_text() for file in files]
        assert len(json.loads(texts[0])) == len(json.loads(texts[1]))


def kill_first(word):
    """Wait for a process with a word in its command, and kill it."""
    while True:
        for path in Path('/proc').glob('[0-9]*/cmdline'):
            with contextlib.suppress(OSError):  # it has ended
                command = path.read_bytes()
                launcher = b'torch.distributed.run' in command or command.startswith(b'srun')
                if word in command and not launcher:
                    os.kill(int(path.parent.name), signal.SIGKILL)
                    return
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/cmdline').exists(), reason='processes are read in /proc')
@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_a_killed_worker_ends_an_evaluation_which_goes_on(odd_run, tmp_path, launcher):
    reason = dict(pytorch='SIGKILL', slurm=r'task \d: Killed')[launcher]
    launcher = Launcher(launcher, 2)
    killer = threading.Thread(target=kill_first, args=[f'{tmp_path}/calls'.encode()], daemon=True)
    killer.start()
    with pytest.raises(CompareError, match=rf'evaluate td-hm.*{reason}.*call\.log'):
        compare([odd_run], tmp_path, ['argmax'], launcher)
    assert processes_of(tmp_path / 'calls') == 0
    assert not list(tmp_path.glob('results/*.json'))
    (row,) = compare([odd_run], tmp_path, ['argmax'], launcher)
    assert row.metrics['PCK'] > 0


def with_broken_picture(split, folder):
    """A run whose last picture of a split cannot be decoded, which no look at sizes and at a first
    batch tells."""
    make_toy_coco(folder / 'data', train=12, val=12, seed=1, workers=1)
    *_, last = sorted((folder / 'data' / f'{split}2017').iterdir())
    content = last.read_bytes()
    scan = content.rindex(b'\xff\xda')  # the header says what size it is; its scan is damaged
    last.write_bytes(content[: scan + 2] + b'\0\4\3\0')
    run = with_random_weights(HEATMAP, str(folder / 'data'), folder)
    loader = run.cfg[f'{"test" if split == "val" else split}_dataloader']
    loader.batch_size, loader.sampler.shuffle = 2, False
    return run


@pytest.mark.slow
@pytest.mark.parametrize('launcher', LAUNCHERS)
def test_failed_evaluation_names_its_reason(tmp_path, launcher):
    run = with_broken_picture('val', tmp_path)
    with pytest.raises(CompareError, match=r'AssertionError.*failed to load image.*call\.log'):
        compare([run], tmp_path, ['argmax'], Launcher(launcher, 2))


@pytest.mark.slow
def test_failed_training_names_its_reason(tmp_path):
    run = with_broken_picture('train', tmp_path)
    run.checkpoint = None
    with pytest.raises(CompareError, match='AssertionError.*failed to load image.*train.log'):
        compare([run], tmp_path)


def processes_of(folder):
    """How many running processes name a folder or a file in it."""
    count = 0
    for path in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):  # it has ended
            running = path.joinpath('stat').read_text().rpartition(')')[2].split()[0] != 'Z'
            count += running and str(folder).encode() in (path / 'cmdline').read_bytes()
    return count


needs_proc = pytest.mark.skipif(
    not Path('/proc/self/cmdline').exists(), reason='processes are read in /proc'
)


class Command:
    """``tools/compare.py`` with a training of two epochs, as a process.

    Its metric is an error in pixels: other weights have another.
    """

    def __init__(self, folder, toy_root):
        config = folder / 'short.py'
        config.write_text(
            f"_base_ = ['{HEATMAP}']\n"
            'train_cfg = dict(max_epochs=2)\n'
            'default_hooks = dict(logger=dict(interval=1))\n'
            "test_evaluator = [dict(type='EPE')]\n"
            "custom_hooks = [dict(type='EpochSeedHook')]\n"
        )
        self.words = [sys.executable, ROOT / 'tools/compare.py', config, '--data', toy_root]
        self.env = dict(PYTHONPATH=str(BESIDE_TESTS), OMP_NUM_THREADS='1')

    def start(self, work, *decoders):
        words = [*self.words, '--decoders', *(decoders or ['argmax']), '--work-dir', work]
        return subprocess.Popen(
            list(map(str, words)),
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, work, *decoders):
        """What it prints on stderr."""
        process = self.start(work, *decoders)
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        return errors


def results(work):
    """What tables hold but for times and places."""
    rows = json.loads((work / 'table.json').read_text())
    return [(row['config'], row['decoder'], row['metrics']) for row in rows]


@pytest.fixture
def command(tmp_path, toy_root):
    return Command(tmp_path, toy_root)


@pytest.mark.slow
@needs_proc
def test_terminated_comparison_ends_its_training_and_goes_on(command, tmp_path):
    work = tmp_path / 'work'
    process = command.start(work)
    # interrupted in the second epoch: the first is saved, and data workers run
    while process.poll() is None and not (
        list(work.glob('trainings/*/last_checkpoint')) and processes_of(work / 'trainings') > 1
    ):
        time.sleep(0.1)
    assert process.poll() is None  # a training and its data workers are there
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert processes_of(work) == 0
    (folder,) = work.glob('trainings/*')
    assert not (folder / 'finished.txt').exists()
    command.run(work)
    log = (folder / 'train.log').read_text()
    assert 'resumed epoch: 1' in log
    # the optimizer in one pass, where torch has it for CPUs
    fused = digit_version(torch.__version__) >= digit_version('2.4')
    assert ('fused=True' in log) == fused
    assert (folder / 'finished.txt').read_text() == 'epoch_2.pth\n'


@pytest.mark.slow
@needs_proc
def test_killed_at_any_moment(command, tmp_path):
    """No process is left, and the next start ends with the same tables."""
    start = time.monotonic()
    command.run(tmp_path / 'calm')
    duration = time.monotonic() - start
    work, rng = tmp_path / 'work', random.Random(0)
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        process = command.start(work)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=rng.uniform(0.4, 1) * duration)
        process.send_signal(number)
        process.communicate()
        deadline = time.monotonic() + 120
        while processes_of(work) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(work) == 0
    command.run(work)
    assert results(work) == results(tmp_path / 'calm')


@pytest.mark.slow
def test_two_comparisons_share_a_folder(command, tmp_path):
    """The second waits for the training of the first, and uses it; what only
    one needs is computed by it."""
    work = tmp_path / 'work'
    first, second = command.start(work), command.start(work, 'argmax', 'quarter')
    errors = []
    for process in (first, second):
        errors.append(process.communicate()[1])
        assert process.returncode == 0, errors
    said = [e.count('under way in another process, waiting for it') for e in errors]
    assert sum(e.count('train short: under way') for e in errors) == 1, errors
    assert max(said) > 0
    (folder,) = work.glob('trainings/*')
    log = (folder / 'train.log').read_text()
    assert log.count('Epoch(train) [1][1/') == log.count('Epoch(train) [2][1/') == 1
    assert len(list(work.glob('results/*.npz'))) == 2
    assert not list(work.rglob('.unfinished*'))


def test_trainings_mirror_as_the_config_does(toy_root, tmp_path):
    """A training reads its config from a file, in which MMEngine sorts the keypoints as text."""
    run = load_run(HEATMAP, toy_root)
    metainfo = Config.fromfile(METAINFO).dataset_info
    for loader in (run.cfg.train_dataloader, run.cfg.test_dataloader):
        loader.dataset.metainfo = metainfo
    path = tmp_path / 'config.py'
    training_config(run, tmp_path).dump(path)
    cfg = Config.fromfile(path)
    check_config(cfg)
    assert list(cfg.train_dataloader.dataset.metainfo.keypoint_info)[:3] == [0, 1, 10]
    init_default_scope('mmpose')
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    # COCO's keypoints: the nose, then pairs of left and right
    assert dataset.metainfo['flip_indices'] == [0, *np.arange(1, 17).reshape(-1, 2)[:, ::-1].flat]


@pytest.mark.parametrize(
    'config, how',
    [
        (HEATMAP, 'make_toy_coco.py'),
        (
            'mmpose::face_2d_keypoint/topdown_heatmap/300w/'
            'td-hm_hrnetv2-w18_8xb64-60e_300w-256x256.py',
            "MMPose's documentation",
        ),
    ],
)
def test_says_how_to_get_missing_data(config, how, tmp_path):
    with pytest.raises(CompareError, match=how):
        load_run(config, str(tmp_path)).check_data('test')
