# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a comparison shows: tables, verdicts, plots and the page."""

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from test_compare import HEATMAP, SIMCC, load_run, with_random_weights

from mmpose_simcc.workbench.compare import CompareError, Study, run_study
from mmpose_simcc.workbench.compare.bootstrap import measure
from mmpose_simcc.workbench.compare.report import print_table, remarks, write_report
from mmpose_simcc.workbench.compare.report.differences import Difference, differences
from mmpose_simcc.workbench.compare.report.keypoints import keypoint_tables
from mmpose_simcc.workbench.compare.report.page import choose_pair
from mmpose_simcc.workbench.compare.report.pictures import (
    StoredPredictions,
    disagreements,
    load_people,
)
from mmpose_simcc.workbench.compare.report.plots import plot_study
from mmpose_simcc.workbench.compare.report.tables import (
    Column,
    Table,
    difference_table,
    flat_table,
    study_table,
)
from mmpose_simcc.workbench.compare.rows import (
    Row,
    Training,
    best_row,
    main_metric,
    metric_key,
    shown_metrics,
    unit_factor,
)
from mmpose_simcc.workbench.statistics import Measured
from mmpose_simcc.workbench.toy import make_toy_coco


def make_row(*trainings, test_data='', decoder='argmax', config='a', **factors):
    """A row whose trainings have these metrics, or APs."""
    metrics = [t if isinstance(t, dict) else {'coco/AP': t} for t in trainings]
    return Row(
        config=config,
        scheme='heatmap',
        decoder=decoder,
        input_size=(64, 48),
        params=1.0,
        paper_gflops=1.0,
        gflops=1.0,
        forward_ms=1.0,
        decode_ms=1.0,
        trainings=[Training(f'{factors}-{i}.pth', '', values) for i, values in enumerate(metrics)],
        test_data=test_data,
        factors=factors,
    )


def cells_of(table):
    """Header, cells, and the best of them."""
    best = table.cells.to_numpy()[table.best.to_numpy()].tolist()
    return table.cells.columns.tolist(), table.cells.to_numpy().tolist(), best


ROWS = [
    make_row(0.61, model='a', unbiased=False),
    make_row(0.64, model='a', unbiased=True),
    make_row(0.72, model='b', unbiased=False),
    make_row(0.70, model='b', unbiased=True),
]
LABELS = dict(unbiased=dict(title='Encode', values={False: 'Biased', True: 'Unbiased'}))


class TestMetrics:
    @pytest.mark.parametrize(
        'metrics, expected',
        [
            ({'coco/AR': 0.6, 'coco/AP': 0.5}, 'AP'),
            ({'crowdpose/AP': 0.5, 'crowdpose/AP(E)': 0.6}, 'AP'),
            ({'Head PCK': 90.0, 'PCK': 80.0, 'PCK@0.1': 30.0}, 'PCK'),
            ({'EPE': 2.0, 'NME': 0.1}, 'NME'),
        ],
    )
    def test_main_one(self, metrics, expected):
        row = make_row(metrics)
        assert main_metric([row]) == expected
        assert metric_key([row], expected).split('/')[-1] == expected

    def test_of_one_name_have_their_whole_names(self):
        row = make_row({'a/PCK': 0.5, 'b/PCK': 0.7, 'a/NME': 0.1, 'b/NME': 0.2})
        names = ['a/PCK', 'b/PCK', 'a/NME', 'b/NME']
        headings = ['a/PCK', 'b/PCK', 'a/NME (%)', 'b/NME (%)']
        assert list(shown_metrics([row]).values()) == names
        assert flat_table([row]).cells.columns.tolist()[-4:] == headings
        assert study_table(Study([], rows=[]), [row]).cells.columns.tolist() == headings
        assert metric_key([row]) == 'a/PCK'
        with pytest.raises(CompareError, match='no metric PCK; there are a/PCK, b/PCK, a/NME'):
            metric_key([row], 'PCK')

    def test_without_sigmas_coco_comes_last(self):
        metrics = {'coco/AP': 0.5, 'coco/AR': 0.6, 'PCK': 0.8, 'EPE': 3.0, 'ECE': 0.1}
        row = replace(make_row(metrics), known_sigmas=False)
        assert list(shown_metrics([row]).values()) == ['PCK', 'EPE', 'AP', 'AR', 'ECE']
        assert main_metric([row]) == 'PCK'
        assert main_metric([make_row(metrics)]) == 'AP'

    def test_units(self):
        expected = {'mpii/PCK': 1, 'mpii/PCK@0.1': 1, 'mpii/Head PCK': 1}  # in percent already
        expected.update(PCK=100, NME=100, EPE=1, ECE=100)
        row = make_row(dict.fromkeys(expected, 0.5))
        assert {key: unit_factor(row, key) for key in row.metrics} == expected

    def test_mean_and_spread(self):
        row = make_row(0.5, 0.54, 0.58)
        assert row.metrics['coco/AP'] == pytest.approx(0.54)
        assert row.spread('coco/AP') == pytest.approx(0.04)
        assert flat_table([row]).cells.AP.tolist() == ['0.540 ± 0.040']

    def test_lower_is_better(self):
        rows = [
            make_row(dict(NME=n, EPE=e), model=m) for n, e, m in ((0.04, 3, 'a'), (0.05, 2, 'b'))
        ]
        assert best_row(rows, 'NME') is rows[0] and best_row(rows, 'EPE') is rows[1]
        header, cells, best = cells_of(study_table(Study([], rows=['model']), rows))
        assert header == ['Model', 'NME (%)', 'EPE (px)'] and best == ['4.00', '2.00']
        assert cells == [['a', '4.00', '3.00'], ['b', '5.00', '2.00']]
        assert flat_table(rows).cells.iloc[0].tolist()[-2:] == ['4.000', '3.000']


