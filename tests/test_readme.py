# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs every command and every piece of code of the README and of the pages
that a newcomer reads next.

In a folder that looks like a clone with a small COCO: drawn pictures in
``data``, and files by the names that the README's placeholders stand for. A
command that no rule below knows fails.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT, run_tool
from mim.cli import cli as mim_cli
from mmengine.config import Config, DictAction
from test_recorded import write_recording
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
    r'\bRTMPOSE_CONFIG\b': 'RTMPOSE_CONFIG.py',
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
    'calibrate.py': (['--split', 'test'], 'written: '),
    'compare.py': ([], 'holds the tables, plots and pictures'),
    'convert_official.py': ([], 'wrote '),
    'export_onnx.py': ([], 'passed onnx.checker'),
    'infer_onnx.py': ([], 'written to '),
    'make_toy_coco.py': (['--workers', '1'], 'is complete'),
    'model_size.py': ([], 'GFLOPs'),
    'score_heatmaps.py': ([], 'mean OKS'),
}
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
        # `mim test` and `mim run mmpose` are names of commands
        if len(words) > (3 if words[0] == 'mim' else 1) and words[0] in PROGRAMS:
            yield ' '.join(shlex.split(code))


BLOCKS = FENCE.findall(TEXT)
SCRIPTS = [shell_lines(code) for kind, code in BLOCKS if kind == 'bash']
SCRIPTS += [[command] for command in inline_commands()]
for number, script in enumerate(SCRIPTS):  # each command once
    known = {command for earlier in SCRIPTS[:number] for command in earlier}
    SCRIPTS[number] = [command for command in script if command not in known]
SCRIPTS = [script for script in SCRIPTS if script]


def write_detections(coco):
    """The file of detected boxes that stock configs name: here the annotated ones."""
    content = json.loads((coco / 'annotations/person_keypoints_val2017.json').read_text())
    boxes = [
        dict(image_id=a['image_id'], category_id=1, bbox=a['bbox'], score=1.0)
        for a in content['annotations']
    ]
    path = coco / 'person_detection_results/COCO_val2017_detections_AP_H_56_person.json'
    path.parent.mkdir()
    path.write_text(json.dumps(boxes))


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clone')
    for name in ('configs', 'tools'):
        (folder / name).symlink_to(ROOT / name)
    make_toy_coco(folder / 'data/coco', train=6, val=10, seed=1, workers=1)
    write_detections(folder / 'data/coco')
    (folder / 'data/toy_coco').symlink_to(folder / 'data/coco')
    (folder / 'CONFIG.py').write_text(
        f"_base_ = ['{ROOT / TOY_CONFIG}']\n"
        'loader = dict(num_workers=0, persistent_workers=False)\n'
        'train_dataloader = val_dataloader = test_dataloader = loader\n'
    )
    (folder / 'RTMPOSE_CONFIG.py').write_text(
        "_base_ = ['mmpose::body_2d_keypoint/rtmpose/coco/"
        "rtmpose-t_8xb256-420e_coco-256x192.py']\n"
        "model = dict(backbone=dict(_delete_=True, type='ResNet', depth=50))\n"
    )
    torch.manual_seed(0)
    model = build_model(Config.fromfile(folder / 'CONFIG.py'))
    torch.save(model.state_dict(), folder / 'CHECKPOINT.pth')
    torch.save(
        made_up_weights(ROOT / 'tests/golden' / 'simcc_res50_upfree_256x192.keys.json'),
        folder / 'pose_resnet_50_simcc.pth',
    )
    write_recording(folder / 'RECORDING.npz')
    picture = next((folder / 'data/coco/val2017').iterdir())
    (folder / 'person.jpg').write_bytes(picture.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def in_the_clone(clone, monkeypatch):
    monkeypatch.chdir(clone)


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


def mim(command, package, *words):
    """mim itself runs in test_packaging.py and test_end_to_end.py; here its
    commands' words meet, in this process, what mim would start with them."""
    words = list(words)
    if command in ('train', 'test'):
        assert package in ('mmpose', 'mmpose_simcc')
        if not Path(words[0]).is_file():  # by its name alone, which mim looks up
            (found,) = (ROOT / 'configs').rglob(words[0])
            words[0] = str(found)
        if '--checkpoint' in words:
            words.remove('--checkpoint')
        options = words[words.index('--cfg-options') + 1 :] if '--cfg-options' in words else []
        done = run_tool(f'{command}.py', *words, *([] if options else ['--cfg-options']), *QUICK)
        # COCO's own lines; a logger may hold the stream of an earlier test
        assert done.returncode == 0 and 'Average Precision  (AP)' in done.stdout, done.stderr
        dumped = re.sub(r'\s', '', done.stdout).replace(',]', ']')
        for option in options:
            name, value = option.split('=')
            value = DictAction._parse_iterable(value)
            assert f'{name.split(".")[-1]}={value!r}'.replace(' ', '') in dumped, option
    elif command == 'run':
        assert package == 'mmpose_simcc' and words[1] == '--'
        assert run_tool(f'{words[0]}.py', *words[2:]).returncode == 0
    else:
        assert command == 'search'
        done = CliRunner().invoke(mim_cli, [command, package, *words])
        assert done.exit_code == 0 and done.output, done


def execute(command):
    for placeholder, value in PLACEHOLDERS.items():
        command = re.sub(placeholder, value, command)
    words = command.split()
    if words[0] == 'make':  # this very suite is one of its targets
        run(['make', '-n', *words[1:]], cwd=ROOT)
    elif words[:2] == ['pip', 'install']:
        # without dependencies: OpenCV is here by the other of its names
        out = run([*words, '--dry-run', '--no-deps'], cwd=ROOT)
        assert re.search(r'^(Would install|Requirement already satisfied)', out, re.M)
    elif words == ['source', '.venv/bin/activate']:
        if (ROOT / '.venv').is_dir():
            run(['bash', '-c', f'{command} && command -v mim python'], ROOT)
    elif words[0] == 'mim':
        mim(*words[1:])
    elif words[0] == 'python' and Path(words[1]).name in TOOLS:
        tool = Path(words[1]).name
        more, says = TOOLS[tool]
        done = run_tool(tool, *words[2:], *more)
        assert done.returncode == 0, done.stderr
        assert says in ' '.join(done.stdout.split())  # wrapped as for a terminal
    else:
        pytest.fail(f'the README has a command that no test runs: {command}')
    for word in words:  # read or written
        if re.search(r'\.(pth|onnx|json|jpg|npz|yml)$', word):
            assert Path(word.split('=')[-1]).is_file(), word


@pytest.mark.parametrize('script', SCRIPTS, ids=' && '.join)
def test_commands(script):
    if 'MODEL.onnx' in script[0] and not Path('MODEL.onnx').is_file():
        execute('python tools/export_onnx.py CONFIG CHECKPOINT MODEL.onnx')
    for command in script:
        execute(command)


@pytest.mark.parametrize(
    'code',
    [code for kind, code in BLOCKS if kind == 'python'],
    ids=lambda code: code.splitlines()[0],
)
def test_python(code):
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
