# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""From a config and a checkpoint to a checked ONNX file."""

import os
import tempfile
from pathlib import Path
from typing import Callable, Optional

import onnx
from mmengine.config import Config
from mmpose.models import TopdownPoseEstimator

from ..client import PoseSession
from .evaluate import evaluate_sessions
from .graph import DeployModel
from .onnx_file import OPSET, describe, to_onnx, write_metadata
from .precision import to_fp16, to_int8
from .verify import compare_with_pytorch


def export_onnx(
    model: TopdownPoseEstimator,
    cfg: Config,
    path: str,
    input: str = 'float',
    output: Optional[str] = None,
    precision: str = 'fp32',
    report: Callable[[str], None] = print,
) -> None:
    """Write a model as ONNX.

    The file appears at ``path`` only when it has passed the checks: by
    ``onnx.checker``, against PyTorch in onnxruntime (in float32), and, in
    another precision, by an evaluation on the config's test data beside
    float32.

    Args:
        model (TopdownPoseEstimator): The model with its weights.
        cfg (Config): Its config.
        path (str): The ONNX file.
        input (str): ``'float'``, ``'bgr'`` or ``'uint8'``, see
            :class:`ImageInput`. Defaults to ``'float'``.
        output (str, optional): ``'simcc'`` or ``'keypoints'``, see
            :class:`Decode`. The first by default for SimCC.
        precision (str): ``'fp32'``, ``'fp16'`` or ``'int8'``, which is
            calibrated on training images. Defaults to ``'fp32'``.
        report (callable): Gets lines that say what was found.

    Raises:
        ValueError: The model or an argument is not supported.
        ExportError: The exported model does not do what the model does.
        OSError: The file cannot be written.
    """
    model.eval()
    deployed = DeployModel(model, input, output).eval()
    description = describe(cfg, deployed)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, so that it can be moved there at once
    with tempfile.TemporaryDirectory(prefix=f'.{path.stem}-', dir=path.parent) as folder:
        full = os.path.join(folder, 'fp32.onnx')
        proto = to_onnx(deployed, description)
        onnx.save(proto, full)
        report(
            f'opset {OPSET}, input {input}, output '
            f'{deployed.decode.output}, {len(proto.graph.node)} nodes, '
            'passed onnx.checker'
        )
        session = PoseSession(full)
        agreement = compare_with_pytorch(session, model, deployed)
        report(f'onnxruntime and PyTorch: {agreement}')
        written = full
        if precision != 'fp32':
            proto = to_fp16(proto) if precision == 'fp16' else to_int8(full, cfg)
            write_metadata(proto, description)
            onnx.checker.check_model(proto)
            written = os.path.join(folder, f'{precision}.onnx')
            onnx.save(proto, written)
            metrics = evaluate_sessions(dict(fp32=session, low=PoseSession(written)), cfg, model)
            for name, value in metrics['fp32'].items():
                low = metrics['low'][name]
                report(
                    f'{name}: fp32 {value:.4f}, {precision} {low:.4f}, change {low - value:+.4f}'
                )
        size = os.path.getsize(written) / 2**20
        os.replace(written, path)
    report(f'{path}: {size:.1f} MiB')
    report(_how_to_run(path, deployed, description['use_udp']))


def _how_to_run(path: Path, model: DeployModel, use_udp: bool) -> str:
    """The call of rtmlib that fits the file, or the client's."""
    own = f'python tools/infer_onnx.py {path} IMAGE'
    if model.decode.output != 'simcc' or model.input.kind != 'bgr':
        return own
    if use_udp:
        return f'{own}\n(not rtmlib: it cuts people out without UDP, as this model needs it)'
    ratio = model.decode.codec.simcc_split_ratio
    if ratio != 2:
        return f'{own}\n(not rtmlib: it decodes 2 bins a pixel, this model has {ratio})'
    return f'rtmlib.RTMPose(onnx_model={str(path)!r}, model_input_size={model.input_size})'
