# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Runs the suite, or a short walk through the whole workflow, outside the repository, against
the package as pip installs it.

    nox                               the suite in six environments
    nox -s reference sdist -- ARGS    in these environments; ARGS go to pytest
    nox -s walk                       the workflow, with the oldest and the newest packages
    nox -s client                     the client alone, with the newest packages
    nox -s runtime_files -- CONFIG CHECKPOINT    exports of a model
    nox -s runtimes                   how other runtimes read these exports

Environments are kept in .nox.
"""

import json
import os
import shutil
import tarfile
from pathlib import Path

import nox

nox.needs_version = '>=2025.2.9'
nox.options.default_venv_backend = 'uv'
nox.options.reuse_venv = 'yes'
nox.options.sessions = ['oldest', 'reference', 'python312', 'newest', 'compiled', 'onedl']

ROOT = Path(__file__).parent
# pyenv offers only the interpreters that are selected: select all of them
PYENV = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
if PYENV.is_dir():
    os.environ.setdefault('PYENV_VERSION', ':'.join(path.name for path in PYENV.iterdir()))
OVERRIDES = ROOT / 'overrides.txt'
PINNED = ROOT / 'requirements.txt'
OPENCV = 'opencv-python-headless'  # which needs no libGL
TESTS = ('pytest', 'pytest-xdist', 'hypothesis', 'rtmlib', 'openmim', 'wheel')
MMPOSE = 'mmpose==1.3.2'
OLDEST = (
    'torch==2.1.0',
    'torchvision==0.16.0',
    'mmengine==0.8.0',
    'mmcv-lite==2.0.0',
    'numpy<1.25',
    'xtcocotools',
)
FIND_PACKAGE = 'import mmpose_simcc, os; print(os.path.dirname(mmpose_simcc.__file__))'
WALK_BOX = '10,5,40,60'
ONEDL = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection')


def first_found(*versions):
    """The first of these Pythons that is installed."""
    for version in versions:
        if shutil.which(f'python{version}') or list(PYENV.glob(f'{version}.*')):
            return version
    return None


OLD_PYTHON = first_found('3.9', '3.10', '3.11')
NEW_PYTHON = first_found('3.13', '3.12', '3.11', '3.10')


def build(session, kind='whl'):
    """The wheel, built from an sdist, or the sdist."""
    dist = ROOT / session.create_tmp() / 'dist'
    shutil.rmtree(dist, ignore_errors=True)
    session.run('uv', 'build', '--quiet', '--out-dir', str(dist), str(ROOT), external=True)
    (artifact,) = dist.glob(f'*.{kind}')
    return artifact


def install(session, *requirements, extras='mmpose,workbench,onnx-cpu', mmpose=MMPOSE):
    """The package with its extras, then MMPose without dependencies, as the README does it.
    Everything comes from wheels."""
    options = ('--overrides', str(OVERRIDES), '--only-binary', ':all:')
    wheel = f'mmpose_simcc[{extras}] @ {build(session).as_uri()}'
    session.install(*options, '--reinstall-package', 'mmpose_simcc', wheel, OPENCV, *requirements)
    session.install('--no-deps', mmpose)


def install_pinned(session, kind='whl'):
    """The pinned versions, then the package."""
    artifact = build(session, kind)
    session.install('--no-deps', '--only-binary', ':all:', '--requirements', str(PINNED))
    session.install('--no-deps', '--no-build-isolation', '--reinstall', str(artifact))


def empty_folder(session, name):
    folder = ROOT / session.create_tmp() / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def run(session, folder, *command):
    """Run a command in a folder from which the package of the repository cannot be imported."""
    session.chdir(folder)
    environment = dict(OMP_NUM_THREADS='1', MPLBACKEND='agg', PYTHONPATH=None)
    session.run(*command, env=environment, silent=False)


def test(session, source=ROOT):
    """Run the suite, on copies of the tests and of pytest's settings."""
    folder = empty_folder(session, 'run')
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(source / 'tests', folder / 'tests', ignore=ignored)
    shutil.copy2(source / 'pyproject.toml', folder)
    suite = ('python', '-m', 'pytest', '-n', 'auto', '--max-worker-restart=0', *session.posargs)
    run(session, folder, *suite)


