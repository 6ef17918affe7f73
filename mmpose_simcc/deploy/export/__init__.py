# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Exports models to ONNX; :mod:`mmpose_simcc.deploy.client` runs them."""

from .export import export_onnx
from .graph import INPUTS, OUTPUTS, DeployModel
from .onnx_file import OPSET
from .precision import PRECISIONS
from .verify import ExportError, compare_with_pytorch

__all__ = [
    'INPUTS',
    'OPSET',
    'OUTPUTS',
    'PRECISIONS',
    'DeployModel',
    'ExportError',
    'compare_with_pytorch',
    'export_onnx',
]
