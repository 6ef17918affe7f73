# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The comparison engine: trains what has no checkpoint, evaluates every
decoder of a model from one forward pass, and keeps what is done."""

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

import torch
from mmengine.device import get_device

from ...utils.files import file_sha256
from ...utils.inference import build_model, model_input_size
from ...utils.processes import locked
from ..complexity import count_complexity
from ..identity import (
    Content,
    digest,
    forward_identity,
    network_identity,
    training_identity,
    versions,
)
from ..launcher import Launcher
from .decoders import Decoder, decoders_of
from .evaluation import RESULTS, evaluate, load_model, result_file
from .launch import call, find_training, train
from .rows import Row, Training
from .runs import Run
from .study import Study, check_metric_names, check_study, expand_decoders
from .timing import save_times
from .trial import check_annotations, try_out, try_training


def compare(
    runs: Sequence[Run],
    work_dir: Path,
    decoders: Optional[Sequence[Decoder]] = None,
    launcher: Optional[Launcher] = None,
    hash_pictures: bool = False,
) -> List[Row]:
    """Compare decoders and models.

    What was done before with the same resolved config, weights, data and
    versions is read from ``work_dir``; an interrupted training goes on. Several
    processes may share ``work_dir``: what one of them does the others wait for.

    Args:
        runs (list[Run]): The models, with different names; those with several
            seeds are trained as often.
        work_dir (Path): Where everything is kept: ``trainings/``, and
            ``results/`` with one JSON file and the predictions of each row.
        decoders (list[str | dict], optional): See
            :func:`~mmpose_simcc.workbench.compare.decoders.decoders_of`.
        launcher (Launcher, optional): Starts the processes of trainings and
            evaluations; by default a training has one of its own, and an
            evaluation this one.
        hash_pictures (bool): Whether pictures count by their content, for
            which all are read; else by size and modification time.

    Returns:
        list[Row]: A row for each decoder of each run.

    Raises:
        CompareError: A config, checkpoint or data set does not serve.
    """
    work_dir, launcher = Path(work_dir), launcher or Launcher()
    for name in ('results', 'locks'):
        (work_dir / name).mkdir(parents=True, exist_ok=True)
    codecs = [decoders_of(run, decoders) for run in runs]
    for run in runs:  # before hours of training
        run.check_data('test')
        if not run.checkpoint:
            run.check_data('train')
    content = Content(hash_pictures)
    works = [
        [_work(training, of_run, launcher, content, work_dir) for training in run.trainings()]
        for run, of_run in zip(runs, codecs)
    ]
    todo = [work for of_run in works for work in of_run if work.missing]
    tried = set()
    for work in todo:
        if work.run.checkpoint:
            load_model(work.run, work.run.checkpoint)
        # seeds differ in nothing else
        config = digest(dict(work.run.cfg.to_dict(), randomness=None))
        if config not in tried:
            tried.add(config)
            _check_annotations_once(work.run, tried)
            try_out(work.run, work.missing)
            if not work.run.checkpoint:
                try_training(work.run)
    launched = {
        work.training: work.run
        for work in todo
        if work.training and not find_training(work.training, work_dir)
    }
    if launched:
        train(launched, work_dir, launcher)
    for work in todo:
        if not work.missing:  # an earlier run had the same rows
            continue
        with locked(work_dir / 'locks' / f'{work.forward}.lock', f'evaluate {work.run.name}'):
            _evaluate(work, work_dir, launcher)
    prefixes = [[work.prefixes for work in of_run] for of_run in works]
    return _collect(runs, codecs, prefixes, work_dir, launcher)


def _check_annotations_once(run: Run, checked: Set[str]) -> None:
    data = [digest(run.cfg.to_dict()[f'{split}_dataloader']) for split in ('train', 'test')]
    if not set(data) <= checked:
        checked.update(data)
        check_annotations(run, lambda line: print(f'compare: {line}', file=sys.stderr))


class _Work(NamedTuple):
    """What one forward pass serves.

    Attributes:
        run (Run): Its weights are a checkpoint or those of one training.
        decoders (dict): Codec configs by name.
        training (str, optional): Identity of the training.
        forward (str): Identity of the forward pass.
        prefixes (dict): For each decoder, where its files go.
    """

    run: Run
    decoders: Dict[str, dict]
    training: Optional[str]
    forward: str
    prefixes: Dict[str, Path]

    @property
    def missing(self) -> Dict[str, dict]:
        """The decoders without a result."""
        return {
            name: codec
            for name, codec in self.decoders.items()
            if not result_file(self.prefixes[name]).is_file()
        }


def _work(
    run: Run, decoders: Dict[str, dict], launcher: Launcher, content: Content, work_dir: Path
) -> _Work:
    training = None if run.checkpoint else training_identity(run.cfg, launcher.world_size, content)
    forward = forward_identity(run.cfg, training or file_sha256(run.checkpoint), content)
    prefixes = {
        name: work_dir / 'results' / digest([RESULTS, forward, content.of(codec)])
        for name, codec in decoders.items()
    }
    return _Work(run, decoders, training, forward, prefixes)


def _evaluate(work: _Work, work_dir: Path, launcher: Launcher) -> None:
    """Evaluate in the processes of a launcher, or in this one."""
    decoders = work.missing  # another process may have computed some
    if not decoders:
        return
    checkpoint = str(work.run.checkpoint or find_training(work.training, work_dir))
    arguments = (work.run, checkpoint, decoders, work.prefixes)
    if launcher.name == 'none':
        evaluate(*arguments)
    else:
        folder = work_dir / 'calls' / work.forward
        call(evaluate, arguments, f'evaluate {work.run.name}', folder, launcher)


def _collect(
    runs: Sequence[Run],
    codecs: List[Dict[str, dict]],
    prefixes: List[List[Dict[str, Path]]],
    work_dir: Path,
    launcher: Launcher,
) -> List[Row]:
    times = _times(runs, codecs, work_dir, launcher)
    complexities = {}
    rows = []
    for run, of_run, of_prefixes, of_times in zip(runs, codecs, prefixes, times):
        network = network_identity(run.cfg)
        if network not in complexities:
            model = build_model(run.cfg)
            size = model_input_size(model)
            complexities[network] = count_complexity(model, size), size
        cost, size = complexities[network]
        for name in of_run:
            rows.append(
                Row(
                    config=run.name,
                    scheme=run.scheme,
                    decoder=name,
                    input_size=size,
                    params=cost.params / 1e6,
                    paper_gflops=cost.paper_gflops,
                    gflops=cost.gflops,
                    forward_ms=1e3 * of_times['forward'],
                    decode_ms=1e3 * of_times[name],
                    trainings=[_read_training(prefix[name]) for prefix in of_prefixes],
                    boxes=run.boxes,
                    test_data=run.test_data,
                    # the default of data sets without them is one for all keypoints
                    known_sigmas=len(set(run.sigmas)) > 1,
                    factors=run.factors,
                )
            )
    return rows


def _read_training(prefix: Path) -> Training:
    result = json.loads(result_file(prefix).read_text())
    return Training(result['checkpoint'], str(prefix), result['metrics'], result['calibrated_on'])


def _times(
    runs: Sequence[Run], codecs: List[Dict[str, dict]], work_dir: Path, launcher: Launcher
) -> List[Dict[str, float]]:
    """Times of all runs from one session, so that they compare."""
    session = digest(
        [
            [network_identity(run.cfg) for run in runs],
            codecs,
            versions(*(run.cfg.to_dict()['model'] for run in runs)),
            get_device(),
            platform.node(),
            torch.get_num_threads(),
        ]
    )
    path = work_dir / 'results' / f'times-{session}.json'
    if not path.is_file():
        with locked(work_dir / 'locks' / f'{session}.lock', 'time all models'):
            if not path.is_file():
                _measure(list(runs), codecs, path, work_dir, launcher)
    return json.loads(path.read_text())


def _measure(
    runs: List[Run],
    codecs: List[Dict[str, dict]],
    path: Path,
    work_dir: Path,
    launcher: Launcher,
) -> None:
    if launcher.name == 'slurm':  # networks run on other machines than this one
        folder = work_dir / 'calls' / path.stem
        alone = replace(launcher, processes=1)
        call(save_times, (runs, codecs, path), 'time side by side', folder, alone)
    else:
        save_times(runs, codecs, path)


def run_study(
    study: Study,
    runs: List[Run],
    work_dir: Path,
    launcher: Optional[Launcher] = None,
    hash_pictures: bool = False,
) -> List[Row]:
    """Run a study.

    Args:
        study (Study): The study.
        runs (list[Run]): Its :func:`study_runs`.
        work_dir (Path): The comparison's folder, see
            :func:`compare`. Studies that share it share trainings.
        launcher (Launcher, optional): Starts the trainings.
        hash_pictures (bool): See :func:`compare`.

    Returns:
        list[Row]: The rows with all their factors.

    Raises:
        CompareError: A config, checkpoint or data set does not serve, or there
            is no metric of a name.
    """
    check_study(study, runs)
    check_metric_names(study, runs)
    decoders, factors = expand_decoders(study.decoders)
    rows = compare(runs, work_dir, decoders, launcher, hash_pictures)
    for row in rows:
        row.factors = {**row.factors, 'decoder': row.decoder, **factors.get(row.decoder, {})}
    return rows
