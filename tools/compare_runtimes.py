# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Shows what other runtimes make of exported models.

    python tools/compare_runtimes.py write CONFIG CHECKPOINT FOLDER    where MMPose is
    python tools/compare_runtimes.py run FOLDER RUNTIME                where the runtime is
    python tools/compare_runtimes.py table FOLDER

``run`` needs numpy and the runtime alone, since few of them can be installed beside each other:
`nox -s runtimes` gives each an environment of its own.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from command_line import CONFIG_HELP, CommandLine, errors_in_a_line

BATCH = 4
DECODERS = ('argmax', 'quarter', 'second_max', 'dark', 'daec')


# --- where MMPose is ---


def write(config, checkpoint, folder):
    """Export a model with each output and each decoder, for any batch and for one of 1; and what
    PyTorch finds."""
    import torch
    from mmpose.registry import KEYPOINT_CODECS

    from mmpose_simcc.deploy.export import DeployModel, export_onnx
    from mmpose_simcc.deploy.export.verify import Reference, made_up_crops
    from mmpose_simcc.utils.inference import build_model, load_config, load_weights, pose_head
    from mmpose_simcc.workbench.compare.decoders import decoders_of
    from mmpose_simcc.workbench.compare.runs import Run

    cfg = load_config(config)
    model = build_model(cfg).eval()
    load_weights(model, checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    codecs = decoders_of(Run('model', cfg), DECODERS)
    first = next(iter(codecs.values()))
    written = dict(raw=('raw', first), simcc=('simcc', first))
    if first['type'] != 'SimCCCodec':  # heatmaps have no such output
        del written['simcc']
    written.update((name, ('keypoints', codec)) for name, codec in codecs.items())
    cases = dict(written=list(written))
    for name, (output, codec) in written.items():
        pose_head(model).decoder = KEYPOINT_CODECS.build(codec)
        deployed = DeployModel(model, 'float', output).eval()
        for batch in (None, 1):
            path = folder / f'{name}-{batch or "any"}.onnx'
            export_onnx(model, cfg, path, output=output, batch=batch)
        reference = Reference(model, deployed)
        crops = made_up_crops(BATCH, deployed.input_size, seed=0)
        with torch.no_grad():
            responses = reference.responses(crops)
            stable = reference.is_stable(responses, reference.decode(responses))
            data = dict(inputs=list(torch.from_numpy(crops).permute(0, 3, 1, 2)), data_samples=[])
            images = model.data_preprocessor(data)['inputs']
            found = deployed(images)
            torch.jit.trace(deployed, images[:1]).save(str(folder / f'{name}.pt'))
        cases.update({f'{name}/{index}': array.numpy() for index, array in enumerate(found)})
        cases[f'{name}/names'] = np.array(deployed.decode.output_names)
        cases[f'{name}/stable'] = stable
    ratio = getattr(deployed.decode.codec, 'simcc_split_ratio', 1)
    np.savez(folder / 'cases.npz', images=images.numpy(), ratio=ratio, **cases)


# --- where a runtime is; each takes a file (any batch), one of batch 1, and images ---


def run_onnxruntime(path, one, images, names):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path)).run(list(names), dict(input=images))


def run_openvino(path, one, images, names, config=None):
    import openvino

    compiled = openvino.Core().compile_model(str(path), 'CPU', config or {})
    found = compiled(images)
    return [found[name] for name in names]


def run_openvino_f32(path, one, images, names):
    return run_openvino(path, one, images, names, dict(INFERENCE_PRECISION_HINT='f32'))


def run_opencv(path, one, images, names):
    import cv2

    network = cv2.dnn.readNetFromONNX(str(one))

    def predict(image):
        network.setInput(image, 'input')
        return [np.array(output) for output in network.forward(list(names))]

    return _one_by_one(predict, images)