class TestStudyTable:
    def test_factor_in_columns(self):
        study = Study([], rows=['unbiased'], columns='model', labels=LABELS)
        header, cells, best = cells_of(study_table(study, ROWS))
        assert header == ['Encode', 'a', 'b'] and best == ['72.00', '64.00']
        assert cells == [['Biased', '61.00', '72.00'], ['Unbiased', '64.00', '70.00']]

    def test_combinations_that_there_are_not(self):
        study = Study([], rows=['unbiased'], columns='model')
        _, cells, _ = cells_of(study_table(study, ROWS[:3]))
        assert cells == [['False', '61.00', '72.00'], ['True', '64.00', '-']]

    def test_metrics_and_costs_in_columns(self):
        study = Study([], rows=['model', 'unbiased'], columns=['#Params', 'AP'], labels=LABELS)
        header, cells, best = cells_of(study_table(study, ROWS))
        assert header == ['Model', 'Encode', '#Params', 'AP'] and best == ['72.00']
        assert cells[2] == ['b', 'Biased', '1.0M', '72.00']

    def test_no_row_is_lost(self):
        """Where the study's factors do not tell them apart."""
        _, cells, _ = cells_of(study_table(Study([], rows=['model']), ROWS))
        assert [line[-1] for line in cells] == ['61.00', '64.00', '72.00', '70.00']

    def test_rows_of_other_data_are_not_compared(self):
        rows = [make_row(0.5, test_data='x', model='a'), make_row(0.6, test_data='y', model='b')]
        assert cells_of(study_table(Study([], rows=['model']), rows))[2] == []


NAMES = ('a|b', '[/x]', '[bold]c[/]', '**d**', '<e>')


class TestRenderers:
    """Names are taken for no markup."""

    def test_markdown(self):
        table = Table.of(['x|y', 'z'], [NAMES, Column(['1'] * 5, [True] * 5)])
        header, _, *lines = table.markdown().splitlines()
        assert header == '| x\\|y       | z     |'
        cells = [re.split(r'(?<!\\)\|', line) for line in lines]
        assert [c[1].strip().replace('\\|', '|') for c in cells] == list(NAMES)
        assert {c[2].strip() for c in cells} == {'**1**'}

    def test_terminal(self):
        rows = [make_row(0.5, config=name, decoder=name) for name in NAMES]
        text = io.StringIO()
        print_table(rows, Console(file=text, width=100))
        assert all(name in text.getvalue().splitlines() for name in NAMES)
        assert all(f'\n  {name} ' in text.getvalue() for name in NAMES)

    def test_terminal_marks_the_best(self):
        rows = [make_row(dict(EPE=3.0), decoder='x'), make_row(dict(EPE=2.0), decoder='y')]
        text = io.StringIO()
        print_table(
            rows, Console(file=text, force_terminal=True, width=100, color_system='standard')
        )
        (marked,) = [line for line in text.getvalue().splitlines() if '\x1b[1;32m' in line]
        assert '2.000' in marked and 'EPE (px)' in text.getvalue()

    def test_terminal_of_80_columns_has_room_for_coco(self):
        metrics = {
            f'coco/{name}': 0.5 for name in ('AP', 'AP .5', 'AP .75', 'AP (M)', 'AP (L)', 'AR')
        }
        row = make_row({**metrics, 'ECE': 0.27, 'AUROC': 0.5}, decoder='daec_symmetric')
        text = io.StringIO()
        print_table([row], Console(file=text, width=80))
        header, *_, line = text.getvalue().splitlines()
        assert 'AUROC' in header and line.startswith('  daec_symmetric') and '27.000' in line
        assert max(map(len, (header, line))) <= 80


