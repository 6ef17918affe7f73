# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Settings of Sphinx; `make docs` builds the site in docs/_build/html."""

from xml.etree import ElementTree

import ziamath
from docutils import nodes

import mmpose_simcc

project = 'mmpose_simcc'
author = 'mmpose_simcc contributors'
copyright = author
release = mmpose_simcc.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',  # Google's docstrings
    'sphinx.ext.viewcode',
    'myst_nb',  # Markdown and notebooks
]
exclude_patterns = ['_build']

# types are in the docstrings, with shapes and units
autodoc_typehints = 'none'
autodoc_member_order = 'bysource'
autodoc_default_options = {'members': True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
python_maximum_signature_line_length = 79

myst_heading_anchors = 3

# The tutorial is committed without outputs and executed here: what the site
# shows is what this code does, and a change of it is readable.
nb_execution_mode = 'force'
nb_execution_excludepatterns = ['quickstart.ipynb']  # it installs; a test of its own executes it
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = 'remove'  # logs of libraries; errors end the build

html_theme = 'furo'
html_title = f'mmpose_simcc {release}'
html_copy_source = False

# Formulas are drawn when the site is built, since Sphinx's MathJax would be
# loaded from the network at every visit.
html_math_renderer = 'svg'
ziamath.config.svg2 = False  # no ids, which several pictures of a page would share


def draw_formula(self, node, inline=True):
    tex = node.astext()
    formula = ziamath.Latex(tex, size=17, color='currentColor', inline=inline)
    svg = formula.svgxml()
    svg.set('role', 'img')
    svg.set('aria-label', tex)
    svg.set('style', f'vertical-align: {formula.getyofst():.2f}px')
    svg = ElementTree.tostring(svg, encoding='unicode')
    tag = 'span' if inline else 'div'
    self.body.append(f'<{tag} class="math">{svg}</{tag}>')
    raise nodes.SkipNode


def draw_displayed_formula(self, node):
    draw_formula(self, node, inline=False)


def setup(app):
    app.add_html_math_renderer('svg', (draw_formula, None), (draw_displayed_formula, None))
