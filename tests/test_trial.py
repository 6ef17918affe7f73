# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What would fail at the end of a training is told before it."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmpose.datasets.datasets.base import base_coco_style_dataset
from test_compare import HEATMAP, SIMCC, load_run

from mmpose_simcc.utils.console import Progress
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import (
    CompareError,
    Study,
    compare,
    named_models,
    run_study,
    study_runs,
)
from mmpose_simcc.workbench.compare.bootstrap import match_predictions, resampled_values
from mmpose_simcc.workbench.compare.data import load_test_data, use_data, use_hold_out
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.launch import Launcher, Program
from mmpose_simcc.workbench.compare.report.pictures import load_people
from mmpose_simcc.workbench.compare.rows import Training
from mmpose_simcc.workbench.compare.study import check_study
from mmpose_simcc.workbench.compare.trial import try_out, try_training
from mmpose_simcc.workbench.scoring import Scorer
from mmpose_simcc.workbench.statistics import average_precision
from mmpose_simcc.workbench.toy import make_toy_coco

ANNOTATIONS = 'annotations/person_keypoints_val2017.json'


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=4, val=6, seed=1, workers=1)
    return str(root)


@pytest.fixture
def run(toy_root):
    run = load_run(HEATMAP, toy_root)
    run.cfg.test_dataloader.update(num_workers=0, persistent_workers=False)
    return run


def without_area(run, folder):
    dataset = run.cfg.test_dataloader.dataset
    path = Path(dataset.data_root, dataset.ann_file)
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        del annotation['area']
    other = folder / 'without_area.json'
    other.write_text(json.dumps(content))
    dataset.ann_file = run.cfg.test_evaluator.ann_file = str(other)


def option(**options):
    def change(run, folder):
        run.cfg.merge_from_dict({name.replace('__', '.'): v for name, v in options.items()})

    return change


def few_sigmas(run, folder):
    text = Path('configs/_base_/datasets/coco.py')
    import mmpose

    text = Path(mmpose.__file__).parent / '.mim' / text
    other = folder / 'few.py'
    other.write_text(re.sub(r'sigmas=\[.*?\]', 'sigmas=[0.05, 0.05]', text.read_text(), flags=re.S))
    run.cfg.test_dataloader.dataset.metainfo = dict(from_file=str(other))


def grey(run, folder):
    run.cfg.test_dataloader.dataset.pipeline[0].color_type = 'grayscale'


NINE = [(i, i) for i in range(9)]
CASES = {
    'no area': (without_area, "metrics.*KeyError: 'area'|metrics.*area"),
    'workers': (option(test_dataloader__persistent_workers=True), 'test data: .*num_workers'),
    'sigmas': (few_sigmas, 'CocoDataset in `test_dataloader` has 17 keypoints, but 2 `sigmas`'),
    'keypoints': (option(model__head__out_channels=14), '14.*17|17.*14'),
    'backbone': (option(model__backbone__depth=19), 'depth|19'),
    'converter': (
        option(
            test_evaluator__gt_converter=dict(num_keypoints=9, mapping=[(i, i) for i in range(9)])
        ),
        'CocoMetric in `test_evaluator` compares 17 predicted keypoints with 9 annotated ones',
    ),
    'no loss': (option(model__head__loss__type='NoLoss'), 'model cannot be built: .*NoLoss'),
    'one channel': (grey, 'grayscale'),
    'metric': (
        option(
            test_evaluator=dict(
                _delete_=True, type='NME', norm_mode='use_norm_item', norm_item='no_item'
            )
        ),
        'metrics.*no_item',
    ),
}


def unknown_transform(run, folder):
    run.cfg.train_dataloader.dataset.pipeline[0].type = 'LoadNothing'


TRAININGS = {
    'transform': (unknown_transform, 'training data: .*LoadNothing'),
    'NaN': (option(model__head__loss__loss_weight=float('nan')), 'loss of a .*: it is nan before'),
    'weights': (option(load_from='none.pth'), 'there is no none.pth'),
    'backbone': (
        option(model__init_cfg=dict(type='Pretrained', checkpoint='a/b.pth')),
        'there is no a/b.pth',
    ),
    'optimizer': (option(optim_wrapper__optimizer__momentun=0.9), 'optimizer: .*momentun'),
    'no optimizer': (option(optim_wrapper__optimizer__type='Adamm'), 'no optimizer Adamm'),
    'both': (option(optim_wrapper__optimizer=dict(foreach=True, fused=True)), 'optimizer: .*fused'),
    'schedule': (option(param_scheduler=[dict(type='NoLR')]), 'param_scheduler.*NoLR'),
    'hook': (option(custom_hooks=[dict(type='NoHook')]), 'hooks: .*NoHook'),
    'validation': (option(custom_hooks=[dict(type='EarlyStoppingHook', monitor='AP')]), 'Early'),
    'plateau': (option(param_scheduler=[dict(type='ReduceOnPlateauLR')]), 'ReduceOnPlateau'),
}