def measured(samples, rows=ROWS):
    return [
        Measured(100 * np.array([row.metrics['coco/AP']]), sample[None], (str(i),), 1000)
        for i, (row, sample) in enumerate(zip(rows, samples))
    ]


class TestDifferences:
    def test_to_a_baseline(self):
        study = Study([], rows=['model', 'unbiased'], baseline=dict(unbiased=False))
        noise = np.random.default_rng(0).normal(0, 5, 1000)
        gains = np.random.default_rng(1).normal(0, 0.5, (4, 1000))
        samples = [61 + noise, 64 + noise + gains[1], 72 + noise, 70 + noise + gains[3]]
        found = differences(study, ROWS, measured(samples))
        assert [item.baseline for item in found] == [None, ROWS[0], None, ROWS[2]]
        # paired: the common noise of 5 does not hide a gain of 3
        assert found[1].difference == pytest.approx(3)
        np.testing.assert_allclose(found[1].difference_range, (2, 4), atol=0.2)
        assert [item.verdict for item in found[1::2]] == ['better', 'worse']
        assert np.diff(found[1].range)[0] > 15
        _, cells, _ = cells_of(difference_table(replace(study, value='AP'), found))
        assert cells[0][2:] == ['-'] * 4
        assert cells[1][::5] == ['a, True', 'better'] and cells[1][2] == 'a, False'
        assert cells[1][3].startswith('+3.00 [+') and cells[1][4] == '< 0.001'

    def test_to_the_best(self):
        study = Study([], rows=['model', 'unbiased'])
        found = differences(study, ROWS, measured([np.zeros(10)] * 4))
        assert [item.baseline for item in found] == [ROWS[2], ROWS[2], None, ROWS[2]]

    def test_on_the_same_data_alone(self):
        rows = [
            make_row(ap, test_data=data, model=str(ap))
            for ap, data in ((1, 'x'), (2, 'x'), (3, 'y'))
        ]
        found = differences(Study([], rows=['model']), rows, measured([np.zeros(10)] * 3, rows))
        assert [item.baseline for item in found] == [rows[1], None, None]

    def test_the_best_counts_for_all_pairs(self):
        """Found afterwards it could have been any; named, it is one."""
        rows = [make_row(0.5 + 0.001 * i, model=str(i)) for i in range(6)]
        samples = [np.random.default_rng(i).normal(0, 0.1, 1000) for i in range(6)]
        picked = differences(Study([], rows=['model']), rows, measured(samples, rows))
        named = Study([], rows=['model'], baseline=dict(model='5'))
        named = differences(named, rows, measured(samples, rows))
        for one, other in zip(picked[:-1], named[:-1]):
            assert one.baseline is other.baseline is rows[5]
            assert one.difference_range == other.difference_range
            assert one.p_value >= other.p_value
        # p = 0.005: too much for one of 15 pairs, not for one of 5 comparisons
        assert [item.verdict for item in named[:2]] == ['worse', 'worse']
        assert [item.verdict for item in picked[:2]] == ['worse', 'not told apart']

    @pytest.mark.parametrize(
        'value, p, verdict',
        [(-1.5, 0.05, 'better'), (1.5, 0.01, 'worse'), (-1.5, 0.06, 'not told apart')],
    )
    def test_verdict_of_an_error(self, value, p, verdict):
        found = Difference(ROWS[0], 4, (3, 5), ROWS[1], value, (-2, 2), p, lower_is_better=True)
        assert found.verdict == verdict


