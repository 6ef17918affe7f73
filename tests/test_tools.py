# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Command lines in processes of their own, from a folder of the user's.

Elsewhere tools run inside of the tests' process. Those that are not here have
such a test beside the others of what they do: ``compare`` (interrupted),
``calibrate``, ``infer_onnx`` (without torch),
``make_toy_coco`` (end to end), ``train`` and ``test`` (by mim).
"""

import pytest
import torch
from conftest import ROOT, run
from test_weights import made_up_weights

pytestmark = pytest.mark.slow
CONFIG = ROOT / 'configs/body_2d_keypoint/simcc/coco/simcc_res50_upfree-8xb64-210e_coco-256x192.py'


def tool(folder, name, *args):
    return run('python', ROOT / 'tools' / name, *args, cwd=folder)


def test_published_weights_to_onnx(golden_dir, tmp_path):
    weights = made_up_weights(golden_dir / 'simcc_res50_upfree_256x192.keys.json')
    torch.save(weights, tmp_path / 'published.pth')
    args = 'published.pth', 'converted.pth', '--config', CONFIG
    assert 'all weights fit' in tool(tmp_path, 'convert_official.py', *args)
    out = tool(tmp_path, 'export_onnx.py', CONFIG, 'converted.pth', 'model.onnx')
    assert 'passed onnx.checker' in out
    assert (tmp_path / 'model.onnx').stat().st_size > 4 * 25e6  # 25.7 M parameters


@pytest.mark.parametrize(
    'words, says, files',
    [
        (('model_size.py', CONFIG, '--no-time'), '25.688', []),
        (('benchmark_codecs.py', '--rounds', 1, '--plot', 'a.png'), 'stock / ours', ['a.png']),
        (('benchmark_models.py', 'forward', '--rounds', 1), 'forward, SimBa-R50', []),
    ],
)
def test_output(words, says, files, tmp_path):
    assert says in tool(tmp_path, *words)
    assert [path.name for path in tmp_path.iterdir()] == files
