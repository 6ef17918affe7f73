# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from test_compare import HEATMAP, SIMCC, with_random_weights

from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.compare import CompareError, Study, load_study, study_runs
from mmpose_simcc.workbench.compare.decoders import decoders_of
from mmpose_simcc.workbench.compare.report import write_report
from mmpose_simcc.workbench.compare.report.differences import differences
from mmpose_simcc.workbench.compare.report.tables import study_table
from mmpose_simcc.workbench.compare.rows import Row, Training
from mmpose_simcc.workbench.compare.runs import network_identity, training_identity
from mmpose_simcc.workbench.compare.study import VARIANTS, expand_decoders, run_study
from mmpose_simcc.workbench.statistics import Measured
from mmpose_simcc.workbench.toy import make_toy_coco

STUDIES = sorted((ROOT / 'configs' / 'studies').glob('*.yml'))


def make_row(ap, **factors):
    return Row(
        config=str(factors),
        scheme='heatmap',
        decoder='argmax',
        input_size=(64, 64),
        params=1.0,
        paper_gflops=1.0,
        gflops=1.0,
        forward_ms=1.0,
        decode_ms=1.0,
        trainings=[Training('', '', {'coco/AP': ap})],
        factors=factors,
    )


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
        decoders, _ = expand_decoders(study.decoders)
        for run in study_runs(study):
            assert decoders_of(run, decoders)
            assert run.build_codec().input_size is not None

    def test_toy_studies_of_heatmaps_share_a_training(self, tmp_path):
        root = tmp_path / 'toy'
        make_toy_coco(root, train=2, val=2, workers=1)
        trainings = set()
        for path in STUDIES:
            of_a_table = 'table' in path.stem and path.stem.startswith(('dark', 'daec'))
            if of_a_table or path.stem.startswith('border'):
                runs = study_runs(load_study(str(path)), str(root))
                trainings.update(map(training_identity, runs))
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
            if training_identity(run) == training_identity(plain)
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
        assert len(set(map(network_identity, runs))) == len(runs) == 4


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
        decoders, factors = expand_decoders(
            ['argmax', dict(name='daec', type='DAECCodec', each=dict(delta=[-1, 2.5]))]
        )
        assert decoders[0] == 'argmax'
        assert [d['delta'] for d in decoders[1:]] == [-1, 2.5]
        assert [factors[d['name']] for d in decoders[1:]] == [dict(delta=-1), dict(delta=2.5)]