class TestPlots:
    def rows(self):
        values = ((0.4, 0.5), (0.6, 0.8))
        return [make_row(*pair, x=x, s='s') for pair, x in zip(values, (2, 1))]

    def test_bars_have_whiskers_and_dots(self):
        study = Study([], value='AP', plot=dict(x='x', series='s'))
        (axes,) = plot_study(study, self.rows(), [(40, 51), (65, 72)]).axes
        assert [bar.get_height() for bar in axes.patches] == pytest.approx([45, 70])
        ends = [line.get_segments()[0][:, 1].tolist() for line in axes.collections]
        assert np.array(ends) == pytest.approx(np.array([[40, 51], [65, 72]]))
        dots = [line.get_ydata() for line in axes.lines if line.get_marker() == 'o']
        assert np.array(dots) == pytest.approx(np.array([[40, 50], [60, 80]]))

    def test_lines_have_a_band_and_dots(self):
        study = Study([], value='AP', plot=dict(kind='lines', x='x', series='s'))
        (axes,) = plot_study(study, self.rows(), [(40, 51), (65, 72)]).axes
        assert axes.lines[0].get_ydata() == pytest.approx([70, 45])
        band = {tuple(point) for point in axes.collections[0].get_paths()[0].vertices.round(6)}
        assert band == {(1, 65), (1, 72), (2, 40), (2, 51)}
        assert sorted(axes.lines[1].get_ydata()) == pytest.approx([60, 80])

    @pytest.mark.parametrize('largest, scale', [(9, 'linear'), (10, 'log')])
    def test_numbers_over_several_magnitudes(self, largest, scale):
        study = Study([], value='AP', plot=dict(kind='lines', x='x', series='s'))
        rows = [make_row(0.4, x=x, s='s') for x in (1, 3, largest)]
        (axes,) = plot_study(study, rows, None).axes
        assert axes.get_xscale() == scale
        shown = [label.get_text() for label in axes.get_xticklabels()]
        assert shown == ['1', '3', str(largest)]

    def test_one_training_and_no_intervals(self):
        study = Study([], value='AP', plot=dict(x='x', series='s'))
        (axes,) = plot_study(study, [make_row(0.4, x=1, s='s')], None).axes
        assert axes.collections[0].get_segments()[0][:, 1] == pytest.approx([40, 40])
        assert all(len(line.get_ydata()) == 0 for line in axes.lines if line.get_marker() == 'o')


class TestChoosePair:
    def test_best_and_worst(self):
        assert choose_pair(Study([]), ROWS, 'coco/AP') == [ROWS[0], ROWS[2]]
        assert choose_pair(Study([]), ROWS[:1], 'coco/AP') == []

    def test_named(self):
        study = Study([], disagree=[dict(model='b', unbiased=True), dict(unbiased=True)])
        assert choose_pair(study, ROWS, 'coco/AP') == [ROWS[3], ROWS[1]]


@pytest.fixture(scope='module')
def compared(tmp_path_factory):
    """Two decoders of a heatmap model that was trained twice (made-up weights), and SimCC."""
    folder = tmp_path_factory.mktemp('report')
    make_toy_coco(folder / 'data', train=2, val=10, seed=3, workers=1)
    study = Study(
        [], title='Heatmap & SimCC', claim='<none>', value='PCK', decoders=['argmax', 'dark']
    )
    runs = [
        with_random_weights(config, str(folder / 'data'), folder, seed=seed)
        for config, seed in ((HEATMAP, 0), (HEATMAP, 1), (SIMCC, 0))
    ]
    first, second, simcc = (run_study(study, [run], folder) for run in runs)
    heatmap = [
        replace(row, trainings=row.trainings + other.trainings) for row, other in zip(first, second)
    ]
    return study, runs[1:], [*heatmap, *simcc], folder


