# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Several trainings of a model, hold-outs and schedules."""

import json
from pathlib import Path

import compare as compare_tool  # tools/compare.py
import pytest
from test_compare import HEATMAP, load_run

from mmpose_simcc.workbench.compare import CompareError, Study, named_models, study_runs
from mmpose_simcc.workbench.compare.data import use_hold_out
from mmpose_simcc.workbench.compare.runs import vary
from mmpose_simcc.workbench.hold_out import hold_out
from mmpose_simcc.workbench.identity import training_identity
from mmpose_simcc.workbench.toy import make_toy_coco


@pytest.fixture(scope='module')
def toy_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=20, val=8, seed=1, workers=1)
    return str(root)


class TestTrainings:
    def test_seeds_follow_the_configs_own(self, toy_root):
        (run,) = study_runs(Study(named_models([HEATMAP]), seeds=3), toy_root)
        run.cfg.randomness.seed = 5
        trainings = run.trainings()
        assert [training.cfg.randomness.seed for training in trainings] == [5, 6, 7]
        assert len({training.name for training in trainings}) == 3
        assert training_identity(trainings[0].cfg) == training_identity(run.cfg)
        assert len({training_identity(training.cfg) for training in trainings}) == 3

    def test_a_checkpoint_is_one(self, toy_root):
        run = load_run(HEATMAP, toy_root)
        run.seeds, run.checkpoint = 3, 'a.pth'
        assert run.trainings() == [run]


