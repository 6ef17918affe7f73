# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The comparison engine: trains what has no checkpoint, evaluates every
decoder of a model from one forward pass, and keeps what is done."""

import sys
from pathlib import Path
from typing import List, Optional, Sequence

from ...utils.files import file_sha256
from ...utils.inference import build_model, model_input_size
from ...utils.processes import locked
from ..complexity import count_complexity
from ..identity import Content, digest, forward_identity, network_identity, training_identity
from .data import forget_data
from .decoders import Decoder, decoders_of
from .evaluation import RESULTS, ForwardPass, evaluate, load_model
from .launch import Launcher, call
from .rows import Row
from .runs import Run
from .study import Study, check_metric_names, check_study, planned_rows
from .timing import read_times
from .trainings import find_training, train
from .trial import check_annotations, try_out, try_training


def compare(
    runs: Sequence[Run],
    work_dir: Path,
    decoders: Optional[Sequence[Decoder]] = None,
    launcher: Optional[Launcher] = None,
    hash_pictures: bool = False,
) -> List[Row]:
    """Compare decoders and models.

    Results of the same resolved config, weights, data and versions are read
    from ``work_dir`` where they are there already; an interrupted training goes
    on. Several processes may share ``work_dir``: they wait for each other's
    trainings and evaluations instead of repeating them.

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
    plan = _plan(runs, work_dir, decoders, launcher, Content(hash_pictures))
    todo = [each for passes in plan for each in passes if each.missing]
    _try(todo)  # before hours of training
    trainings = {
        each.training: each.run
        for each in todo
        if each.training and not find_training(each.training, work_dir)
    }
    if trainings:
        forget_data()  # for hours
        train(trainings, work_dir, launcher)
    for each in todo:
        _evaluate(each, work_dir, launcher)
    times = read_times(runs, [passes[0].decoders for passes in plan], work_dir, launcher)
    costs, rows = {}, []
    for run, passes, seconds in zip(runs, plan, times):
        network = network_identity(run.cfg)
        if network not in costs:
            model = build_model(run.cfg)
            size = model_input_size(model)
            costs[network] = size, count_complexity(model, size)
        size, cost = costs[network]
        for name in passes[0].decoders:
            found = [each.read(name) for each in passes]
            rows.append(Row.of(run, name, found, size, cost, seconds['forward'], seconds[name]))
    return rows


def _plan(
    runs: Sequence[Run],
    work_dir: Path,
    decoders: Optional[Sequence[Decoder]],
    launcher: Launcher,
    content: Content,
) -> List[List[ForwardPass]]:
    """For each run a forward pass of each of its trainings."""
    codecs = [decoders_of(run, decoders) for run in runs]
    for run in runs:
        run.check_data('test')
        if not run.checkpoint:
            run.check_data('train')
    plan = []
    for run, of_run in zip(runs, codecs):
        passes = []
        for each in run.trainings():
            training = None
            if not run.checkpoint:
                training = training_identity(each.cfg, launcher.world_size, content)
            weights = training or file_sha256(run.checkpoint)
            identity = forward_identity(each.cfg, weights, content)
            prefixes = {
                name: work_dir / 'results' / digest([RESULTS, identity, content.of(codec)])
                for name, codec in of_run.items()
            }
            passes.append(ForwardPass(each, training, identity, of_run, prefixes))
        plan.append(passes)
    return plan


def _try(todo: Sequence[ForwardPass]) -> None:
    """Check each set of annotations, and send one batch of each config through all that will be
    done with it."""
    tried = set()
    for each in todo:
        run = each.run
        if run.checkpoint:
            load_model(run, run.checkpoint)
        # once for all seeds
        config = digest(dict(run.cfg.to_dict(), randomness=None))
        if config in tried:
            continue
        data = {digest(run.cfg.to_dict()[f'{split}_dataloader']) for split in ('train', 'test')}
        if not data <= tried:
            check_annotations(run, lambda line: print(f'compare: {line}', file=sys.stderr))
        tried |= {config, *data}
        trial = try_out(run, each.missing)
        if not run.checkpoint:
            try_training(run, trial.model)


def _evaluate(each: ForwardPass, work_dir: Path, launcher: Launcher) -> None:
    """Evaluate the decoders that have no result yet."""
    if not each.missing:
        return
    name = f'evaluate {each.run.name}'
    with locked(work_dir / 'locks' / f'{each.identity}.lock', name):
        decoders = [*each.missing]  # fewer, if another process has evaluated some meanwhile
        if decoders:
            checkpoint = str(each.run.checkpoint or find_training(each.training, work_dir))
            folder = work_dir / 'calls' / each.identity
            call(evaluate, (each, decoders, checkpoint), name, folder, launcher)


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
    rows = compare(runs, work_dir, study.decoders, launcher, hash_pictures)
    for row, factors in zip(rows, planned_rows(study, runs)):
        row.factors = factors
    return rows