@nox.session(python=OLD_PYTHON)
def oldest(session):
    """The oldest versions that the package allows."""
    install(session, *OLDEST, *TESTS, mmpose='mmpose==1.2.0')
    test(session)


@nox.session(python='3.11')
def reference(session):
    """The wheel with the pinned versions."""
    install_pinned(session)
    test(session)


@nox.session(python='3.11')
def sdist(session):
    """The sdist, and the tests in it, with the pinned versions."""
    install_pinned(session, 'tar.gz')
    folder = empty_folder(session, 'sdist')
    with tarfile.open(build(session, 'tar.gz')) as content:
        content.extractall(folder)
    test(session, next(folder.iterdir()))


@nox.session(python='3.12')
def python312(session):
    """The pinned versions for Python 3.12: numpy 2, and no xtcocotools."""
    install_pinned(session)
    test(session)


@nox.session(python=NEW_PYTHON)
def newest(session):
    """The newest versions of everything."""
    install(session, *TESTS, 'mmpretrain', 'timm')  # for the configs of pretrained backbones
    test(session)


@nox.session(python='3.11')
def compiled(session):
    """The pinned versions, but mmcv with its compiled operators."""
    install_pinned(session)
    session.run('uv', 'pip', 'uninstall', 'mmcv-lite')
    session.install('ninja')
    # uv's cache may hold one that was built for another torch
    build_here = ('--no-cache', '--no-deps', '--no-build-isolation', '--no-binary', 'mmcv')
    session.install(*build_here, 'mmcv==2.1.0')
    test(session)


@nox.session(python='3.12')
def onedl(session):
    """OneDL's forks of MMEngine, mmcv and mmdet; the newest versions of everything else."""
    install_onedl(session)
    test(session)


def install_onedl(session):
    options = ('--overrides', str(OVERRIDES))  # some are sources only, of Python alone
    companions = ('torch', 'torchvision', 'json-tricks', 'munkres', 'pycocotools', 'scipy')
    wheel = f'mmpose_simcc[workbench,onnx-cpu] @ {build(session).as_uri()}'
    session.install(*options, '--reinstall-package', 'mmpose_simcc', wheel, *ONEDL, *companions)
    session.install(*options, OPENCV, *TESTS)
    session.install('--no-deps', MMPOSE)


@nox.session
@nox.parametrize('python, packages', [(OLD_PYTHON, 'oldest'), (NEW_PYTHON, 'newest')])
def walk(session, packages):
    """A training of two iterations, `mim test`, a comparison, an export and the client."""
    if packages == 'oldest':
        install(session, *OLDEST, 'openmim', mmpose='mmpose==1.2.0')
    else:
        install(session, 'openmim')
    config = 'simcc_res18_1xb8-4e_toy-coco-64x64.py'
    checkpoint = 'trained/epoch_1.pth'
    quick = ('train_cfg.max_epochs=1', 'train_dataloader.batch_size=10')
    here = empty_folder(session, 'walk')
    session.chdir(here)
    package = session.run('python', '-c', FIND_PACKAGE, silent=True).split()[-1]
    tools = f'{package}/.mim/tools'
    configs = f'{package}/.mim/configs/body_2d_keypoint/simcc/toy_coco'
    # 20 pictures in batches of 10
    drawn = ('data/toy_coco', '--train', '20', '--val', '20')
    run(session, here, 'python', f'{tools}/make_toy_coco.py', *drawn)
    simcc = ('mmpose_simcc', config)
    run(
        *(session, here, 'mim', 'train', *simcc, '--gpus', '0', '--work-dir', 'trained'),
        *('--cfg-options', *quick),
    )
    run(
        *(session, here, 'mim', 'test', *simcc, '--checkpoint', checkpoint),
        *('--gpus', '0', '--work-dir', 'tested'),
    )
    run(session, here, 'python', f'{tools}/compare.py', f'{configs}/{config}={checkpoint}')
    run(
        *(session, here, 'python', f'{tools}/export_onnx.py'),
        *(f'{configs}/{config}', checkpoint, 'simcc.onnx'),
    )
    picture = next((here / 'data').rglob('*.jpg'))
    run(
        *(session, here, 'python', f'{tools}/infer_onnx.py', 'simcc.onnx', str(picture)),
        *('--bbox', WALK_BOX, '--out', 'found'),
    )