class TestTables:
    rows = [
        make_row(0.61, model='a', unbiased=False),
        make_row(0.64, model='a', unbiased=True),
        make_row(0.72, model='b', unbiased=False),
        make_row(0.70, model='b', unbiased=True),
    ]
    labels = dict(unbiased=dict(title='Encode', values={False: 'Biased', True: 'Unbiased'}))

    def test_factor_in_columns(self):
        study = Study([], rows=['unbiased'], columns='model', labels=self.labels)
        cells, best = study_table(study, self.rows)
        assert cells.columns.tolist() == ['Encode', 'a', 'b']
        assert cells.to_numpy().tolist() == [
            ['Biased', '61.00', '72.00'],
            ['Unbiased', '64.00', '70.00'],
        ]
        assert best.to_numpy().tolist() == [[False, False, True], [False, True, False]]

    def test_metrics_and_costs_in_columns(self):
        study = Study([], rows=['model', 'unbiased'], columns=['#Params', 'AP'], labels=self.labels)
        cells, best = study_table(study, self.rows)
        assert cells.columns.tolist() == ['Model', 'Encode', '#Params', 'AP']
        assert cells.iloc[2].tolist() == ['b', 'Biased', '1.0M', '72.00']
        assert best.iloc[2].tolist() == [False, False, False, True]

    def test_differences_to_a_baseline(self):
        study = Study([], rows=['model', 'unbiased'], baseline=dict(unbiased=False))
        noise = np.random.default_rng(0).normal(0, 5, 1000)
        gains = np.random.default_rng(1).normal(0, 0.5, (4, 1000))
        samples = [61 + noise, 64 + noise + gains[1], 72 + noise, 70 + noise + gains[3]]
        found = differences(study, self.rows, self.measured(samples))
        assert [item.baseline for item in found] == [None, self.rows[0], None, self.rows[2]]
        # paired: the common noise of 5 does not hide a gain of 3
        assert found[1].difference == pytest.approx(3)
        np.testing.assert_allclose(found[1].difference_range, (2, 4), atol=0.2)
        assert [item.verdict for item in found[1::2]] == ['better', 'worse']
        assert np.diff(found[1].range)[0] > 15

    def test_differences_to_the_best(self):
        study = Study([], rows=['model', 'unbiased'])
        found = differences(study, self.rows, self.measured([np.zeros(10)] * 4))
        assert [item.baseline for item in found] == [self.rows[2], self.rows[2], None, self.rows[2]]

    def measured(self, samples):
        return [
            Measured(100 * np.array([row.metrics['coco/AP']]), sample[None], (str(i),), 1000)
            for i, (row, sample) in enumerate(zip(self.rows, samples))
        ]


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The report on two models with made-up weights."""
    folder = tmp_path_factory.mktemp('report')
    make_toy_coco(folder / 'data', train=2, val=10, seed=3, workers=1)
    runs = [
        with_random_weights(config, str(folder / 'data'), folder) for config in (HEATMAP, SIMCC)
    ]
    study = Study(
        [], title='Heatmap & SimCC', claim='<none>', value='PCK', decoders=['argmax', 'dark']
    )
    rows = run_study(study, runs, folder)
    return write_report(study, runs, rows, folder / 'out')


class TestReport:
    def test_files(self, report):
        assert [path.name for path in report] == [
            'index.html',
            'table.md',
            'table.csv',
            'table.json',
            'study.md',
            'differences.md',
            'keypoints.csv',
            'plot.png',
            'plot.svg',
            'samples.png',
            'scores.png',
            'disagreement.png',
        ]
        assert all(path.stat().st_size > 100 for path in report)

    def test_intervals_hold_the_values(self, report):
        text = report[5].read_text()
        values = re.findall(r'\| ([\d.]+) \[([\d.]+), ([\d.]+)\]', text)
        assert len(values) == 4
        for value, low, high in values:
            assert float(low) <= float(value) <= float(high)

    def test_page_refers_to_nothing_outside(self, report):
        page = report[0].read_text()
        sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
        assert len(sources) == 4
        assert all(source.startswith('data:image/') for source in sources)
        assert 'Heatmap &amp; SimCC' in page and '&lt;none&gt;' in page

    @pytest.mark.slow
    def test_page_in_a_browser(self, report, tmp_path):
        browser = shutil.which('chromium') or shutil.which('google-chrome')
        if browser is None:
            pytest.skip('no Chromium here')
        # the page itself has no script: this one reports what was drawn
        script = (
            '<script>onload = () => document.title = "drawn:" + '
            '[...document.images].map(i => i.naturalWidth) + ";" + '
            'document.querySelectorAll("tbody tr").length</script>'
        )
        page = tmp_path / 'page.html'
        page.write_text(report[0].read_text().replace('</body>', script + '</body>'))
        dom = subprocess.run(
            [
                browser,
                '--headless',
                '--no-sandbox',
                '--disable-gpu',
                '--no-first-run',
                '--disable-background-networking',
                '--host-resolver-rules=MAP * ~NOTFOUND',
                f'--user-data-dir={tmp_path}/profile',
                '--dump-dom',
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        widths, lines = re.search(r'drawn:([\d,]+);(\d+)', dom).groups()
        assert all(int(width) > 100 for width in widths.split(','))
        assert int(lines) == 3 * 4 + 3 * 18  # three tables of four rows, three of each keypoint
