# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What the tools' command lines have in common."""

import re

import pytest
from command_line import errors_in_a_line
from conftest import ROOT, run_tool

SHARED = ('--cfg-options', '--data', '--work-dir')
# `train` and `test` are MMPose's, `infer_onnx` is the client's
NOT_OURS = ('train', 'test', 'infer_onnx')
TOOLS = sorted({path.stem for path in (ROOT / 'tools').glob('*.py')} - {'command_line', *NOT_OURS})
WITH_CONFIG = dict(
    calibrate=('{}', 'checkpoint.pth'),
    check_data=('{}',),
    compare=('{}',),
    export_onnx=('{}', 'checkpoint.pth', 'out.onnx'),
    model_size=('{}', '--no-time'),
)


def help_of(tool):
    """What it is, and by the names of its options what they are."""
    done = run_tool(f'{tool}.py', '--help')
    assert done.returncode == 0
    text = ' '.join(done.stdout.split())
    options = text.partition(' --help ')[2].rpartition(' example: ')[0]
    arguments = re.split(r' (--[\w-]+)(?= )', options)
    return text, dict(zip(arguments[1::2], arguments[2::2]))


def test_shared_options_mean_the_same(monkeypatch):
    monkeypatch.setenv('COLUMNS', '1000')
    helps = {}
    for tool in TOOLS:
        text, options = help_of(tool)
        assert f'example: python tools/{tool}.py ' in text
        for name in {*SHARED} & options.keys():
            words = options[name].split('folder of')[0]  # each its own
            helps.setdefault(name, {}).setdefault(words.strip(), []).append(tool)
    for name in SHARED:
        assert len(helps[name]) == 1, helps[name]
        assert len(*helps[name].values()) > 1
    assert {*sum(helps['--cfg-options'].values(), [])} == {*WITH_CONFIG}


@pytest.mark.parametrize('tool', NOT_OURS)
def test_help_of_others(tool):
    assert 'usage:' in run_tool(f'{tool}.py', '--help').stdout


@pytest.mark.parametrize('tool', WITH_CONFIG)
def test_errors_are_one_line(tool, tmp_path):
    words = [word.format('absent.py') for word in WITH_CONFIG[tool]]
    done = run_tool(f'{tool}.py', *words, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'{tool}: ') and 'absent.py' in line


@pytest.mark.parametrize('tool', WITH_CONFIG)
def test_config_options_reach_the_config(tool, tmp_path):
    config = ROOT / 'configs/body_2d_keypoint/simcc/toy_coco'
    config /= 'simcc_res18_1xb8-4e_toy-coco-64x64.py'
    words = [word.format(config) for word in WITH_CONFIG[tool]]
    options = '--cfg-options', 'model.type=BottomupPoseEstimator'
    done = run_tool(f'{tool}.py', *words, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert 'has the model BottomupPoseEstimator' in done.stderr


@pytest.mark.parametrize(
    'error, status',
    [(ValueError('two\nlines'), 'tool: two lines'), (KeyboardInterrupt(), 130)],
)
def test_how_a_tool_ends(error, status, monkeypatch):
    monkeypatch.setattr('sys.argv', ['tools/tool.py'])
    with pytest.raises(SystemExit) as end, errors_in_a_line():
        raise error
    assert end.value.code == status


def test_faults_of_the_code_keep_their_traceback():
    with pytest.raises(KeyError), errors_in_a_line():
        raise KeyError('a fault')


@pytest.mark.parametrize(
    'words', [('compare.py', '--seeds', 0), ('make_toy_coco.py', 'a', '--val', 'x')]
)
def test_numbers_out_of_range(words):
    done = run_tool(*words)
    assert done.returncode == 2
    assert f'{words[-1]} is not an integer >= 1' in done.stderr
