# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Writes a model as an ONNX file that describes itself."""

import contextlib
import inspect
import io
import json
import logging
import warnings
from typing import Any, Dict, List, Optional, Union

import onnx
import onnxslim
import torch
from mmengine.config import Config
from mmpose.apis.inference import dataset_meta_from_config

from ...config import check_frames
from ...utils.checks import invalid
from ...utils.console import errors_alone
from ...utils.inference import pose_head_cfg
from ...version import __version__
from .graph import DeployModel

# The newest that torch 2.1 writes; onnxruntime >= 1.12 runs it.
OPSET = 17


def describe(cfg: Config, model: DeployModel) -> Dict[str, Any]:
    """What a client has to know of a model.

    Args:
        cfg (Config): The model's config.
        model (DeployModel): The model.

    Returns:
        dict: Values that JSON can write.

    Raises:
        ValueError: The config's data have other keypoints than the head, or
            its codec and its pipelines place heatmap cells differently.
    """
    use_udp = check_frames(cfg)
    meta = dataset_meta_from_config(cfg, 'test')
    if meta is None:
        raise ValueError(
            "the config's `test_dataloader` names no data set that says what the keypoints are"
        )
    names = [meta['keypoint_id2name'][i] for i in range(meta['num_keypoints'])]
    head = model.network.head
    if len(names) != head.out_channels:
        raise invalid(
            'model.head.out_channels',
            head.out_channels,
            f'{len(names)}, the keypoints of the data set',
        )
    steps = {step['type']: step for step in cfg.test_dataloader.dataset.pipeline}
    description = dict(
        version=__version__,
        input=model.input.kind,
        output=model.decode.output,
        input_size=model.input_size,
        mean=model.input.mean,
        std=model.input.std,
        flip_channels=model.input.flip_channels,
        use_udp=use_udp,
        bbox_padding=steps.get('GetBBoxCenterScale', {}).get('padding', 1.25),
        codec=dict(pose_head_cfg(cfg).decoder),
        dataset_name=meta['dataset_name'],
        keypoint_names=names,
        skeleton=meta['skeleton_links'],
        keypoint_colors=meta['keypoint_colors'].tolist(),
        skeleton_colors=meta['skeleton_link_colors'].tolist(),
    )
    if model.decode.is_simcc:
        description['simcc_split_ratio'] = model.decode.codec.simcc_split_ratio
    calibration = model.decode.calibration
    if calibration:
        description.update(
            calibrated_on=calibration.calibrated_on,
            instance_score=calibration.instance_score,
        )
        if calibration.radii:
            description['keypoint_radii'] = dict(
                edges=calibration.radii.edges, pixels=calibration.radii.pixels
            )
    return description


def write_metadata(proto: onnx.ModelProto, values: Dict[str, Any]) -> None:
    """Set ``metadata_props``, each value as JSON."""
    onnx.helper.set_model_props(
        proto, {name: json.dumps(value, default=str) for name, value in values.items()}
    )


def _where(g, condition, *values):
    """``torch.where`` with Python numbers in float32."""
    return g.op(
        'Where',
        condition,
        *(
            g.op('Cast', value, to_i=onnx.TensorProto.FLOAT)
            if value.type().scalarType() == 'Double'
            else value
            for value in values
        ),
    )


@contextlib.contextmanager
def typed_where():
    """Early exporters write Python numbers in ``torch.where`` as float64
    beside float32 tensors, which no runtime accepts."""
    needed = tuple(map(int, torch.__version__.split('.')[:2])) < (2, 2)
    if needed:
        torch.onnx.register_custom_op_symbolic('aten::where', _where, OPSET)
    try:
        yield
    finally:
        if needed:
            torch.onnx.unregister_custom_op_symbolic('aten::where', OPSET)


def simplify(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with fewer nodes: what is known when the file is written is computed now.

    The tracer records the computation of every size, as if the picture's size could vary.
    Quantisation would round these computations, and simple runtimes lack their operators. Layers
    are not fused: runtimes do that, and ncnn gives a fused matrix product another shape.
    """
    while True:  # onnxslim ends after ten rounds, too early for many layers of attention
        simpler = onnxslim.slim(proto, skip_optimizations=['graph_fusion'])
        if len(simpler.graph.node) == len(proto.graph.node):
            return simpler
        proto = simpler


@torch.no_grad()
def to_onnx(
    model: DeployModel, description: Dict[str, Any], batch: Optional[int] = None
) -> onnx.ModelProto:
    """Trace a model and check the graph.

    By the TorchScript exporter, which every torch from 2.0 on has; the one
    built on ``torch.export`` is newer and needs onnxscript.

    Args:
        model (DeployModel): The model.
        description (dict): See :func:`describe`.
        batch (int, optional): The one batch size that the graph takes. Any by default.

    Returns:
        onnx.ModelProto: The graph, with the description as metadata.
    """
    names = model.decode.output_names
    options = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False
    if batch is None:
        options['dynamic_axes'] = {name: {0: 'batch'} for name in ('input', *names)}
    example = model.input.example(model.input_size, batch or 2)
    buffer = io.BytesIO()
    with errors_alone(logging.getLogger('torch.onnx')), warnings.catch_warnings(), typed_where():
        # Python values that the tracer records, such as shapes, are constants of the model
        warnings.simplefilter('ignore')
        torch.onnx.export(
            model,
            (example,),
            buffer,
            opset_version=OPSET,
            input_names=['input'],
            output_names=list(names),
            **options,
        )
        outputs = model(example)
    proto = simplify(onnx.load_from_string(buffer.getvalue()))
    # the tracer loses some sizes on the way
    for value, output in zip(proto.graph.output, outputs):
        _set_shape(value, [batch or 'batch', *output.shape[1:]])
    proto.producer_name, proto.producer_version = 'mmpose_simcc', __version__
    write_metadata(proto, description)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _set_shape(value: onnx.ValueInfoProto, shape: List[Union[int, str]]) -> None:
    """Give an output its sizes; a name is of one that varies."""
    kind = value.type.tensor_type.elem_type
    value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, shape))
