# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = {}
exec((ROOT / 'mmpose_simcc' / 'version.py').read_text(), VERSION)

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
    include_package_data=True,
    python_requires='>=3.9',
    # Ranges, so that nothing of an existing MMPose is up- or downgraded.
    # mmcv is left out on purpose: it goes by two names on PyPI (mmcv with
    # compiled ops, mmcv-lite without), and pip would add one to the other;
    # importing the package says what to install where both are missing.
    # OpenCV comes with mmpose, also under two names.
    install_requires=[
        'matplotlib',
        'mmengine>=0.8.0,<1.0.0',
        'mmpose>=1.2.0,<1.4.0',
        'numpy',
        'torch>=2.0.0',
        'tqdm',
    ],
    classifiers=[
        'Development Status :: 4 - Beta',
        'License :: OSI Approved :: Apache Software License',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    zip_safe=False)
