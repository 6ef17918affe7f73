# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Locks, and processes that end with the one that started them."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmpose_simcc.utils.processes import end_group, locked, try_lock

pytestmark = pytest.mark.slow

WORKERS = """
import os, sys, time
import numpy as np
from torch.utils.data import DataLoader
from mmpose_simcc.utils.processes import end_forks_with_parent

class Large:
    # more than a pipe holds: a worker waits until somebody reads it
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return bytes(1 << 20)

if 'end' in sys.argv:
    end_forks_with_parent()
batches = iter(DataLoader(Large(), num_workers=2, collate_fn=list, prefetch_factor=8))
next(batches)
time.sleep(1)
print(*(worker.pid for worker in batches._workers), flush=True)
time.sleep(1000)
"""

TRAINING = """
import time
from mmpose_simcc.utils.processes import end_with_stdin
end_with_stdin()
print('begun', flush=True)
time.sleep(1000)
"""

HOLDER = """
import sys, time
from pathlib import Path
from mmpose_simcc.utils.processes import locked
with locked(Path(sys.argv[1]), 'work'):
    print('begun', flush=True)
    sys.stdin.read()
"""


GROUP = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']).pid, flush=True)
time.sleep(1000)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, '-c', code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_there(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists('/proc/self/stat'), reason='processes are read in /proc')
def test_data_workers_end_with_their_parent():
    parent = start(WORKERS, 'end')
    workers = list(map(int, parent.stdout.readline().split()))
    assert len(workers) == 2 and all(map(is_there, workers))
    parent.kill()
    deadline = time.monotonic() + 10
    while any(map(is_there, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_there, workers))


def test_ends_with_stdin():
    process = start(TRAINING)
    assert process.stdout.readline() == 'begun\n'
    process.stdin.close()
    assert process.wait(10) == 1


@pytest.mark.parametrize('end', ['in order', 'killed'])
def test_lock_is_free_after_its_holder(tmp_path, end, capsys):
    path = tmp_path / 'a.lock'
    holder = start(HOLDER, path)
    assert holder.stdout.readline() == 'begun\n'
    assert try_lock(path) is None
    if end == 'killed':
        holder.kill()
        holder.wait()
    else:  # while the next one waits
        threading.Timer(1, holder.stdin.close).start()
    with locked(path, 'work'):
        assert try_lock(path) is None
    said = capsys.readouterr().err
    assert said in ('', 'work: under way in another process, waiting for it\n')
    assert end == 'killed' or said


@pytest.mark.skipif(os.name == 'nt', reason='Windows has no such groups')
def test_group_ends_that_will_not_by_itself():
    leader = subprocess.Popen(
        [sys.executable, '-c', GROUP], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    member = int(leader.stdout.readline())
    end_group(leader, seconds=0.2)
    assert leader.wait(10) == -signal.SIGKILL
    for _ in range(100):
        if not is_there(member):
            break
        time.sleep(0.1)
    assert not is_there(member)
    end_group(leader, seconds=0.2)  # which has ended