class TestTrial:
    def test_what_works(self, run):
        trial = try_out(run, decoders_of(run))
        assert list(trial.scores) == list(decoders_of(run))
        assert len(trial.people) == len(trial.outputs[0]) == 4

    @pytest.mark.parametrize('kind', CASES)
    def test_what_would_fail_after_the_training(self, run, kind, tmp_path):
        change, message = CASES[kind]
        change(run, tmp_path)
        with pytest.raises(CompareError, match=message) as error:
            try_out(run, decoders_of(run))
        assert '\n' not in str(error.value) and run.name in str(error.value)

    def test_training(self, run):
        try_training(run, build_model(run.cfg))

    @pytest.mark.parametrize('kind', TRAININGS)
    def test_what_would_fail_when_the_training_has_its_turn(self, run, kind, tmp_path):
        change, message = TRAININGS[kind]
        change(run, tmp_path)
        with pytest.raises(CompareError, match=message) as error:
            try_training(run, build_model(run.cfg))
        assert '\n' not in str(error.value) and run.name in str(error.value)

    def test_before_a_training(self, run, tmp_path):
        run.cfg.model.head.out_channels = 14
        with pytest.raises(CompareError, match='14'):
            compare([run], tmp_path)
        assert not (tmp_path / 'trainings').exists()


class TestNames:
    def vary(self, toy_root, codec, **options):
        return Study(named_models([HEATMAP]), codec, ['quarter', 'dark'], **options)

    def test_varied_names_belong_to_the_label(self, toy_root):
        study = self.vary(toy_root, dict(sigma=[1.5, 2, 3]))
        runs = study_runs(study, toy_root)
        with pytest.raises(CompareError, match='`rows` needs one of .*sigma'):
            check_study(study, runs)
        study.rows = ['model', 'sigma', 'decoder']
        check_study(study, runs)

    @pytest.mark.parametrize(
        'options,message',
        [
            (dict(rows=['modle', 'decoder']), "`rows` names the factor 'modle'; there are"),
            (dict(baseline=dict(decoder='quarterr')), 'no row has .*quarterr.*quarter, dark'),
            (dict(baseline=dict(decodr='quarter')), "`baseline` names the factor 'decodr'"),
            (dict(disagree=['quarter', 'drak']), '`disagree`: no row has .*drak'),
            (dict(plot=dict(x='sgima')), "`plot` names the factor 'sgima'"),
        ],
    )
    def test_mistyped(self, toy_root, tmp_path, options, message):
        study = self.vary(toy_root, {}, **options)
        with pytest.raises(CompareError, match=message):
            run_study(study, study_runs(study, toy_root), tmp_path)

    @pytest.mark.parametrize(
        'name, names',
        [
            ('sigmaa', dict(codec=dict(sigmaa=[1]))),
            ('lr', dict(codec=[dict(lr=1)])),
            ('lrr', dict(schedule=dict(lrr=[1]))),
            ('stock', dict(codec=dict(stock=[1]))),  # SimCCCodec(**stock)
        ],
    )
    def test_nothing_of_the_name_to_vary(self, name, names, toy_root):
        message = f"no '{name}' to vary: the codecs have .*sigma, .*schedule there are lr, epochs"
        with pytest.raises(CompareError, match=message):
            study_runs(Study(named_models([HEATMAP, SIMCC]), **names), toy_root)

    def test_two_models_of_one_name(self, toy_root):
        model = dict(config=HEATMAP, name='a')
        with pytest.raises(CompareError, match='two models are named a'):
            study_runs(Study([model, dict(model)]), toy_root)

    @pytest.mark.parametrize(
        'specs,names,checkpoints',
        [
            (['lr=0.1/cfg.py'], ['cfg'], [None]),
            (['lr=0.1/cfg.py=a=b.pth'], ['cfg'], ['a=b.pth']),
            (['a/x/cfg.py', 'b/x/cfg.py', 'c.py'], ['a/x/cfg', 'b/x/cfg', 'c'], [None] * 3),
            (['cfg.py=a.pth', 'cfg.py=b.pth'], ['cfg=a', 'cfg=b'], ['a.pth', 'b.pth']),
            (['mmpose::a.py=b.pth'], ['mmpose::a'], ['b.pth']),
        ],
    )
    def test_specs(self, specs, names, checkpoints):
        models = named_models(specs)
        assert [model['name'] for model in models] == names
        assert [model['checkpoint'] for model in models] == checkpoints

    def test_flip_tests_as_rows(self, toy_root):
        study = Study(named_models([HEATMAP]), schedule=dict(flip_test=['none', 'stock', 'exact']))
        none, stock, exact = (run.cfg.model for run in study_runs(study, toy_root))
        assert [model.test_cfg.flip_test for model in (none, stock, exact)] == [False, True, True]
        assert stock.type == 'TopdownPoseEstimator' and exact.type == 'ExactFlipPoseEstimator'
        study.schedule = dict(flip_test=['stok'])
        with pytest.raises(CompareError, match="flip_test is 'stok', must be one of none, stock"):
            study_runs(study, toy_root)


