# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Half-precision and 8-bit versions of an exported model."""

import copy
import logging
import os
import tempfile
from typing import Iterator, List, Optional, Tuple

import numpy as np
import onnx
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import DATASETS
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from ...utils.console import errors_alone, track
from ..client import PoseSession

PRECISIONS = ('fp32', 'fp16', 'int8')
NUM_CALIBRATION = 128


def _outside_the_network(proto: onnx.ModelProto) -> List[str]:
    """Nodes of input and decoding. They stay in float32: coordinates and
    pixel values need more than 11 bits."""
    return [node.name for node in proto.graph.node if node.name.startswith(('/input/', '/decode/'))]


def _last_layers(proto: onnx.ModelProto) -> List[onnx.NodeProto]:
    """The layers that give the network's outputs, and what follows them there.

    They stay in float32. Rounded to 16 bits, neighbouring values of a vector become equal and the
    maximum moves; 8 bits cost SimCC 4.8 AP.
    """
    producers = {tensor: node for node in proto.graph.node for tensor in node.output}
    results = {value.name for value in proto.graph.output}
    for node in proto.graph.node:
        if node.name.startswith('/decode/'):
            results |= set(node.input)
    tensors = [
        name
        for name in sorted(results)
        if name in producers and producers[name].name.startswith('/network/')
    ]
    layers = []
    while tensors:
        node = producers[tensors.pop()]
        if node in layers:
            continue
        layers.append(node)
        if node.op_type not in ('Conv', 'Gemm', 'MatMul'):
            tensors += [name for name in node.input if name in producers]
    return layers


def _body_edges(proto: onnx.ModelProto) -> Tuple[List[str], List[str]]:
    """The tensors that go into and come out of the network without its last layers."""
    last = [node.name for node in _last_layers(proto)]
    body = [
        node
        for node in proto.graph.node
        if node.name.startswith('/network/') and node.name not in last
    ]
    made = {tensor for node in body for tensor in node.output}
    images = {value.name for value in proto.graph.input}
    for node in proto.graph.node:
        if node.name.startswith('/input/'):
            images |= set(node.output)
    others = [node for node in proto.graph.node if node not in body]
    inputs = images & {name for node in body for name in node.input}
    outputs = made & {name for node in others for name in node.input}
    return sorted(inputs), sorted(outputs)


def to_fp16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network in half precision; inputs, last layers, decoding and outputs stay in float32.

    The network is cut out and converted alone, since onnxruntime's converter rounds what passes
    between the nodes that it is told to leave as they are.

    Args:
        proto (onnx.ModelProto): From :func:`to_onnx`; not changed.
    """
    inputs, outputs = _body_edges(proto)
    typed = onnx.shape_inference.infer_shapes(proto)
    network = convert_float_to_float16(
        onnx.utils.Extractor(typed).extract_model(inputs, outputs), keep_io_types=True
    )
    network = onnx.compose.add_prefix(
        network, 'fp16', rename_inputs=False, rename_outputs=False, rename_value_infos=False
    )
    result = OnnxModel(copy.deepcopy(proto))
    result.remove_nodes([node for node in result.nodes() if set(node.output) & set(outputs)])
    result.add_nodes(network.graph.node)
    result.model.graph.initializer.extend(network.graph.initializer)
    result.prune_graph()  # of what led to the network's old outputs
    result.topological_sort()
    return result.model


def training_crops(cfg: Config, number: int = NUM_CALIBRATION) -> Iterator[np.ndarray]:
    """Crops of people spread evenly over the training data, cut as for
    testing.

    Args:
        cfg (Config): The model's config.
        number (int): How many at most. Defaults to 128.

    Yields:
        np.ndarray: uint8, BGR, shape (1, h, w, 3).
    """
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    dataset_cfg = copy.deepcopy(cfg.train_dataloader.dataset)
    dataset_cfg.pipeline = cfg.test_dataloader.dataset.pipeline
    dataset = DATASETS.build(dataset_cfg)
    number = min(number, len(dataset))
    for index in np.linspace(0, len(dataset) - 1, number).astype(int):
        image = dataset[int(index)]['inputs'].numpy()
        yield np.ascontiguousarray(image.transpose(1, 2, 0))[None]


class _Calibration(CalibrationDataReader):
    def __init__(self, session: PoseSession, cfg: Config) -> None:
        self.session = session
        crops = list(training_crops(cfg))
        self.crops = iter(track(crops, 'calibrate'))

    def get_next(self) -> Optional[dict]:
        crop = next(self.crops, None)
        return None if crop is None else dict(input=self.session.feed(crop))


def to_int8(path: str, cfg: Config) -> onnx.ModelProto:
    """The network in 8 bits: weights by channel, activations by their range on training images
    ("static quantisation").

    Args:
        path (str): File of the exported model, in float32.
        cfg (Config): The model's config, whose training data are there.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantized = (
            os.path.join(folder, name) for name in ('prepared.onnx', 'quantized.onnx')
        )
        # without its advice to prepare the model, which has been done
        with errors_alone(logging.getLogger()):
            quant_pre_process(path, prepared, skip_symbolic_shape=True)
            proto = onnx.load(prepared)
            quantize_static(
                prepared,
                quantized,
                _Calibration(PoseSession(path), cfg),
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_outside_the_network(proto)
                + [node.name for node in _last_layers(proto)],
            )
        return _without_unused_domains(onnx.load(quantized))


def _without_unused_domains(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnxruntime's tools import every operator domain that they know, and releases before 1.18
    refuse a file that imports a later one."""
    used = {node.domain for node in proto.graph.node}
    imports = [item for item in proto.opset_import if item.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(imports)
    return proto