@nox.session(python=NEW_PYTHON)
def client(session):
    """The client's distribution alone, with the newest numpy, OpenCV and onnxruntime, on the
    exports of `walk`: it finds what `walk` found."""
    session.install(f'{ROOT / "mmpose_simcc" / "deploy" / "client"}[cpu,opencv]')
    walks = sorted((ROOT / '.nox').glob('walk-*/tmp/walk/found/predictions.json'))
    if not walks:
        session.error('there are no exports yet: nox -s walk')
    for path in walks:
        walked = path.parent.parent
        picture = next((walked / 'data').rglob('*.jpg'))
        folder = empty_folder(session, walked.parents[1].name)  # of each walk
        infer = ('mmpose-simcc-infer', str(walked / 'simcc.onnx'), str(picture))
        run(session, folder, *infer, '--bbox', WALK_BOX, '--out', 'found')
        earlier, found = (
            json.loads(file.read_text(encoding='utf-8'))['annotations'][0]['keypoints']
            for file in (path, folder / 'found' / 'predictions.json')
        )
        apart = max(abs(a - b) for a, b in zip(earlier, found))
        session.log(f'{walked}: {apart:.1g} pixels apart')
        if len(earlier) != len(found) or apart > 0.01:
            session.error(f'{walked} found {earlier}, the client alone {found}')


RUNTIME_FILES = ROOT / '.nox' / 'runtime_files_of_a_model'
COMPARE_RUNTIMES = ('python', str(ROOT / 'tools' / 'compare_runtimes.py'))
# the packages of each runtime, by its name in tools/compare_runtimes.py
RUNTIMES = dict(
    onnxruntime=['onnxruntime'],
    openvino=['openvino'],
    openvino_f32=['openvino'],
    opencv4=['opencv-python-headless<5'],
    opencv5=['opencv-python-headless>=5'],
    litert=['onnx2tf==1.29.24', 'ai-edge-litert'],  # uv would take one without TensorFlow
    ncnn=['ncnn', 'pnnx'],
    node=[],
    coreml=['coremltools', 'torch', 'numpy<2'],
)


@nox.session(python='3.11')
def runtime_files(session):
    """Write a model's exports and PyTorch's own results, for `nox -s runtimes`."""
    install_pinned(session)
    run(session, ROOT, *COMPARE_RUNTIMES, 'write', *session.posargs, str(RUNTIME_FILES))


@nox.session(python='3.11')
@nox.parametrize('runtime', list(RUNTIMES))
def runtimes(session, runtime):
    """Print how far a runtime is from PyTorch, in a table with those that ran before."""
    session.install('numpy', *RUNTIMES[runtime])
    folder = empty_folder(session, 'run')
    session.chdir(folder)
    if runtime == 'node':
        session.run('npm', 'install', '--ignore-scripts', 'onnxruntime-node', external=True)
    run(session, folder, *COMPARE_RUNTIMES, 'run', str(RUNTIME_FILES), runtime)
    run(session, folder, *COMPARE_RUNTIMES, 'table', str(RUNTIME_FILES))
