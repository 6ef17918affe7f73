# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The client of exported models, installed alone and interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from test_export import picture, simcc_file  # noqa: F401, the latter is a fixture

import mmpose_simcc
from mmpose_simcc.deploy.client import PoseSession

pytestmark = pytest.mark.slow
PROJECT = ROOT / 'mmpose_simcc/deploy/client'


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    """The Python of an environment that has the client and what it needs."""
    uv = Path(sys.executable).with_name('uv')
    if not (uv.is_file() and PROJECT.is_dir()):
        pytest.skip('needs a checkout and its `make venv`')
    folder = tmp_path_factory.mktemp('alone') / 'venv'
    run(uv, 'venv', '--python', sys.executable, folder)
    run(uv, 'pip', 'install', '--python', folder / 'bin/python', PROJECT)
    return folder / 'bin/python'


def run(*command, cwd=None):
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != 'PYTHONPATH'},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_distribution_pulls_neither_torch_nor_mmpose(alone):
    code = (
        'import json; from importlib.metadata import distributions;'
        'print(json.dumps([[d.metadata["Name"], d.version] for d in distributions()]))'
    )
    versions = {
        name.lower().replace('-', '_'): version
        for name, version in json.loads(run(alone, '-I', '-c', code))
    }
    assert versions['mmpose_simcc_client'] == mmpose_simcc.__version__
    assert {'numpy', 'onnxruntime', 'opencv_python_headless'} <= set(versions)
    assert not {'torch', 'mmpose', 'mmengine', 'mmpose_simcc'} & set(versions)


def test_distribution_finds_the_same_keypoints(alone, simcc_file, tmp_path):  # noqa: F811
    picture(tmp_path / 'a.jpg')
    command = alone.with_name('mmpose-simcc-infer')
    out = run(command, simcc_file, 'a.jpg', '--bbox', '10,5,40,60', '--out', 'out', cwd=tmp_path)
    assert 'written to out' in out
    found = json.loads((tmp_path / 'out/predictions.json').read_text())['annotations']
    image = cv2.imread(str(tmp_path / 'a.jpg'))
    (keypoints,), _ = PoseSession(simcc_file).predict(image, [[10, 5, 40, 60]])
    values = np.array(found[0]['keypoints']).reshape(17, 3)
    np.testing.assert_allclose(values[:, :2], keypoints, atol=1e-2)


@pytest.mark.parametrize('later', [0, 0.1, 0.5])
@pytest.mark.parametrize('earlier', [{}, {'a.mp4': b'earlier', 'predictions.json': b'{}'}])
def test_interrupted_video(simcc_file, tmp_path, earlier, later):  # noqa: F811
    """Leaves what an earlier run wrote, and nothing else."""
    writer = cv2.VideoWriter(str(tmp_path / 'a.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        writer.write(cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (64, 48)))
    writer.release()
    out = tmp_path / 'out'
    out.mkdir()
    for name, content in earlier.items():
        (out / name).write_bytes(content)
    process = subprocess.Popen(
        [sys.executable, ROOT / 'tools/infer_onnx.py', simcc_file, 'a.avi', '--out', 'out'],
        cwd=tmp_path,
        text=True,
        stderr=subprocess.PIPE,
        # a job in the background ignores it, and so would all that it starts
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(out.glob('.unfinished*')):
        time.sleep(0.02)
    time.sleep(later)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.splitlines()[-1] == 'infer_onnx: interrupted'
    assert {path.name: path.read_bytes() for path in out.iterdir()} == earlier
