# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop

ROOT = Path(__file__).resolve().parent
MIM = ('configs', 'tools', 'model-index.yml')
VERSION = {}
exec((ROOT / 'mmpose_simcc' / 'version.py').read_text(), VERSION)


def add_mim(package: Path, link: bool) -> None:
    """Add ``.mim``, where mim looks for configs, tools and the model index, to
    the package: links into this folder, or copies."""
    mim = package / '.mim'
    shutil.rmtree(mim, ignore_errors=True)
    mim.mkdir(parents=True)
    for name in MIM:
        if link:
            (mim / name).symlink_to(ROOT / name)
        elif (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, mim / name, ignore=shutil.ignore_patterns('__pycache__'))
        else:
            shutil.copy2(ROOT / name, mim / name)


class BuildWithMim(build_py):
    def run(self):
        super().run()
        editable = getattr(self, 'editable_mode', False)
        add_mim((ROOT if editable else Path(self.build_lib)) / 'mmpose_simcc', link=editable)


class DevelopWithMim(develop):
    """The editable install that mim finds packages by; see the Makefile."""

    def run(self):
        super().run()
        add_mim(ROOT / 'mmpose_simcc', link=True)


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
    cmdclass=dict(build_py=BuildWithMim, develop=DevelopWithMim),
    python_requires='>=3.9',
    # Ranges, so that nothing of an existing MMPose is up- or downgraded.
    # mmcv is left out on purpose: it goes by two names on PyPI (mmcv with
    # compiled ops, mmcv-lite without), and pip would add one to the other;
    # importing the package says what to install where both are missing.
    # OpenCV comes with mmpose, also under two names.
    install_requires=[
        'filelock',
        'ijson',  # annotations of COCO's size without all of them in memory
        'jinja2',
        'matplotlib',
        'mmengine>=0.8.0,<1.0.0',
        'mmpose>=1.2.0,<1.4.0',
        'numpy',
        'pandas',
        'rich',
        'scipy>=1.12',  # isotonic regression
        'tabulate',
        'torch>=2.1.0',
        'tqdm',
    ],
    extras_require={
        'docs': ['furo', 'myst-nb', 'sphinx', 'ziamath'],
        # To export, beside onnxruntime or onnxruntime-gpu: each of them replaces files of the
        # other. The client is a distribution of its own, in deploy/client.
        'onnx': ['onnx>=1.14'],
        'onnx-cpu': ['onnx>=1.14', 'onnxruntime>=1.15'],
        'onnx-gpu': ['onnx>=1.14', 'onnxruntime-gpu>=1.15'],
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
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    zip_safe=False,
)
