# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""From a config and a checkpoint to a checked ONNX file."""

import json
import os
import tempfile
from pathlib import Path
from typing import Callable, Optional

import onnx
from mmengine.config import Config
from mmpose.models import TopdownPoseEstimator

from ...utils.checks import check_choice, invalid
from ...utils.inference import weights_digest
from ..client import PoseSession
from .evaluate import compare_on_made_up, compare_on_test_data
from .graph import DeployModel
from .onnx_file import OPSET, describe, to_onnx, write_metadata
from .precision import PRECISIONS, to_fp16, to_int8
from .verify import compare_with_pytorch

RTMLIB_PADDING = 1.25
RTMLIB_SPLIT_RATIO = 2
OPENVINO = "OpenVINO: compile_model(file, config={'INFERENCE_PRECISION_HINT': 'f32'})"


def export_onnx(
    model: TopdownPoseEstimator,
    cfg: Config,
    path: str,
    input: str = 'float',
    output: Optional[str] = None,
    precision: str = 'fp32',
    batch: Optional[int] = None,
    evaluate: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Write a model as ONNX, and what a client has to know of it as JSON beside it.

    Both appear only when the model has passed the checks: by ``onnx.checker`` and against PyTorch
    in onnxruntime (in float32). Another precision is compared with float32.

    Args:
        model (TopdownPoseEstimator): The model with its weights.
        cfg (Config): Its config.
        path (str): The ONNX file. The other has its name with the suffix ``.json``.
        input (str): ``'float'``, ``'bgr'`` or ``'uint8'``, see
            :class:`ImageInput`. Defaults to ``'float'``.
        output (str, optional): ``'simcc'``, ``'keypoints'`` or ``'raw'``, see
            :class:`Decode`. The first by default for SimCC.
        precision (str): ``'fp32'``, ``'fp16'`` or ``'int8'``, which is
            calibrated on training images. Defaults to ``'fp32'``.
        batch (int, optional): The one batch size that the file takes. Any by default.
        evaluate (bool): Whether another precision is compared on the config's test data, by its
            metrics too, and not on made-up pictures. Defaults to True.
        report (callable): Gets lines that say what was found.

    Raises:
        ValueError: The model or an argument is not supported.
        ExportError: The exported model does not do what the model does.
        OSError: The file cannot be written.
    """
    check_choice('precision', precision, PRECISIONS)
    if batch is not None and batch < 1:
        raise invalid('batch', batch, 'at least 1')
    model.eval()
    deployed = DeployModel(model, input, output).eval()
    description = describe(cfg, deployed)
    _check_calibration(model, deployed, report)
    path = Path(path)
    if path.suffix == '.json':
        raise invalid('path', path, 'with another suffix than .json, which its description has')
    path.parent.mkdir(parents=True, exist_ok=True)
    # beside the target, so that it can be moved there at once
    with tempfile.TemporaryDirectory(prefix=f'.{path.stem}-', dir=path.parent) as folder:
        full = os.path.join(folder, 'fp32.onnx')
        proto = to_onnx(deployed, description, batch)
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
            low = PoseSession(written)
            if evaluate:
                costs = compare_on_test_data(session, low, precision, cfg, model, deployed)
            else:
                costs = [compare_on_made_up(session, low, precision, deployed)]
            for line in costs:
                report(line)
        size = os.path.getsize(written) / 2**20
        beside = os.path.join(folder, 'description.json')
        Path(beside).write_text(json.dumps(description, indent=1, default=str), encoding='utf-8')
        os.replace(beside, path.with_suffix('.json'))
        os.replace(written, path)
    report(f'{path}: {size:.1f} MiB')
    report(OPENVINO)
    report(_how_to_run(path, deployed, description, batch))


def _check_calibration(
    model: TopdownPoseEstimator, deployed: DeployModel, report: Callable[[str], None]
) -> None:
    """Refuse that of other weights; say where it was made with a flip test, which a file has not.

    Raises:
        ValueError: It was made for other weights.
    """
    calibration = deployed.decode.calibration
    if calibration is None:
        return
    if calibration.model not in (None, weights_digest(model)):
        raise ValueError(
            '`model.head.decoder.calibration` was made for other weights than the model has: '
            'make it anew with tools/calibrate.py'
        )
    if calibration.flip_test != 'none':
        report(
            f'the calibration was made with the flip test {calibration.flip_test!r}, which the '
            'file does not do: for one that fits, calibrate with '
            '--cfg-options model.test_cfg.flip_test=False'
        )


def _how_to_run(path: Path, model: DeployModel, description: dict, batch: Optional[int]) -> str:
    """The call of rtmlib that fits the file, or the client's."""
    if model.decode.output == 'raw':
        names = ' and '.join(model.decode.output_names)
        return f'{names} are for runtimes that do not decode; docs/export.md says how to'
    own = f'python tools/infer_onnx.py {path} IMAGE'
    if model.decode.output != 'simcc' or model.input.kind != 'bgr':
        return own
    ratio, padding = description['simcc_split_ratio'], description['bbox_padding']
    if description['use_udp']:
        why = 'it cuts people out without UDP, as this model needs it'
    elif ratio != RTMLIB_SPLIT_RATIO:
        why = f'it decodes {RTMLIB_SPLIT_RATIO} bins a pixel, this model has {ratio}'
    elif padding != RTMLIB_PADDING:
        why = f'it enlarges boxes by {RTMLIB_PADDING}, this model needs {padding}'
    elif batch not in (None, 1):
        why = f'it shows a model one person at a time, this file takes {batch}'
    else:
        return f'rtmlib.RTMPose(onnx_model={str(path)!r}, model_input_size={model.input_size})'
    return f'{own}\n(not rtmlib: {why})'
