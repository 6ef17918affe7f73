# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The benchmark itself. `make benchmark` checks the ratios, undisturbed."""

import json

import benchmark
import numpy as np
import pytest
import torch
from benchmark.scale import config as rehearsal_config
from benchmark.timing import Comparison, Result

from mmpose_simcc.workbench.timing import time_in_turns


class Clock:
    """A clock that functions move on."""

    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time

    def function(self, seconds):
        def move_on():
            self.time += seconds

        return move_on


class TestTiming:
    def test_calls_fill_a_block_and_rounds_end(self):
        clock = Clock()
        functions = dict(fast=clock.function(0.02), slow=clock.function(0.2))
        seconds = time_in_turns(functions, 100, block=0.1, max_seconds=5, clock=clock)
        np.testing.assert_allclose(seconds['fast'], 0.02)
        np.testing.assert_allclose(seconds['slow'], 0.2)
        # a round has 6 fast calls and 2 slow ones, 0.52 s: the tenth begins before 5 s
        assert len(seconds['fast']) == len(seconds['slow']) == 10

    def test_ratios_and_aims(self):
        clock = Clock()
        comparison = Comparison(
            'task',
            'method',
            'size',
            dict(ours=clock.function(0.02), stock=clock.function(0.2)),
            dict(ours=1, stock=2),
            aim=10,
            peer='stock',
        )
        (result,) = benchmark.run_comparisons([comparison], rounds=3, clock=clock)
        assert result.ratio('stock') == pytest.approx(5)  # 100 ms an item against 20
        assert result.reached() == pytest.approx(0.5)
        assert 'stock / ours' in benchmark.benchmark_table([result])

    def test_slack_of_an_aim(self):
        result = Result(
            'task',
            'method',
            'size',
            dict(ours=np.array([18.0]), argmax=np.array([2.0])),
            aim=0.25,
            peer='argmax',
            slack=10.0,
        )
        assert result.reached() == 1.0

    def test_answers_that_differ_stop_it(self):

        def check():
            raise AssertionError('answers differ')

        comparison = Comparison('t', 'm', 's', dict(ours=lambda: None), dict(ours=1), check=check)
        with pytest.raises(AssertionError, match='differ'):
            benchmark.run_comparisons([comparison])


def test_rehearsals_have_their_configs(tmp_path):
    for size in ('64x64', '256x192', '384x288'):
        assert rehearsal_config(size, tmp_path).model.backbone.type == 'OneLayer'


def test_all_answers_agree():
    for comparison in benchmark.codec_comparisons():
        if comparison.check:
            comparison.check()
    for comparison in benchmark.loss_comparisons():
        comparison.check()


def test_a_wrong_decoder_is_noticed(monkeypatch):
    from benchmark import codecs

    monkeypatch.setattr(codecs, 'DARKCodec', codecs.HeatmapCodec)
    comparison = next(c for c in codecs.codec_comparisons() if c.method == 'DARK')
    with pytest.raises(AssertionError, match='DARK'):
        comparison.check()


def test_files(tmp_path):
    comparisons = [
        c
        for c in benchmark.codec_comparisons(settings=benchmark.SETTINGS[:1])
        if c.task == 'encode'
    ] + benchmark.loss_comparisons()[1:2]
    results = benchmark.run_comparisons(comparisons, rounds=2, block=1e-4)
    benchmark.add_peak_bytes(results)
    peak = results[-1].extra['peak_bytes']
    logits = 4 * 64 * 17 * 512
    assert logits <= peak['ours'] < peak['stock']
    benchmark.save_benchmark(results, benchmark.machine('cpu', 1), tmp_path / 'a' / 'b.json')
    rows = json.loads((tmp_path / 'a' / 'b.json').read_text())
    assert rows['about']['torch'] == torch.__version__
    assert len(rows['results'][0]['seconds']['ours']) == 2
    benchmark.plot_benchmark(results, tmp_path / 'b.png')
    assert (tmp_path / 'b.png').stat().st_size > 5000
