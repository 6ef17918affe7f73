# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The site that `make docs` builds, and the tutorial that it executes."""

import importlib
import os
import re
import subprocess
import sys
import zlib

import pytest
from conftest import ROOT

DOCS = ROOT / 'docs'
if not DOCS.is_dir():
    pytest.skip('outside the repository', allow_module_level=True)
nbformat = pytest.importorskip('nbformat')
pytest.importorskip('myst_nb')

pytestmark = pytest.mark.slow
PUBLIC = (
    '',
    '.functional',
    '.config',
    '.utils.inference',
    '.weights',
    '.workbench.compare',
    '.workbench.calibration',
    '.workbench.complexity',
    '.workbench.toy',
    '.deploy.export',
    '.deploy.client',
)


def code_cells(path):
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    """Built by the Makefile's own command, into another folder."""
    folder = tmp_path_factory.mktemp('docs') / 'html'
    commands = subprocess.run(
        ['make', '-n', '-o', 'venv', 'docs'], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    (command,) = (line for line in commands if 'sphinx' in line)
    python, *words = command.split()
    assert '-W' in words and words[-2:] == ['docs', 'docs/_build/html']
    done = subprocess.run(
        [sys.executable, *words[:-1], str(folder)],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def described(site):
    """Names of what the reference describes, from Sphinx's inventory."""
    data = (site / 'objects.inv').read_bytes()
    lines = zlib.decompress(data.split(b'\n', 4)[4]).decode().splitlines()
    return {line.split()[0] for line in lines if ' py:' in line}


def test_reference_describes_every_public_name(site):
    names = described(site)
    for module in PUBLIC:
        module = importlib.import_module('mmpose_simcc' + module)
        public = getattr(module, '__all__', None) or [
            name
            for name, value in vars(module).items()
            if getattr(value, '__module__', '') == module.__name__ and name[0] != '_'
        ]
        missing = {
            name
            for name in public
            if name != '__version__' and f'{module.__name__}.{name}' not in names
        }
        assert not missing, module.__name__


def test_pages_are_linked_and_formulas_are_formulas(site):
    pages = [path.stem for path in DOCS.glob('*.md')] + ['tutorial', 'quickstart']
    index = (site / 'index.html').read_text()
    for page in set(pages) - {'index'}:
        assert f'href="{page}.html"' in index, page
    functional = (site / 'api/functional.html').read_text()
    formulas = re.findall(r'class="math"><svg [^>]*aria-label="([^"]+)"', functional)
    assert len(formulas) >= 6 and any(r'\frac' in formula for formula in formulas)
    # a role that Sphinx did not read would be left as its source
    for page in site.glob('api/*.html'):
        assert not re.search(r':(func|class|meth):', page.read_text()), page


def test_pages_need_no_network(site):
    """Scripts, styles, fonts and pictures lie beside the pages."""
    for page in site.rglob('*.html'):
        for tag in re.findall(r'<(?:script|link|img|iframe|object)\b[^>]*>', page.read_text()):
            assert not re.search(r'(?:src|href|data)=["\']?(?:https?:)?//', tag), (page, tag)
    for style in site.rglob('*.css'):
        assert not re.search(r'(?:url\(|@import)\s*["\']?(?:https?:)?//', style.read_text()), style


def test_tutorial_is_executed(site):
    cells = code_cells(site.parent / 'jupyter_execute' / 'tutorial.ipynb')
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == 'error']
    assert sum('image/png' in o.get('data', {}) for o in outputs) == 3
    text = ''.join(o.text for o in outputs if o.output_type == 'stream')

    # what the text around the cells says
    (row,) = re.findall(r'^noise .*\n0\.0 +(.*)$', text, re.M)
    argmax, quarter, _, dark, daec, symmetric = map(float, row.split())
    assert dark <= 0.01 and symmetric <= 0.02
    assert quarter < argmax and symmetric < daec
    assert 'model.head.type: HeatmapHead -> SimCCClassifierHead' in text
    assert 'passed onnx.checker' in text
    assert 'keypoints (1, 17, 2) scores (1, 17)' in text


def test_tutorial_is_committed_without_outputs():
    assert not [
        cell for cell in code_cells(DOCS / 'tutorial.ipynb') if cell.outputs or cell.execution_count
    ]
