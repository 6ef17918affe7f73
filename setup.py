# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import os
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = ('configs', 'tools', 'model-index.yml')
# to compare, calibrate and measure
WORKBENCH = [
    'filelock',
    'ijson',  # annotations of COCO's size without all of them in memory
    'jinja2',
    'matplotlib',
    'pandas',
    'rich',
    'scipy>=1.12',  # isotonic regression
    'tabulate',
]
ONNX = ['onnx>=1.14', 'onnxslim', 'rich']
VERSION = {}
exec((ROOT / 'mmpose_simcc' / 'version.py').read_text(), VERSION)


def add_mim(package: Path, editable: bool) -> None:
    """Add ``.mim``, where mim looks for configs, tools and the model index, to
    the package: copies, or for an editable install links into this folder,
    which Windows lets few people make."""
    mim = package / '.mim'
    shutil.rmtree(mim, ignore_errors=True)
    mim.mkdir(parents=True)
    for name in MIM:
        if editable and os.name != 'nt':
            (mim / name).symlink_to(ROOT / name)
        elif (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, mim / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(ROOT / name, mim / name)


class BuildWithMim(build_py):
    def run(self):
        super().run()
        editable = getattr(self, 'editable_mode', False)
        add_mim((ROOT if editable else Path(self.build_lib)) / 'mmpose_simcc', editable)


setup(
    name='mmpose_simcc',
    version=VERSION['__version__'],
    description='SimCC, DARK, DAEC and TokenPose for MMPose',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author='mmpose_simcc contributors',
    license='Apache-2.0',
    keywords='computer vision, human pose estimation, keypoint detection',
    packages=find_packages(include=['mmpose_simcc', 'mmpose_simcc.*']),
    package_data={'mmpose_simcc': ['**/*.json', '**/*.yml', '**/*.html']},
    cmdclass=dict(build_py=BuildWithMim),
    python_requires='>=3.9',
    # What only this package needs. MMPose, MMEngine, mmcv and OpenCV go by several names on PyPI
    # (mmcv with compiled operators, mmcv-lite without; OneDL's forks), of which pip would add one
    # to another; importing the package says what to install where one is missing.
    install_requires=['numpy', 'torch>=2.1.0'],
    extras_require={
        # what MMPose needs and pip can install; MMPose itself with --no-deps, since it lists
        # chumpy and xtcocotools, which have no wheels for today's Python
        'mmpose': [
            'json-tricks',
            'matplotlib',
            'mmcv-lite>=2.0.0,<2.2.0',
            'mmdet>=3.2.0,<3.4.0',
            'mmengine>=0.8.0,<1.0.0',
            'munkres',
            'pillow',
            'pycocotools',
            'scipy',
            'torchvision',
        ],
        'workbench': WORKBENCH,
        # To export, beside onnxruntime or onnxruntime-gpu: each of them replaces files of the
        # other. The client is a distribution of its own, in deploy/client.
        'onnx': ONNX,
        'onnx-cpu': [*ONNX, 'onnxruntime>=1.15'],
        'onnx-gpu': [*ONNX, 'onnxruntime-gpu>=1.15'],
        # annotations of SLEAP, DeepLabCut and others: tools/import_data.py
        'data': [*WORKBENCH, 'sleap-io'],
        'docs': ['furo', 'myst-nb', 'sphinx', 'ziamath'],
    },
    classifiers=[
        'Development Status :: 4 - Beta',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    zip_safe=False,
)
