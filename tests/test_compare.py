# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import contextlib
import copy
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run_tool
from mmengine.runner import Runner
from mmengine.runner.checkpoint import save_checkpoint
from mmengine.utils import digit_version

from mmpose_simcc.config import set_representation
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import (
    CompareError,
    Launcher,
    Run,
    Study,
    compare,
    named_models,
    study_runs,
)
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.report import remarks
from mmpose_simcc.workbench.compare.runs import (
    check_data,
    forward_identity,
    read_config,
    training_identity,
    use_data,
)
from mmpose_simcc.workbench.compare.tables import flat_table, write_tables
from mmpose_simcc.workbench.toy import make_toy_coco

CONFIGS = ROOT / 'configs' / 'body_2d_keypoint'
HEATMAP = str(CONFIGS / 'topdown_heatmap/toy_coco' / 'td-hm_res18_1xb8-4e_toy-coco-64x64.py')
DARK = HEATMAP.replace('res18_', 'res18_dark-')
SIMCC = str(CONFIGS / 'simcc/toy_coco/simcc_res18_1xb8-4e_toy-coco-64x64.py')


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=12, val=10, seed=1, workers=1)
    return str(root)


def load_run(spec, data_root=None, gt_boxes=False):
    (run,) = study_runs(Study(named_models([spec])), data_root, gt_boxes)
    return run


def with_random_weights(config, toy_root, folder, gt_boxes=False, seed=0):
    """A run with made-up weights, whose loaders work in this process."""
    run = load_run(config, toy_root, gt_boxes)
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


