# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Settings of Sphinx; `make docs` builds the site in docs/_build/html."""

import mmpose_simcc

project = 'mmpose_simcc'
author = 'mmpose_simcc contributors'
copyright = author
release = mmpose_simcc.__version__

extensions = [
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',  # Google's docstrings
    'sphinx.ext.mathjax',
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
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_output_stderr = 'remove'  # logs of libraries; errors end the build

html_theme = 'furo'
html_title = f'mmpose_simcc {release}'
html_copy_source = False