@pytest.fixture(scope='module')
def report(compared):
    study, runs, rows, folder = compared
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
        values = re.findall(r'\| ([\d.]+) \[([\d.]+), ([\d.]+)\]', report[5].read_text())
        assert len(values) == 4
        for value, low, high in values:
            assert float(low) <= float(value) <= float(high)

    def test_page(self, report):
        page = report[0].read_text()
        sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
        assert len(sources) == 4 and all(s.startswith('data:image/') for s in sources)
        assert 'Heatmap &amp; SimCC' in page and '&lt;none&gt;' in page
        text = ' '.join(page.split())
        assert 'of other test images and other trainings' in text and '±' in text
        assert 'Dots in the plot are single trainings' in text
        assert re.search(r'simcc_\S+: one training each', text)

    def test_each_keypoint(self, compared, report):
        """Against the annotations themselves."""
        _, runs, rows, _ = compared
        people = load_people(runs[0])
        tables = keypoint_tables(rows, [str(i) for i in range(4)], people)
        assert [*tables] == [
            'Median error (px)',
            '90% of errors below (px)',
            'Mean similarity (%)',
        ]
        errors, similarities = [], []
        for training in rows[0].trainings:
            with np.load(f'{training.predictions}.npz') as stored:
                for person in people.people:
                    (i,) = np.flatnonzero(stored['ids'] == person.id)
                    if person.labelled[3]:
                        errors.append(np.hypot(*(stored['keypoints'][i, 3] - person.keypoints[3])))
                        similarities.append(stored['similarity'][i, 3])
        assert len(errors) > 5
        expected = np.median(errors), np.percentile(errors, 90), 100 * np.mean(similarities)
        for (name, table), value in zip(tables.items(), expected):
            header, cells, _ = cells_of(table)
            assert header == ['Keypoint', 'Number', '0', '1', '2', '3'] and len(cells) == 18
            assert cells[3][:3] == ['left ear', str(len(errors)), f'{value:.2f}']
            best = max if 'similarity' in name else min
            for line, marks in zip(cells, table.best.to_numpy()):
                values = np.array(line[2:], float)
                assert (values[marks[2:]] == best(values)).all()
        with open(report[6]) as file:
            lines = list(csv.reader(file))
        assert len(lines) == 1 + 3 * 18 and lines[0][:3] == ['Measure', 'Keypoint', 'Number']

    def test_disagreements_fall(self, compared):
        _, runs, rows, _ = compared
        people = load_people(runs[0]).people
        found = disagreements(people, rows[:2])
        assert np.diff([case.distance for case in found]).max() <= 0
        pair = [StoredPredictions(row) for row in rows[:2]]
        for case in found:
            apart = np.linalg.norm(np.subtract(*(p.of(case.person) for p in pair)), axis=-1)
            assert case.person.labelled[case.keypoint]
            assert apart[case.keypoint] == apart[case.person.labelled].max()

    def test_sigmas(self, compared):
        _, (run, _), rows, _ = compared
        assert rows[0].known_sigmas and run.metainfo['sigmas'][0] == pytest.approx(0.026)

    def test_metrics_without_intervals(self, compared):
        _, runs, rows, _ = compared
        run = load_run(HEATMAP)
        run.cfg.test_evaluator = dict(type='AUC')
        assert measure(rows[0], run, 'AUC') is None

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
        options = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--dump-dom']
        options += ['--disable-background-networking', '--host-resolver-rules=MAP * ~NOTFOUND']
        dom = subprocess.run(
            [browser, *options, f'--user-data-dir={tmp_path}/profile', page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        ).stdout
        widths, lines = re.search(r'drawn:([\d,]+);(\d+)', dom).groups()
        assert all(int(width) > 100 for width in widths.split(','))
        assert int(lines) == 3 * 4 + 3 * 18  # four rows; three tables of each keypoint


class TestRemarks:
    def test_different_test_data(self, compared, tmp_path):
        _, runs, _, folder = compared
        make_toy_coco(tmp_path / 'other', train=1, val=2, seed=2, workers=1)
        other = load_run(HEATMAP, str(tmp_path / 'other'))
        line, *_ = remarks(Study([], value='AP'), [runs[1], other])
        assert line.startswith(
            'rows of different test data are not compared with each other: simcc'
        )

    @pytest.mark.parametrize('value, lines', [('AP', 0), ('AR', 1)])
    def test_metric_of_choice_without_intervals(self, compared, value, lines):
        _, runs, _, _ = compared
        found = remarks(Study([], value=value), runs[1:])
        assert len(found) == lines
        assert all(line.endswith('AR has no intervals and no verdicts') for line in found)
