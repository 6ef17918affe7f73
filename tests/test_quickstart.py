# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The quickstart notebook, from top to bottom, in an environment that has torch alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BESIDE_TESTS, IN_CHECKOUT, run_elsewhere

pytestmark = pytest.mark.slow
NOTEBOOK = BESIDE_TESTS / 'docs' / 'quickstart.ipynb'
EXECUTE = """
import json, sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=1500).execute()
nbformat.write(notebook, sys.argv[1])
"""


def cells(path):
    content = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [cell for cell in content if cell['cell_type'] == 'code']


@pytest.fixture
def environment(tmp_path):
    """A folder for an environment of gigabytes, which pytest would keep."""
    yield tmp_path / 'venv'
    shutil.rmtree(tmp_path / 'venv', ignore_errors=True)


@pytest.mark.skipif(not IN_CHECKOUT, reason='needs the repository')
def test_from_top_to_bottom(environment, tmp_path):
    uv = Path(sys.executable).with_name('uv')
    if not uv.is_file():
        pytest.skip('needs the uv of `make venv`')
    found = subprocess.run([uv, 'python', 'find', '3.12'], capture_output=True, text=True)
    python = found.stdout.strip() if found.returncode == 0 else sys.executable
    run_elsewhere(uv, 'venv', '--seed', '--python', python, environment)
    fresh = environment / 'bin' / 'python'
    run_elsewhere(
        uv, 'pip', 'install', '--python', fresh, 'torch', 'torchvision', 'nbclient', 'ipykernel'
    )
    run_elsewhere(uv, 'build', '--wheel', '--out-dir', tmp_path / 'dist', BESIDE_TESTS)
    (wheel,) = (tmp_path / 'dist').glob('*.whl')
    notebook = tmp_path / 'work' / 'quickstart.ipynb'
    notebook.parent.mkdir()
    source = NOTEBOOK.read_text(encoding='utf-8')
    assert source.count("SOURCE = '..'") == 1
    notebook.write_text(source.replace("SOURCE = '..'", f"SOURCE = '{wheel}'"), encoding='utf-8')
    run_elsewhere(fresh, '-c', EXECUTE, notebook, cwd=notebook.parent)
    outputs = [output for cell in cells(notebook) for output in cell['outputs']]
    text = ''.join(''.join(output.get('text', '')) for output in outputs)
    assert all(name in text for name in ('AP50', 'quarter', 'daec_symmetric', 'SimCC'))
    assert 'passed onnx.checker' in text
    assert 'keypoints (1, 17, 2) scores (1, 17)' in text


def test_is_committed_without_outputs():
    assert not [cell for cell in cells(NOTEBOOK) if cell['outputs'] or cell['execution_count']]
