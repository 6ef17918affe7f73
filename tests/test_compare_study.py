# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from test_compare import HEATMAP, SIMCC

from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import (
    CompareError,
    Study,
    load_study,
    study_runs,
)
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.study import VARIANTS, planned_rows
from mmpose_simcc.workbench.identity import network_identity, training_identity
from mmpose_simcc.workbench.toy import make_toy_coco

STUDIES = sorted((ROOT / 'configs' / 'studies').glob('*.yml'))


class TestReadyStudies:
    def test_there_is_one_for_each_ablation(self):
        assert len([path for path in STUDIES if path.stem[:4] in ('dark', 'daec', 'simc')]) == 12

    @pytest.mark.parametrize('variant', [None, *VARIANTS])
    @pytest.mark.parametrize('path', STUDIES, ids=lambda path: path.stem)
    def test_builds(self, path, variant):
        if variant and variant not in Config.fromfile(path):
            pytest.skip(f'has no part {variant}')
        study = load_study(str(path), variant)
        study.split = 'test'  # there are no data to split
        for run in study_runs(study):
            assert decoders_of(run, study.decoders)
            assert run.build_codec().input_size is not None

    def test_toy_studies_of_heatmaps_share_a_training(self, tmp_path):
        root = tmp_path / 'toy'
        make_toy_coco(root, train=2, val=2, workers=1)
        trainings = set()
        for path in STUDIES:
            of_a_table = 'table' in path.stem and path.stem.startswith(('dark', 'daec'))
            if of_a_table or path.stem.startswith('border'):
                runs = study_runs(load_study(str(path)), str(root))
                trainings.update(training_identity(run.cfg) for run in runs)
        assert len(trainings) == 2  # biased and unbiased labels

    def test_studies_of_simcc_share_the_standard_training(self, tmp_path):
        """A value that is the default, written out, is the same."""
        root = tmp_path / 'toy'
        make_toy_coco(root, train=2, val=2, workers=1)
        (plain,) = study_runs(Study([dict(name='plain', config=SIMCC)]), str(root))
        table5 = next(p for p in STUDIES if p.stem.startswith('simcc_table5'))
        same = [
            run
            for run in study_runs(load_study(str(table5)), str(root))
            if training_identity(run.cfg) == training_identity(plain.cfg)
        ]
        assert [run.factors['label_smoothing'] for run in same] == ['gaussian']

    @pytest.mark.parametrize('full', [None, 'full'])
    def test_deconvolutions_are_where_the_study_says(self, full):
        path = next(p for p in STUDIES if 'deconvolution' in p.stem)
        for run in study_runs(load_study(str(path), full)):
            with torch.device('meta'):
                model = build_model(run.cfg)
            has = any(
                isinstance(module, torch.nn.ConvTranspose2d) for module in model.head.modules()
            )
            assert has == (run.factors['deconvolution'] == 'yes'), run.name

    def test_complexities_of_input_sizes_are_not_shared(self):
        figure3 = next(p for p in STUDIES if 'figure3' in p.stem)
        runs = study_runs(load_study(str(figure3)))
        assert len({network_identity(run.cfg) for run in runs}) == len(runs) == 4


class TestStudyFile:
    def write(self, tmp_path, text):
        path = tmp_path / 'study.yml'
        path.write_text(text)
        return str(path)

    def test_unknown_name(self, tmp_path):
        path = self.write(tmp_path, 'models: [a.py]\nsmoothing: [none]\n')
        with pytest.raises(CompareError, match='`smoothing` is not one of'):
            load_study(path)

    def test_without_models(self, tmp_path):
        with pytest.raises(CompareError, match='no `models`'):
            load_study(self.write(tmp_path, 'title: none\n'))

    def test_without_full(self, tmp_path):
        with pytest.raises(CompareError, match='no part `full`'):
            load_study(self.write(tmp_path, 'models: [a.py]\n'), 'full')

    def test_python_file(self, tmp_path):
        path = tmp_path / 'study.py'
        path.write_text(f'models = [{HEATMAP!r}]\ncodec = dict(unbiased=[False, True])\n')
        runs = study_runs(load_study(str(path)))
        assert [run.factors['unbiased'] for run in runs] == [False, True]


class TestVariation:
    def test_all_combinations(self):
        codec = dict(
            simcc_split_ratio=[1, 2], label_smoothing=['equal'], input_size=[[64, 64], [128, 96]]
        )
        runs = study_runs(Study([SIMCC], codec))
        codecs = [run.build_codec() for run in runs]
        assert [(c.simcc_split_ratio, c.input_size) for c in codecs] == [
            (1, (64, 64)),
            (1, (128, 96)),
            (2, (64, 64)),
            (2, (128, 96)),
        ]
        assert {c.label_smoothing for c in codecs} == {'equal'}
        assert runs[1].cfg.model.head.in_featuremap_size == (4, 3)

    def test_arguments_apply_where_the_codec_has_them(self):
        codec = dict(unbiased=[False, True], simcc_split_ratio=[1, 2, 3])
        runs = study_runs(Study([HEATMAP, SIMCC], codec))
        assert [run.scheme for run in runs] == [
            'heatmap, biased',
            'heatmap, unbiased',
            'SimCC, gaussian, k=1',
            'SimCC, gaussian, k=2',
            'SimCC, gaussian, k=3',
        ]

    def test_invalid_value(self):
        with pytest.raises(CompareError, match='simcc_split_ratio'):
            study_runs(Study([SIMCC], dict(simcc_split_ratio=[0.5])))

    def test_training_split(self):
        (run,) = study_runs(Study([HEATMAP], split='train'))
        train, test = run.cfg.train_dataloader.dataset, run.cfg.test_dataloader.dataset
        path = Path(train.data_root, train.ann_file).resolve()
        # the roots of configs are relative
        assert Path(test.data_root, test.ann_file) == path
        assert Path(run.cfg.test_evaluator.ann_file) == path
        assert 'val2017' in run.cfg.val_evaluator.ann_file

    def test_decoders_with_each(self):
        daec = dict(name='daec', type='DAECCodec', each=dict(delta=[-1, 2.5]), factors=dict(a=1))
        study = Study([HEATMAP], decoders=['argmax', daec])
        runs = study_runs(study)
        codecs = decoders_of(runs[0], study.decoders)
        assert [*codecs] == ['argmax', 'daec delta=-1', 'daec delta=2.5']
        assert [codec.get('delta') for codec in codecs.values()] == [None, -1, 2.5]
        rows = planned_rows(study, runs)
        assert [(row.get('a'), row.get('delta')) for row in rows] == [
            (None, None),
            (1, -1),
            (1, 2.5),
        ]
