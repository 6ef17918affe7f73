# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Full disks and read-only folders: one clear error, and what was there
before stays."""

import csv
import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import run_tool
from matplotlib import pyplot as plt

from mmpose_simcc.deploy import client
from mmpose_simcc.utils.files import whole_file
from mmpose_simcc.weights.checkpoint import save_checkpoint
from mmpose_simcc.weights.official import OfficialModel
from mmpose_simcc.workbench.compare.report.plots import save
from mmpose_simcc.workbench.compare.report.tables import write_tables
from mmpose_simcc.workbench.compare.rows import Row, Training
from mmpose_simcc.workbench.toy import make_toy_coco


def fill(folder, left):
    """Fill a disk but for some bytes."""
    with open(folder / 'filler', 'wb', buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                pass
    with open(folder / 'filler', 'r+b') as file:
        file.truncate(max(0, file.seek(0, 2) - left))


def make_rows(number):
    return [
        Row(
            f'config {i}',
            'SimCC',
            'argmax',
            (64, 64),
            1.0,
            1.0,
            1.0,
            1.0,
            1.0,
            [Training('a.pth', f'results/{i}', {'coco/AP': 0.5})],
        )
        for i in range(number)
    ]


class TestWholeFile:
    def test_takes_its_place_when_whole(self, tmp_path):
        path = tmp_path / 'a.txt'
        path.write_text('before')
        with whole_file(path) as unfinished:
            assert unfinished.suffix == path.suffix
            unfinished.write_text('after')
            assert path.read_text() == 'before'
        assert path.read_text() == 'after'
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(os.name == 'nt', reason='Windows has neither for most people')
    def test_links_and_permissions_stay(self, tmp_path):
        path, link = tmp_path / 'folder' / 'a.txt', tmp_path / 'link.txt'
        path.parent.mkdir()
        path.write_text('before')
        path.chmod(0o640)
        link.symlink_to(path)
        with whole_file(link) as unfinished:
            unfinished.write_text('after')
            assert unfinished.stat().st_mode & 0o077 == 0  # nobody else's yet
        assert link.is_symlink() and path.read_text() == 'after'
        assert path.stat().st_mode & 0o777 == 0o640

    def test_an_error_of_another_file_keeps_its_name(self, tmp_path):
        with pytest.raises(OSError) as info, whole_file(tmp_path / 'a.txt'):
            (tmp_path / 'missing.txt').read_text()
        assert info.value.filename == str(tmp_path / 'missing.txt')

    @pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
    def test_other_errors_pass(self, tmp_path, error):
        path = tmp_path / 'a.txt'
        path.write_text('before')
        with pytest.raises(error, match='why'), whole_file(path) as unfinished:
            unfinished.write_text('half')
            raise error('why')
        assert path.read_text() == 'before'
        assert list(tmp_path.iterdir()) == [path]

    def test_limit_of_file_size(self, tmp_path):
        """Needs no rights: writing beyond the limit is an error as on a full
        disk."""
        resource = pytest.importorskip('resource')  # not on Windows
        path = tmp_path / 'a.txt'
        path.write_text('before')
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with (
                pytest.raises(OSError, match=r'File too large: .*a\.txt'),
                whole_file(path) as unfinished,
            ):
                unfinished.write_text('x' * 2000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_text() == 'before'
        assert list(tmp_path.iterdir()) == [path]

    def test_the_client_has_the_same(self):
        """It stands alone; what these tests say is true of it as well."""
        assert inspect.getsource(client.files.whole_file) == inspect.getsource(whole_file)

    def test_folder_is_a_file(self, tmp_path):
        (tmp_path / 'a').write_text('')
        with (
            pytest.raises(OSError, match=r'\w: .*b\.txt'),
            whole_file(tmp_path / 'a' / 'b.txt') as unfinished,
        ):
            unfinished.write_text('')


WRITER = """
import sys
from pathlib import Path
from mmpose_simcc.utils.files import whole_file
path, letter = Path(sys.argv[1]), sys.argv[2]
print('ready', flush=True)
sys.stdin.read()  # both begin when it is closed
for length in range(1, 201):
    with whole_file(path) as unfinished, open(unfinished, 'w') as file:
        for _ in range(50):
            file.write(letter * length)
            file.flush()
    lines = path.read_text()  # this process's file or the other's, but whole
    assert len(set(lines)) == 1, set(lines)
    assert len(lines) % 50 == 0, len(lines)
"""


@pytest.mark.slow
def test_two_processes_write_one_file(tmp_path):
    """200 rounds each: what is found is always what one of them wrote."""
    path = tmp_path / 'a.txt'
    writers = [
        subprocess.Popen(
            [sys.executable, '-c', WRITER, path, letter],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for letter in 'ab'
    ]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.close()
    for writer in writers:
        assert writer.wait() == 0, writer.stderr.read()
    assert path.read_text() in ('a' * 10000, 'b' * 10000)
    assert list(tmp_path.iterdir()) == [path]


class TestFullDisk:
    def test_tables(self, small_disk):
        paths = write_tables(make_rows(2), small_disk)
        before = [path.read_bytes() for path in paths]
        fill(small_disk, left=5000)
        with pytest.raises(OSError, match='No space left on device: .*small_disk/table'):
            write_tables(make_rows(200), small_disk)
        assert [path.read_bytes() for path in paths] == before
        with open(paths[1]) as file:
            assert len(list(csv.reader(file))) == 3
        assert len(list(small_disk.iterdir())) == 4  # and the filler

    @pytest.mark.parametrize('suffix', ['png', 'svg'])
    def test_plots(self, small_disk, suffix):
        path = small_disk / f'plot.{suffix}'
        path.write_bytes(b'before')
        fill(small_disk, left=5000)
        figure, axes = plt.subplots()
        axes.plot(np.random.default_rng(0).random(500))
        with pytest.raises(OSError, match=f'No space.*plot.{suffix}'):
            save(figure, path)
        plt.close(figure)
        assert path.read_bytes() == b'before'

    def test_checkpoint(self, small_disk):
        path = small_disk / 'a.pth'
        path.write_bytes(b'before')
        fill(small_disk, left=5000)
        official = OfficialModel('a', {}, True, lambda *entry: entry, use_udp=False)
        with pytest.raises(OSError, match='No space left.*a.pth'):
            save_checkpoint(path, dict(a=torch.zeros(10000)), official)
        assert path.read_bytes() == b'before'

    def test_read_only(self, small_disk, read_only):
        paths = write_tables(make_rows(2), small_disk)
        before = [path.read_bytes() for path in paths]
        read_only()
        with pytest.raises(OSError, match='Read-only file system: .*table.md'):
            write_tables(make_rows(3), small_disk)
        assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize('where', ['a file', 'a read-only disk'])
def test_compare_says_where_it_cannot_write(where, request, tmp_path):
    """Before anything is trained."""
    if where == 'a file':
        folder = tmp_path / 'file'
        folder.write_text('')
    else:
        folder = request.getfixturevalue('read_only')()
    data = tmp_path / 'toy'
    make_toy_coco(data, train=2, val=2, workers=1)
    done = run_tool('compare.py', '--data', data, '--work-dir', folder / 'work', cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('compare: ') and str(folder) in last