def test_scheme_is_that_of_the_labels(toy_root):
    """Decoders know nothing of it."""
    run = load_run(HEATMAP, toy_root)
    assert run.scheme == 'heatmap, biased'
    run.cfg.model.head.decoder = dict(run.head.decoder, type='DARKCodec', unbiased=True)
    assert run.scheme == 'heatmap, biased'


def test_intervals_of_converted_keypoints_and_of_a_second_metric(run, tmp_path):
    """On the images as they are, resamples have the metric's value."""
    nine = dict(num_keypoints=9, mapping=NINE)
    evaluator = run.cfg.test_evaluator
    run.cfg.test_evaluator = [
        dict(evaluator),
        dict(evaluator, prefix='nine', gt_converter=nine, pred_converter=nine),
    ]
    trial = try_out(run, decoders_of(run, ['quarter']))
    keypoints = trial.people.arrays['gt_keypoints'] + 3
    scores = np.linspace(0.5, 1, 4 * 17).reshape(4, 17)
    scorer = Scorer(run.cfg.test_evaluator, trial.people)
    found = scorer(keypoints, scores, tmp_path / 'row')
    training = Training('', str(tmp_path / 'row'), found.metrics)
    sources = resampled_values(run.build_metrics())
    for key in ('coco/AP', 'nine/AP'):
        categories = match_predictions(training, sources[key])
        once = np.ones((1, len(categories[0].annotated)))
        assert average_precision(categories, once)[0] == pytest.approx(found.metrics[key])
    assert found.metrics['coco/AP'] != found.metrics['nine/AP']