def run_litert(path, one, images, names):
    """By onnx2tf, which puts channels last; not of the input, or it would fetch pictures."""
    from ai_edge_litert.interpreter import Interpreter

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'model.onnx'  # which it changes
        copy.write_bytes(Path(one).read_bytes())
        convert = Path(sys.executable).with_name('onnx2tf')
        # without its strict mode, which tries transpositions for many minutes
        _call(convert, '-i', copy, '-o', folder, '-osd', '-coion', '-kat', 'input', '-dsm')
        (converted,) = Path(folder).glob('*float32.tflite')
        runner = Interpreter(str(converted)).get_signature_runner()
        (name,) = runner.get_input_details()

        def predict(image):
            outputs = runner(**{name: image})
            return [outputs[output] for output in names]

        found = _one_by_one(predict, images)
    return [item.transpose(0, 3, 1, 2) if item.ndim == 4 else item for item in found]


def run_ncnn(path, one, images, names):
    """By pnnx."""
    import ncnn

    shape = ','.join(map(str, (1, *images.shape[1:])))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / 'model.onnx'
        copy.write_bytes(Path(one).read_bytes())
        convert = Path(sys.executable).with_name('pnnx')
        _call(convert, copy, f'inputshape=[{shape}]', 'fp16=0')
        network = ncnn.Net()
        network.opt.num_threads = 1  # its threads wait for each other, which is slow on a busy CPU
        network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
        network.opt.use_bf16_storage = network.opt.use_packing_layout = False
        if network.load_param(f'{folder}/model.ncnn.param'):
            raise RuntimeError('ncnn has not all operators')
        network.load_model(f'{folder}/model.ncnn.bin')

        def predict(image):
            extractor = network.create_extractor()
            extractor.input('in0', ncnn.Mat(np.ascontiguousarray(image[0])))
            found = [extractor.extract(f'out{index}') for index in range(len(names))]
            if any(status for status, _ in found):
                raise RuntimeError('ncnn gives not all outputs')
            return [np.array(output)[None] for _, output in found]

        return _one_by_one(predict, images)


NODE = """
const ort = require('onnxruntime-node'), fs = require('fs');
const [model, input, shape, out] = process.argv.slice(1);
const data = new Float32Array(new Uint8Array(fs.readFileSync(input)).buffer);
ort.InferenceSession.create(model).then(async session => {
  const found = await session.run({input: new ort.Tensor('float32', data, JSON.parse(shape))});
  const plain = name => ({dims: found[name].dims, data: Array.from(found[name].data)});
  fs.writeFileSync(out, JSON.stringify(Object.fromEntries(
    session.outputNames.map(name => [name, plain(name)]))));
});
"""


def run_node(path, one, images, names):
    """onnxruntime-node, which `npm install onnxruntime-node` has put into the working folder."""
    with tempfile.TemporaryDirectory() as folder:
        images.tofile(f'{folder}/input')
        shape = json.dumps(images.shape)
        _call('node', '-e', NODE, Path(path).resolve(), f'{folder}/input', shape, f'{folder}/out')
        found = json.loads(Path(f'{folder}/out').read_text(encoding='utf-8'))
    return [np.reshape(found[name]['data'], found[name]['dims']) for name in names]


def run_coreml(path, one, images, names):
    """Converts alone: only macOS runs what comes out."""
    import coremltools
    import torch

    traced = torch.jit.load(str(path).replace('-any.onnx', '.pt'))
    inputs = [coremltools.TensorType(name='input', shape=(1, *images.shape[1:]))]
    coremltools.convert(traced, inputs=inputs, convert_to='mlprogram')
    return None


# each with its name in the table, where packages stand for their versions; OpenCV has two entries,
# for an environment each
RUNTIMES = dict(
    onnxruntime=(run_onnxruntime, 'onnxruntime {onnxruntime}'),
    node=(run_node, 'onnxruntime-node {onnxruntime-node}'),
    openvino_f32=(run_openvino_f32, 'OpenVINO {openvino}, `f32`'),
    openvino=(run_openvino, 'OpenVINO {openvino}, its default'),
    opencv4=(run_opencv, 'OpenCV {opencv-python-headless}, dnn'),
    opencv5=(run_opencv, 'OpenCV {opencv-python-headless}, dnn'),
    ncnn=(run_ncnn, 'ncnn {ncnn} by pnnx {pnnx}'),
    litert=(run_litert, 'LiteRT {ai-edge-litert} by onnx2tf {onnx2tf}'),
    coreml=(run_coreml, 'CoreML by coremltools {coremltools}, from TorchScript'),
)


def _version(match):
    package = Path('node_modules') / match[1] / 'package.json'
    if package.is_file():
        return json.loads(package.read_text(encoding='utf-8'))['version']
    return version(match[1])


