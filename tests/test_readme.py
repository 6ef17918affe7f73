# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs every command and every piece of code of the README and of the pages
that a newcomer reads next.

In a folder that looks like a clone with a small COCO: drawn pictures in
``data``, and files by the names that the README's placeholders stand for. A
command that no rule below knows fails.
"""

import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from test_weights import made_up_weights

from mmpose_simcc import SimCCClassifierHead
from mmpose_simcc.utils.inference import build_model
from mmpose_simcc.workbench.toy import make_toy_coco

README = ROOT / 'README.md'
if not README.is_file():
    pytest.skip('outside the repository', allow_module_level=True)

pytestmark = pytest.mark.slow
PAGES = (README, ROOT / 'docs/install.md', ROOT / 'docs/usage.md')
TEXT = '\n'.join(page.read_text() for page in PAGES)
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.M | re.S)
PROGRAMS = ('bash', 'make', 'mim', 'pip', 'python', 'source', 'torchrun')
TOY_CONFIG = (
    'configs/body_2d_keypoint/topdown_heatmap/toy_coco/td-hm_res18_1xb8-4e_toy-coco-64x64.py'
)
# What is written in capitals or brackets, and what is here.
PLACEHOLDERS = {
    r'\[CONFIG\[=CHECKPOINT\] \.\.\.\]': TOY_CONFIG,
    r' \.\.\.': '',
    r'\bCONFIG\b(?!\.py)': 'CONFIG.py',
    r'\bCHECKPOINT\b(?!\.pth)': 'CHECKPOINT.pth',
    r'\bOUT\.onnx\b': 'MODEL.onnx',
    r'\bSRC\.pth\b': 'pose_resnet_50_simcc.pth',
    r'\bOUT --train N --val M --seed S\b': 'OUT --train 2 --val 1 --seed 3',
    r'\bstudies/FILE\.yml\b': 'studies/dark_table1_decoding.yml',
    r'\bIMAGE\b': 'person.jpg',
}
# Each tool: arguments that make it quick, and what it says at its end.
TOOLS = {
    'benchmark_codecs.py': (['--rounds', '1'], 'stock / ours'),
    'calibrate_daec.py': ([], 'written: '),
    'compare.py': ([], 'holds the tables, plots and pictures'),
    'convert_official.py': ([], 'wrote '),
    'export_onnx.py': ([], 'passed onnx.checker'),
    'infer_onnx.py': ([], 'written to '),
    'make_toy_coco.py': (['--workers', '1'], 'is complete'),
    'model_size.py': ([], 'GFLOPs'),
}
# Commands of minutes, and the test that runs them.
ELSEWHERE = {'python tools/model_size.py --papers': 'tests/test_complexity.py'}
# A small network for a moment, of which CHECKPOINT has the weights.
QUICK = [
    'model.backbone.depth=18',
    'model.backbone.init_cfg=None',
    'model.head.in_channels=512',
    'train_cfg.max_epochs=1',
    'default_hooks.checkpoint=None',
    'train_dataloader.batch_size=2',
    *(
        f'{split}_dataloader.{option}'
        for split in ('train', 'val', 'test')
        for option in ('num_workers=0', 'persistent_workers=False')
    ),
    'val_dataloader.dataset.bbox_file=',
    'test_dataloader.dataset.bbox_file=',
]


def shell_lines(text):
    """Commands of a block, without comments."""
    lines = text.replace('\\\n', ' ').splitlines()
    return [
        ' '.join(words) for words in (shlex.split(line, comments=True) for line in lines) if words
    ]


def inline_commands():
    """Commands in tables and between words; a program's name is none."""
    for code in re.findall(r'`([^`]+)`', FENCE.sub('', TEXT)):
        words = code.split()
        if len(words) > 1 and words[0] in PROGRAMS:
            yield ' '.join(words)


BLOCKS = FENCE.findall(TEXT)
SCRIPTS = [shell_lines(code) for kind, code in BLOCKS if kind == 'bash']
SCRIPTS += [[command] for command in inline_commands()]
for number, script in enumerate(SCRIPTS):  # each command once
    known = {command for earlier in SCRIPTS[:number] for command in earlier}
    SCRIPTS[number] = [command for command in script if command not in known]
SCRIPTS = [script for script in SCRIPTS if script]


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clone')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    make_toy_coco(folder / 'data/coco', train=6, val=4, seed=1, workers=1)
    (folder / 'data/toy_coco').symlink_to(folder / 'data/coco')
    (folder / 'CONFIG.py').write_text(
        f"_base_ = ['{ROOT / TOY_CONFIG}']\n"
        'loader = dict(num_workers=0, persistent_workers=False)\n'
        'train_dataloader = val_dataloader = test_dataloader = loader\n'
    )
    torch.manual_seed(0)
    model = build_model(Config.fromfile(folder / 'CONFIG.py'))
    torch.save(model.state_dict(), folder / 'CHECKPOINT.pth')
    torch.save(
        made_up_weights(ROOT / 'tests/golden' / 'simcc_res50_upfree_256x192.keys.json'),
        folder / 'pose_resnet_50_simcc.pth',
    )
    picture = next((folder / 'data/coco/val2017').iterdir())
    (folder / 'person.jpg').write_bytes(picture.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def restored(clone, monkeypatch):
    """What tools change in the process that runs them."""
    monkeypatch.chdir(clone)
    threads = torch.get_num_threads()
    handler = signal.getsignal(signal.SIGTERM)
    with mock.patch.dict(os.environ):
        yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)