class TestHoldOut:
    @staticmethod
    def split(paths, folder):
        kept, held_out = hold_out([(path, path.parent) for path in paths], folder)
        return [*kept, held_out]

    def test_a_picture_in_several_sets(self, toy_root, tmp_path):
        """In the same file twice, or in another one: it is held out of all."""
        path = Path(toy_root, 'annotations/person_keypoints_train2017.json')
        content = json.loads(path.read_text())
        for image in content['images']:
            image['id'] += 1000
        for annotation in content['annotations']:
            annotation['image_id'] += 1000
        other = path.with_name('other.json')
        other.write_text(json.dumps(content))
        try:
            *kept, held_out = self.split([path, other, path], tmp_path)
        finally:
            other.unlink()
        names = [
            {image['file_name'] for image in json.loads(p.read_text())['images']}
            for p in (*kept, held_out)
        ]
        assert names[0] == names[1] == names[2] and not names[0] & names[3]
        assert kept[0] == kept[2]

    @pytest.mark.parametrize('number', [1, 2])
    def test_few_pictures(self, number, tmp_path):
        images = [dict(id=i, file_name=f'{i}.jpg') for i in range(number)]
        path = tmp_path / 'few.json'
        path.write_text(json.dumps(dict(images=images, annotations=[])))
        if number == 1:
            with pytest.raises(ValueError, match='must have 2 images, one to hold out, but has 1'):
                self.split([path], tmp_path)
        else:
            assert [
                len(json.loads(p.read_text())['images']) for p in self.split([path], tmp_path)
            ] == [1, 1]

    def test_parts(self, toy_root, tmp_path):
        path = Path(toy_root, 'annotations/person_keypoints_train2017.json')
        whole, *parts = [
            json.loads(p.read_text()) for p in (path, *self.split([path], tmp_path / 'parts'))
        ]
        ids = [{image['id'] for image in part['images']} for part in parts]
        assert [len(i) for i in ids] == [16, 4] and not ids[0] & ids[1]
        for part, of_part in zip(parts, ids):
            assert {a['image_id'] for a in part['annotations']} <= of_part
            assert part['categories'] == whole['categories']
        assert sum(len(part['annotations']) for part in parts) == len(whole['annotations'])
        again, _ = self.split([path], tmp_path / 'again')
        assert again.read_text() == json.dumps(parts[0])

    def test_trains_and_tests_on_the_parts(self, toy_root, tmp_path):
        study = Study(named_models([HEATMAP]), split='hold_out')
        (run,) = study_runs(study, toy_root, work_dir=tmp_path)
        test_file = run.cfg.test_dataloader.dataset.ann_file
        assert 'kept' in run.cfg.train_dataloader.dataset.ann_file
        assert 'held_out' in test_file and run.cfg.test_evaluator.ann_file == test_file
        assert run.cfg.test_dataloader.dataset.data_prefix.img == 'train2017/'
        assert training_identity(run.cfg) != training_identity(load_run(HEATMAP, toy_root).cfg)

    @pytest.mark.slow  # draws in several processes
    def test_toy_data_are_drawn_before_they_are_split(self, repo_root, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(compare_tool, 'TOY_DATA', dict(train=5, val=1, seed=1))
        study = repo_root / 'configs/studies/toy_recipe.yml'
        monkeypatch.setattr('sys.argv', ['compare.py', '--study', str(study)])
        _, runs, _ = compare_tool.read_study(compare_tool.parse_args())
        assert len(runs) == 12 and Path('data/toy_coco/toy.json').is_file()
        assert {Path(r.cfg.train_dataloader.dataset.ann_file).is_file() for r in runs} == {True}

    def test_other_layouts_are_refused(self, toy_root, tmp_path):
        run = load_run(HEATMAP, toy_root)
        path = tmp_path / 'mpii.json'
        path.write_text('[]')
        run.cfg.train_dataloader.dataset.ann_file = str(path)
        with pytest.raises(CompareError, match='mpii.json has no `images` and `annotations`'):
            use_hold_out(run.cfg, tmp_path)


class TestSchedule:
    CONFIG = (
        'mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_hrnet-w32_8xb64-210e_coco-256x192.py'
    )

    def test_stock_config(self):
        cfg = vary(load_run(self.CONFIG).cfg, {}, dict(lr=1e-3, epochs=105))
        warm_up, steps = cfg.param_scheduler
        assert warm_up.end == 500  # iterations
        assert (steps.milestones, steps.end) == ([85, 100], 105)
        assert cfg.train_cfg.max_epochs == 105 and cfg.optim_wrapper.optimizer.lr == 1e-3

    def test_varies_runs(self, toy_root):
        study = Study(named_models([HEATMAP]), schedule=dict(lr=[1e-3, 2e-3], epochs=[2, 4]))
        runs = study_runs(study, toy_root)
        assert [run.factors['lr'] for run in runs] == [1e-3, 1e-3, 2e-3, 2e-3]
        assert [run.cfg.param_scheduler[1].T_max for run in runs] == [2, 4, 2, 4]
        assert len({training_identity(run.cfg) for run in runs}) == 4

    def test_a_single_scheduler(self, toy_root):
        cfg = load_run(HEATMAP, toy_root).cfg
        cfg.param_scheduler = dict(type='StepLR', step_size=2)
        assert vary(cfg, {}, dict(epochs=8)).param_scheduler.step_size == 4

    def test_of_one_model(self, toy_root):
        """It is as if its config had it; what the study varies comes on top."""
        models = [dict(config=HEATMAP), dict(config=HEATMAP, name='b', schedule=dict(epochs=8))]
        study = Study(models, schedule=dict(lr=[1e-3, 2e-3]))
        runs = study_runs(study, toy_root)
        assert [run.cfg.param_scheduler[1].T_max for run in runs] == [4, 4, 8, 8]
        assert [run.cfg.optim_wrapper.optimizer.lr for run in runs] == 2 * [1e-3, 2e-3]
        assert [run.name for run in runs[2:]] == ['b, lr 0.001', 'b, lr 0.002']
        study.schedule = dict(epochs=[2])
        assert [run.cfg.train_cfg.max_epochs for run in study_runs(study, toy_root)] == [2, 2]

    def test_configs_without_it(self, toy_root):
        cfg = load_run(HEATMAP, toy_root).cfg
        cfg.train_cfg = dict(by_epoch=False, max_iters=100)
        with pytest.raises(CompareError, match='no `train_cfg.max_epochs`'):
            vary(cfg, {}, dict(epochs=2))