def stock_test(run, decoder, work_dir):
    """What MMEngine's Runner gives with this decoder in the config."""
    cfg = copy.deepcopy(run.cfg)
    cfg.model.head.decoder = decoder
    cfg.work_dir = str(work_dir)
    cfg.load_from = run.checkpoint
    cfg.experiment_name = work_dir.name
    cfg.test_evaluator[0].outfile_prefix = str(work_dir / 'stock')
    metrics = Runner.from_cfg(cfg).test()
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

    def test_tables_hold_the_rows(self, compared, tmp_path):
        _, rows = compared
        markdown, comma, whole = write_tables(rows, tmp_path)
        header, cells = flat_table(rows)
        assert header[10:] == [
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
        assert [c.strip() for c in lines[2].split('|')[1:-1]] == cells[0]
        assert len(lines) == 2 + len(rows)
        assert len(comma.read_text().splitlines()) == 1 + len(rows)
        loaded = json.loads(whole.read_text())
        assert [r['metrics'] for r in loaded] == [r.metrics for r in rows]


class TestIdentity:
    def variant(self, toy_root, codec, head=None, config=HEATMAP):
        run = load_run(config, toy_root)
        set_representation(run.cfg, codec, head)
        return run

    def test_decoders_share_a_training(self, toy_root):
        plain = load_run(HEATMAP, toy_root)
        for codec in (
            dict(type='DAECCodec', unbiased=False),
            dict(type='DARKCodec', unbiased=False),
            dict(type='HeatmapCodec', refine='none'),
        ):
            other = self.variant(toy_root, codec)
            assert training_identity(other) == training_identity(plain)
            assert forward_identity(other, 'w') == forward_identity(plain, 'w')

    @pytest.mark.parametrize(
        'codec',
        [
            dict(type='DARKCodec', unbiased=True),
            dict(type='HeatmapCodec', sigma=3),
            dict(type='HeatmapCodec', input_size=(128, 128)),
        ],
    )
    def test_labels_do_not(self, toy_root, codec):
        plain = load_run(HEATMAP, toy_root)
        other = self.variant(toy_root, codec)
        assert training_identity(other) != training_identity(plain)

    def test_data_count_by_content(self, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        make_toy_coco(tmp_path / 'same', train=12, val=10, seed=1, workers=1)
        make_toy_coco(tmp_path / 'other', train=12, val=10, seed=2, workers=1)
        same = load_run(HEATMAP, str(tmp_path / 'same'))
        other = load_run(HEATMAP, str(tmp_path / 'other'))
        for identity in (training_identity, lambda run: forward_identity(run, 'w')):
            assert identity(same) == identity(run) != identity(other)


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
        path = tmp_path / 'broken.pth'
        path.write_bytes(b'no checkpoint')
        run = Run('heatmap', heatmap_run.cfg, str(path))
        assert 'broken.pth cannot be read' in self.error(lambda: compare([run], tmp_path))

    def test_truncated_checkpoint(self, heatmap_run, tmp_path):
        path = tmp_path / 'half.pth'
        content = Path(heatmap_run.checkpoint).read_bytes()
        run = Run('heatmap', heatmap_run.cfg, str(path))
        for size in (0, 1, 1000, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            assert 'half.pth cannot be read' in self.error(lambda: compare([run], tmp_path))

    @pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version('2.6'),
        reason='torch < 2.6 loads without weights_only',
    )
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
        check_data(run, 'test')
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
        header, (cells,) = flat_table([row])
        assert cells[header.index('Boxes')] == row.boxes
        with np.load(f'{row.trainings[0].predictions}.npz') as stored:
            assert len(stored['ids']) == 5
        (line,) = remarks(Study([]), [detected, annotated])
        assert 'detected by toy_detections' in line and 'annotated by annotated' in line


def test_launchers_start_the_training_program(tmp_path):
    srun = Launcher('slurm', 8, '-p gpu --gres=gpu:8').command(tmp_path)
    assert srun[:6] == ['srun', '--ntasks=8', '--kill-on-bad-exit=1', '-p', 'gpu', '--gres=gpu:8']
    torchrun = Launcher('pytorch', 4).command(tmp_path)
    assert '--nproc_per_node=4' in torchrun
    plain = Launcher().command(tmp_path)
    for command in (srun, torchrun, plain):
        assert 'mmpose_simcc.workbench.compare.train' in command
        assert str(tmp_path) in command


@pytest.mark.slow
def test_failed_training_names_its_reason(toy_root, tmp_path):
    run = load_run(HEATMAP, toy_root)
    run.cfg.model.head.loss.type = 'NoLoss'
    with pytest.raises(CompareError, match='KeyError.*NoLoss.*train.log'):
        compare([run], tmp_path)


def processes_of(folder):
    """How many running processes name a file in a folder."""
    count = 0
    for path in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):  # it has ended
            running = path.joinpath('stat').read_text().rpartition(')')[2].split()[0] != 'Z'
            count += running and f'{folder}/trainings'.encode() in (path / 'cmdline').read_bytes()
    return count


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/cmdline').exists(), reason='processes are read in /proc')
def test_terminated_comparison_ends_its_training_and_goes_on(toy_root, tmp_path, repo_root):
    config = tmp_path / 'short.py'
    config.write_text(
        f"_base_ = ['{HEATMAP}']\n"
        'train_cfg = dict(max_epochs=2)\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
    )
    command = [
        sys.executable,
        repo_root / 'tools/compare.py',
        config,
        '--data',
        toy_root,
        '--decoders',
        'argmax',
        '--work-dir',
        tmp_path / 'work',
    ]
    env = dict(PYTHONPATH=str(repo_root), OMP_NUM_THREADS='1')
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    # interrupted once the first epoch is saved
    while process.poll() is None and not list(tmp_path.glob('work/trainings/*/last_checkpoint')):
        time.sleep(0.1)
    assert processes_of(tmp_path / 'work') > 1  # a training and its data workers
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert processes_of(tmp_path / 'work') == 0
    (folder,) = tmp_path.glob('work/trainings/*')
    assert not (folder / 'finished.txt').exists()
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert 'argmax' in done.stdout
    log = (folder / 'train.log').read_text()
    assert 'resumed epoch: 1' in log
    # the optimizer in one pass, where torch has it for CPUs
    fused = digit_version(torch.__version__) >= digit_version('2.4')
    assert ('fused=True' in log) == fused
    assert (folder / 'finished.txt').read_text() == 'epoch_2.pth\n'