def run(words, cwd=None):
    """A program as a user starts it; its output."""
    program = Path(sys.executable).parent / words[0]
    done = subprocess.run(
        [str(program) if program.exists() else words[0], *words[1:]],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def run_tool(words, monkeypatch, capsys):
    """``python tools/...`` in this process, which has imported MMPose."""
    more, says = TOOLS[Path(words[1]).name]
    if 'infer_onnx.py' in words[1]:  # keeps this package from being imported
        out = run(words + more)
    else:
        monkeypatch.setattr(sys, 'argv', words[1:] + more)
        try:
            runpy.run_path(words[1], run_name='__main__')
        except SystemExit as error:
            assert not error.code, error.code
        out = capsys.readouterr().out
    assert says in ' '.join(out.split())  # wrapped as for a terminal


def execute(command, monkeypatch, capsys):
    for placeholder, value in PLACEHOLDERS.items():
        command = re.sub(placeholder, value, command)
    words = command.split()
    if words[0] == 'make':  # this very suite is one of its targets
        run(['make', '-n', *words[1:]], cwd=ROOT)
    elif words[:2] == ['pip', 'install']:
        # without dependencies: OpenCV is here by the other of its names
        out = run([*words, '--dry-run', '--no-deps'], cwd=ROOT)
        assert re.search(r'^Would install mmpose[_-]simcc-[\d.]+$', out, re.M)
    elif words == ['source', '.venv/bin/activate']:
        if (ROOT / '.venv').is_dir():
            run(['bash', '-c', f'{command} && command -v mim python'], ROOT)
    elif words[0] == 'mim' and words[1] in ('train', 'test'):
        options = QUICK if '--cfg-options' in words else ['--cfg-options', *QUICK]
        out = run(words + options)
        assert 'coco/AP: ' in out
        for option in words[words.index('--cfg-options') + 1 :] if '--cfg-options' in words else []:
            name, value = option.split('=')
            assert re.search(rf"{name.split('.')[-1]}='{value}'", out), option
    elif words[0] == 'mim' and words[1] in ('run', 'search'):
        assert run(words)
    elif command in ELSEWHERE:
        assert f"'{words[-1]}'" in (ROOT / ELSEWHERE[command]).read_text()
    elif words[0] == 'python' and Path(words[1]).name in TOOLS:
        run_tool(words, monkeypatch, capsys)
    else:
        pytest.fail(f'the README has a command that no test runs: {command}')
    for word in words:  # read or written
        if re.search(r'\.(pth|onnx|json|jpg|yml)$', word):
            assert Path(word.split('=')[-1]).is_file(), word


@pytest.mark.parametrize('script', SCRIPTS, ids=' && '.join)
def test_commands(script, monkeypatch, capsys, clone):
    if 'MODEL.onnx' in script[0] and not Path('MODEL.onnx').is_file():
        execute('python tools/export_onnx.py CONFIG CHECKPOINT MODEL.onnx', monkeypatch, capsys)
    for command in script:
        execute(command, monkeypatch, capsys)


@pytest.mark.parametrize(
    'code',
    [code for kind, code in BLOCKS if kind == 'python'],
    ids=lambda code: code.splitlines()[0],
)
def test_python(code, clone):
    if code.startswith('_base_'):  # a config
        Path('changed.py').write_text(code)
        cfg = Config.fromfile('changed.py')
        assert isinstance(build_model(cfg).head, SimCCClassifierHead)
        return
    names = {}
    exec(code, names)
    assert names['result'].pred_instances.keypoints.shape == (1, 17, 2)


def test_nothing_is_left_out():
    """Blocks of other languages would not be run."""
    assert {kind for kind, _ in BLOCKS} <= {'bash', 'python'}
    assert TEXT.count('```') == 2 * len(BLOCKS)
    assert len(SCRIPTS) > 10


@pytest.mark.parametrize('tool', sorted((ROOT / 'tools').glob('*.py')), ids=lambda path: path.name)
def test_tools_have_help(tool, monkeypatch, capsys):
    if tool.name == 'infer_onnx.py':
        assert 'usage:' in run(['python', str(tool), '--help'])
        return
    monkeypatch.setattr(sys, 'argv', [str(tool), '--help'])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(tool), run_name='__main__')
    assert not done.value.code and 'usage:' in capsys.readouterr().out
