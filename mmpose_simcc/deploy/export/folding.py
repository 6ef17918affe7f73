# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Folds constants of a traced graph: what is known when the file is written is computed then."""

from typing import Dict, List, Optional

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

# An initializer under two names would be stored twice. Results of more than so many numbers are
# still computed when the model runs, since a file with them could outgrow the network.
NOT_FOLDED = ('Identity',)
MAX_SIZE = 10_000


def fold_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replace sizes that do not vary, and all that follows from constants, by constants.

    The tracer records the computation of every size, as if the picture's size could vary.
    Quantisation would round these computations, and simple runtimes lack their operators.

    Args:
        proto (onnx.ModelProto): From the tracer, with nodes in topological order; not changed.

    Returns:
        onnx.ModelProto: The same function with fewer nodes.
    """
    while True:
        folded = _fold_once(proto)
        if len(folded.graph.node) == len(proto.graph.node):
            return folded
        proto = folded  # more sizes are known of it


def _fold_once(proto: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    graph = result.graph
    sizes = _known_sizes(proto)
    known = {tensor.name: tensor for tensor in graph.initializer if _is_small(tensor)}
    constants: Dict[str, np.ndarray] = {
        name: onnx.numpy_helper.to_array(tensor) for name, tensor in known.items()
    }
    shapes: Dict[str, List[Optional[int]]] = {}
    kept, folded = [], {}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        values = None
        if node.op_type == 'Shape' and not node.attribute and node.input[0] in sizes:
            shapes[node.output[0]] = sizes[node.input[0]]
        if node.op_type == 'Gather' and node.input[0] in shapes and node.input[1] in constants:
            values = _gathered(shapes[node.input[0]], constants[node.input[1]])
        if node.output[0] in shapes and None not in shapes[node.output[0]]:
            values = [np.array(shapes[node.output[0]], np.int64)]
        if values is None and _can_be_run(node, constants):
            values = _run(node, constants, result.opset_import)
        if values is None or outputs & set(node.output) or sum(v.size for v in values) > MAX_SIZE:
            kept.append(node)
            continue
        constants.update(zip(node.output, values))
        folded.update(zip(node.output, values))
    del graph.node[:]
    graph.node.extend(kept)
    needed = {name for node in kept for name in node.input}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in folded.items()
        if name in needed
    )
    _drop_unused(graph)
    return result


def _is_small(tensor: onnx.TensorProto) -> bool:
    return np.prod(tensor.dims, dtype=np.int64) <= MAX_SIZE


def _known_sizes(proto: onnx.ModelProto) -> Dict[str, List[Optional[int]]]:
    """Sizes of each tensor by its name; None is one that varies."""
    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    return {
        value.name: [
            dim.dim_value if dim.HasField('dim_value') else None
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.value_info, *graph.input)
        if value.type.tensor_type.HasField('shape')
    }


def _gathered(shape: List[Optional[int]], index: np.ndarray) -> Optional[List[np.ndarray]]:
    sizes = [shape[int(i)] for i in index.ravel()]
    return None if None in sizes else [np.array(sizes, np.int64).reshape(index.shape)]


def _can_be_run(node: onnx.NodeProto, constants: Dict[str, np.ndarray]) -> bool:
    has_graph = any(attribute.HasField('g') for attribute in node.attribute)
    return (
        not has_graph
        and node.op_type not in NOT_FOLDED
        and all(name in constants for name in node.input if name)
    )


def _run(node: onnx.NodeProto, constants: Dict[str, np.ndarray], opset_import) -> List[np.ndarray]:
    value = onnx.helper.make_tensor_value_info
    inputs = sorted({name for name in node.input if name})
    graph = onnx.helper.make_graph(
        [node],
        'one',
        [value(n, onnx.helper.np_dtype_to_tensor_dtype(constants[n].dtype), None) for n in inputs],
        [value(name, onnx.TensorProto.UNDEFINED, None) for name in node.output],
    )
    model = onnx.helper.make_model(graph, opset_imports=opset_import)
    found = ReferenceEvaluator(model).run(None, {name: constants[name] for name in inputs})
    return [np.asarray(item) for item in found]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers whose outputs nothing reads."""
    while True:
        read = {name for node in graph.node for name in node.input}
        read |= {value.name for value in graph.output}
        nodes = [node for node in graph.node if read & set(node.output)]
        if len(nodes) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(nodes)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
