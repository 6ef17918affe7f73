# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import io
import re
import sys
import time

from mmpose_simcc.utils import console


class Terminal(io.StringIO):
    def isatty(self):
        return True


class TestProgress:
    def test_a_line_at_least_every_interval(self, monkeypatch, capsys):
        monkeypatch.setattr(console, 'INTERVAL', 0.05)
        with console.Progress() as progress:
            first = progress.add('train a', 4)
            progress.add('train b', 1)
            first.update(1, 'loss 0.5')
            time.sleep(0.5)  # nothing is reported, as where a step takes long
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) >= 6
        assert lines[0].startswith('train a: 25%, loss 0.5, 0:00:0')
        assert lines[0].endswith(' left')
        assert lines[1] == 'train b: 0%'

    def test_time_left_of_work_that_goes_on(self, monkeypatch, capsys):
        """Half of it was done before."""
        monkeypatch.setattr(console, 'INTERVAL', 0.7)
        with console.Progress() as progress:
            task = progress.add('train', 100)
            task.update(50)
            time.sleep(0.5)
            task.update(51)  # 49 more at 2 a second, less what has passed since
            time.sleep(0.5)
        assert re.search(r'train: 51%, 0:00:2[345] left', capsys.readouterr().err)

    def test_a_line_at_the_end(self, capsys):
        with console.Progress() as progress:
            task = progress.add('decode', 2)
            task.advance()
            time.sleep(1.1)
            task.advance()
        assert capsys.readouterr().err == 'decode: 100%, took 0:00:01\n'

    def test_short_work_is_silent(self, capsys):
        assert list(console.track(range(3), 'metric')) == [0, 1, 2]
        assert list(console.track(iter('ab'), 'metric', total=2)) == ['a', 'b']
        assert list(console.track([], 'metric')) == []
        assert capsys.readouterr().err == ''

    def test_bars_on_a_terminal(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, 'stderr', terminal)
        monkeypatch.setenv('TERM', 'xterm')
        assert sum(console.track([1, 2], 'evaluate')) == 3
        assert 'evaluate' in terminal.getvalue() and '━' in terminal.getvalue()