def _call(*command):
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines() or ['no message']
        raise RuntimeError(lines[-1])


def _one_by_one(predict, images):
    """Outputs of a runtime that takes one picture at a time, (1, 3, h, w)."""
    found = [predict(image[None]) for image in images]
    return [np.concatenate(outputs) for outputs in zip(*found)]


def difference(name, found, cases):
    """The largest differences from PyTorch: of keypoints in pixels, and of their scores; of raw
    outputs relative to the largest. Keypoints that rounding moves in PyTorch do not count."""
    expected = [cases[f'{name}/{index}'] for index in range(len(found))]
    if any(a.shape != b.shape for a, b in zip(found, expected)):
        shapes = [item.shape for item in found], [item.shape for item in expected]
        raise RuntimeError(f'shapes {shapes[0]} where PyTorch has {shapes[1]}')
    if name == 'raw':
        return [max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, expected))]
    if name == 'simcc':  # the smaller of both maxima is the score
        found, expected = (
            (
                np.stack([vectors.argmax(-1) for vectors in both], -1) / cases['ratio'],
                np.minimum(*(vectors.max(-1) for vectors in both)),
            )
            for both in (found, expected)
        )
    stable = cases[f'{name}/stable']
    moved = np.abs(found[0] - expected[0]).max(-1)[stable].max()
    return [float(moved), float(np.abs(found[1] - expected[1])[stable].max())]


def run(folder, runtime):
    """Run each file, print the differences and keep them beside the files."""
    cases = np.load(folder / 'cases.npz')
    run_files, name = RUNTIMES[runtime]
    results = dict(runtime=re.sub('{(.+?)}', _version, name))
    for case in cases['written'].tolist():
        any_batch, one = (folder / f'{case}-{batch}.onnx' for batch in ('any', 1))
        try:
            found = run_files(any_batch, one, cases['images'], cases[f'{case}/names'])
            results[case] = 'converts' if found is None else difference(case, found, cases)
        except Exception as error:  # each runtime has its own
            lines = str(error).strip().splitlines() or [type(error).__name__]
            print(f'{runtime}, {case}: {lines[-1][:200]}', file=sys.stderr)
            results[case] = 'no'
        print(f'{runtime}, {case}: {results[case]}')
        (folder / f'{runtime}.json').write_text(json.dumps(results))


def table(folder):
    """A Markdown table: a row for each output and decoder, a column for each runtime that ran."""
    found = [folder / f'{name}.json' for name in RUNTIMES]
    columns = [json.loads(path.read_text()) for path in found if path.is_file()]
    print('| | ' + ' | '.join(column['runtime'] for column in columns) + ' |')
    print('|---' * (1 + len(columns)) + '|')
    for case in np.load(folder / 'cases.npz')['written'].tolist():
        cells = [column.get(case, '') for column in columns]
        cells = [
            cell if isinstance(cell, str) else ', '.join(f'{value:.2g}' for value in cell)
            for cell in cells
        ]
        print(f'| {case} | ' + ' | '.join(cells) + ' |')


def main():
    parser = CommandLine(
        'Show how far keypoints and scores of exported models are from PyTorch in other runtimes: '
        'write the files where MMPose is, run them where each runtime is, and show all results.',
        'compare_runtimes.py run FOLDER openvino',
    )
    commands = parser.add_subparsers(
        dest='command', required=True, parser_class=argparse.ArgumentParser
    )
    writer = commands.add_parser('write', help='export a model, and what PyTorch finds')
    writer.add_argument('config', metavar='CONFIG', help=CONFIG_HELP)
    writer.add_argument('checkpoint', metavar='CHECKPOINT', help='weights of the trained model')
    runner = commands.add_parser('run', help='run the files in one runtime')
    shower = commands.add_parser('table', help='show all that have run')
    for command in (writer, runner, shower):
        command.add_argument('folder', metavar='FOLDER', type=Path, help='where the files are')
    runner.add_argument('runtime', choices=RUNTIMES)
    args = vars(parser.parse_args())
    with errors_in_a_line():
        dict(write=write, run=run, table=table)[args.pop('command')](**args)


if __name__ == '__main__':
    main()
