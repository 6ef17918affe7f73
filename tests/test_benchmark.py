# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The benchmark itself. `make benchmark` checks the ratios, undisturbed."""

import benchmark
import numpy as np
import pytest
from benchmark import Aim, Comparison

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

    @pytest.mark.parametrize(
        'aim, reached', [(Aim('stock', 10), 0.5), (Aim('stock', 1 / 4, slack=0.06), 23)]
    )
    def test_ratios_and_aims(self, aim, reached):
        clock = Clock()
        functions = dict(ours=clock.function(0.04), stock=clock.function(0.2))
        comparison = Comparison('task', 'method', 'size', functions, 2, aim)
        benchmark.time_comparisons([comparison], rounds=3, clock=clock)
        np.testing.assert_allclose(comparison.seconds['ours'], 0.02)  # an image
        assert comparison.ratio('stock') == pytest.approx(5)
        assert comparison.reached() == pytest.approx(reached)
        assert 'stock / ours' in benchmark.benchmark_table([comparison])

    def test_answers_that_differ_stop_it(self):
        def check():
            raise AssertionError('answers differ')

        comparison = Comparison('t', 'm', 's', dict(ours=lambda: None), check=check)
        with pytest.raises(AssertionError, match='differ'):
            benchmark.time_comparisons([comparison], rounds=1)


def test_all_answers_agree():
    """With stock's, but for what stock has not: argmax alone, and DAEC."""
    checks = {c.method: c.check for c in benchmark.codec_comparisons()}
    assert [method for method, check in checks.items() if not check] == ['argmax', 'DAEC']
    for comparison in benchmark.codec_comparisons():
        if comparison.check:
            comparison.check()


def test_every_aim_is_checked():
    aims = [c.aim for c in benchmark.codec_comparisons(settings=benchmark.SETTINGS[:1]) if c.aim]
    assert len(aims) == len(benchmark.codecs.AIMS)


def test_a_wrong_decoder_is_noticed(monkeypatch):
    monkeypatch.setattr(benchmark.codecs, 'DARKCodec', benchmark.codecs.HeatmapCodec)
    comparison = next(c for c in benchmark.codec_comparisons() if c.method == 'DARK')
    with pytest.raises(AssertionError, match='DARK'):
        comparison.check()


def test_plot(tmp_path):
    comparisons = [c for c in benchmark.codec_comparisons() if c.task == 'encode']
    benchmark.time_comparisons(comparisons, rounds=2, block=1e-4)
    benchmark.plot_benchmark(comparisons, tmp_path / 'a/b.png')
    assert (tmp_path / 'a/b.png').stat().st_size > 5000