class TestData:
    def test_models_of_one_data_set_read_it_once(self, toy_root, tmp_path, monkeypatch):
        read, coco = [], base_coco_style_dataset.COCO
        monkeypatch.setattr(
            base_coco_style_dataset, 'COCO', lambda path: read.append(path) or coco(path)
        )
        shutil.copytree(toy_root, tmp_path / 'data')
        runs = [load_run(config, str(tmp_path / 'data')) for config in (HEATMAP, SIMCC)]
        shared = [load_test_data(run.cfg).dataset for run in runs]
        people = load_people(runs[0])
        assert len(read) == 1 and len(people.people) == len(shared[0]) == len(shared[1])
        assert [len(d.pipeline.transforms) for d in shared] == [
            len(run.cfg.test_dataloader.dataset.pipeline) for run in runs
        ]
        path = runs[0].annotation_files[0]
        content = json.loads(path.read_text())
        content['annotations'].pop()
        path.write_text(json.dumps(content))
        assert len(load_test_data(runs[1].cfg).dataset) == len(shared[1]) - 1

    def test_people_have_the_keypoints_of_the_model(self, run):
        first = load_people(run).people[0]
        two = dict(type='KeypointConverter', num_keypoints=2, mapping=[(5, 1), (6, 0)])
        run.cfg.test_dataloader.dataset.pipeline.insert(1, two)
        converted = load_people(run).people[0]
        np.testing.assert_array_equal(converted.keypoints, first.keypoints[[6, 5]])
        np.testing.assert_array_equal(converted.labelled, first.labelled[[6, 5]])

    def with_root(self, toy_root, **dataset):
        run = load_run(HEATMAP, toy_root)
        run.cfg.test_dataloader.dataset.update(dataset)
        return run.cfg

    @pytest.mark.parametrize('joined', [False, True])
    def test_other_data_whatever_way_the_path_is_written(self, joined, tmp_path):
        old = '/data/a/'
        cfg = self.with_root(
            old,
            data_root=old,
            ann_file=(old if joined else '') + ANNOTATIONS,
            data_prefix=dict(img=(old if joined else '') + 'val2017/'),
        )
        cfg.test_evaluator.ann_file = old + ANNOTATIONS
        use_data(cfg, str(tmp_path))
        dataset = cfg.test_dataloader.dataset
        assert Path(dataset.data_root, dataset.ann_file) == tmp_path / ANNOTATIONS
        assert Path(dataset.data_root, dataset.data_prefix.img) == tmp_path / 'val2017'
        assert Path(cfg.test_evaluator.ann_file) == tmp_path / ANNOTATIONS

    def test_no_root(self, toy_root):
        cfg = load_run(HEATMAP).cfg
        for node in (cfg, cfg.train_dataloader.dataset, cfg.test_dataloader.dataset):
            node.pop('data_root', None)
        cfg.pop('val_dataloader')
        with pytest.raises(CompareError, match='has no `data_root`'):
            use_data(cfg, toy_root)

    def test_hold_out_reads_as_the_training_does(self, toy_root, tmp_path):
        """Paths are compared as places; type, metainfo and converters are the training's."""
        run = load_run(HEATMAP, toy_root)
        cfg = run.cfg
        cfg.test_evaluator.ann_file = os.path.relpath(cfg.test_evaluator.ann_file)
        train = cfg.train_dataloader.dataset
        train.type, train.metainfo = 'CrowdPoseDataset', dict(from_file='own.py')
        converter = dict(type='KeypointConverter', num_keypoints=17, mapping=[(0, 0)])
        train.pipeline.insert(1, copy.deepcopy(converter))
        cfg.test_dataloader.dataset.pipeline.insert(1, dict(converter, num_keypoints=99))
        use_hold_out(cfg, tmp_path)
        test = cfg.test_dataloader.dataset
        assert test.type == 'CrowdPoseDataset' and test.metainfo == train.metainfo
        assert test.pipeline[1] == converter and test.test_mode
        assert [step.type for step in test.pipeline].count('KeypointConverter') == 1
        assert test.pipeline[-1].type == 'PackPoseInputs' and train.pipeline[-1] != test.pipeline
        assert cfg.test_evaluator.ann_file == test.ann_file
        assert 'held_out' in test.ann_file

    def test_hold_out_of_combined_data(self, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        cfg = run.cfg
        train = cfg.train_dataloader.dataset
        pipeline = train.pop('pipeline')
        converter = dict(type='KeypointConverter', num_keypoints=17, mapping=[(0, 0)])
        cfg.train_dataloader.dataset = dict(
            type='CombinedDataset',
            metainfo=dict(from_file='configs/_base_/datasets/coco.py'),
            datasets=[dict(train, pipeline=[converter]), dict(train, pipeline=[])],
            pipeline=pipeline,
        )
        use_hold_out(cfg, tmp_path)
        first, second = cfg.train_dataloader.dataset.datasets
        assert first.ann_file == second.ann_file and 'kept' in first.ann_file
        test = cfg.test_dataloader.dataset
        assert test.type == 'CombinedDataset' and len(test.datasets) == 1
        assert [step.type for step in test.datasets[0].pipeline] == ['KeypointConverter']
        assert test.pipeline[-1].type == 'PackPoseInputs'

    def test_metric_of_other_annotations(self, toy_root, tmp_path):
        cfg = load_run(HEATMAP, toy_root).cfg
        cfg.test_evaluator.ann_file = str(tmp_path / 'other.json')
        with pytest.raises(CompareError, match='other.json, which is not the annotation file'):
            use_hold_out(cfg, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 11), reason='Python has no safe path')
def test_modules_in_the_folder_of_the_user(tmp_path, monkeypatch):
    """A training is started with ``-m``, by which Python looks in the working directory first."""
    (tmp_path / 'random.py').write_text('raise ImportError("of the user")')
    monkeypatch.chdir(tmp_path)
    with Progress() as progress:
        task = progress.add('call')
        program = Program('call', (print, ('begun',)), tmp_path / 'log', Launcher(), task)
        while not program.is_finished():
            pass
    assert 'begun' in (tmp_path / 'log').read_text()


@pytest.mark.slow
def test_the_number_of_a_finished_program_may_be_anothers(tmp_path):
    """Hours later, when its log is closed."""
    with Progress() as progress:
        task = progress.add('nothing')
        program = Program('nothing', (print, ()), tmp_path / 'log', Launcher(), task)
        while not program.is_finished():
            pass
    other = subprocess.Popen(['sleep', '60'], start_new_session=True)
    try:
        program._process.pid = other.pid  # as the system may give it
        program.end()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.slow
def test_a_failing_training_does_not_end_the_others(toy_root, tmp_path):
    runs = [load_run(HEATMAP, toy_root) for _ in range(2)]
    for run, name in zip(runs, ('bad', 'good')):
        run.name = name
        run.cfg.train_cfg.max_epochs = 1
        run.cfg.model.backbone.pop('init_cfg', None)
    runs[0].cfg.train_cfg.no_such_argument = 1
    with pytest.raises(CompareError, match='training bad failed'):
        compare(runs, tmp_path, ['quarter'])
    assert list(tmp_path.glob('trainings/good-*/finished.txt'))
    assert not list(tmp_path.glob('trainings/bad-*/finished.txt'))
