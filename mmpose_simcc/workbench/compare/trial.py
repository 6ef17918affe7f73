# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Sends one batch through all that a comparison does, before hours of training: what would fail
at their end fails here."""

import contextlib
import copy
import inspect
import itertools
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from mmpose.models import TopdownPoseEstimator
from mmpose.registry import HOOKS, OPTIMIZERS, PARAM_SCHEDULERS
from torch import Tensor
from torch.utils.data import DataLoader

from ...config import check_config
from ...config.checks import reads_grey
from ...utils.configs import class_of, dicts_of_type
from ...utils.console import silenced
from ...utils.files import save_arrays
from ...utils.inference import (
    build_model,
    model_input_size,
    network_outputs,
    one_line,
    pose_head,
)
from ..complexity import count_complexity
from ..data import check_data
from ..scoring import People, Scorer, Scores, predict
from .data import load_test_data
from .errors import CompareError
from .evaluation import decode_by
from .report.pictures import load_people, plot_samples
from .rows import Row, Training
from .runs import Run, schedulers_of
from .timing import decoder_inputs

BATCH = 4  # people


class Trial(NamedTuple):
    """What one batch gives.

    Attributes:
        model (TopdownPoseEstimator): Untrained.
        outputs (tuple): Of the network, as the head decodes them.
        people (People): Of the batch.
        scores (dict): For each decoder.
    """

    model: TopdownPoseEstimator
    outputs: Tuple[Tensor, ...]
    people: People
    scores: Dict[str, Scores]


@contextlib.contextmanager
def step(run: Run, name: str) -> Iterator[None]:
    """A step of a trial, whose errors become one line.

    Raises:
        CompareError: Whatever was raised in it.
    """
    try:
        with silenced():
            yield
    except CompareError:
        raise
    except Exception as error:  # of anybody's dataset, transform, model or metric
        raise CompareError(f'{run.name}, {name}: {one_line(error)}') from error


def _hooks(run: Run) -> List[dict]:
    default = (run.cfg.get('default_hooks') or {}).values()
    return [hook for hook in (*(run.cfg.get('custom_hooks') or ()), *default) if hook]


def check_annotations(run: Run, say: Callable[[str], None]) -> None:
    """Look at the annotations that a run is trained and tested on.

    Args:
        run (Run): The run.
        say (callable): Gets a line about what may be wrong.

    Raises:
        CompareError: They are such that figures would mean nothing.
    """
    cfg = copy.deepcopy(run.cfg)
    cfg.val_dataloader = None  # not used
    if run.checkpoint:
        cfg.train_dataloader = None
    with step(run, 'annotations'):
        found = check_data(cfg)
    for finding in found:  # errors come first
        line = (
            f'{run.name}, {finding.split} data: {finding.what} ({finding.number}); see '
            f'python tools/check_data.py {run.cfg.filename}'
        )
        if finding.level == 'error':
            raise CompareError(line)
        if finding.level == 'warning':
            say(line)


def _first_batch(loader: DataLoader) -> dict:
    """Few people, read in this process, since to start data workers takes seconds."""
    first = itertools.islice(loader.sampler, min(loader.batch_size, BATCH))
    return loader.collate_fn([loader.dataset[index] for index in first])


def try_training(run: Run, model: TopdownPoseEstimator) -> None:
    """Send one batch of the training data through an untrained model, its loss and back, and look
    at what else a training needs: weights to start from, optimizer, schedules and hooks.

    Args:
        run (Run): The run.
        model (TopdownPoseEstimator): Its model.

    Raises:
        CompareError: A step fails, the loss is not finite, or a hook or scheduler needs a
            validation, which comparisons leave out: they score the last checkpoint.
    """
    cfg = copy.deepcopy(run.cfg)
    for part in (*_hooks(run), *schedulers_of(cfg)):
        kind = str(part.get('type'))
        if 'EarlyStopping' in kind or 'ReduceOnPlateau' in kind:
            raise CompareError(
                f'{run.name}: {kind} follows the metrics of a validation, but a comparison trains '
                'without one and scores the last epoch: take it out of the config'
            )
    weights = [each.get('checkpoint') for each in dicts_of_type(cfg.model, 'Pretrained')]
    for path in filter(None, [*weights, cfg.get('load_from')]):
        if '://' not in path and not Path(path).expanduser().is_file():
            raise CompareError(f'{run.name}: there is no {path}, the weights to start from')
    with step(run, 'training data'):
        batch = _first_batch(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    with step(run, 'loss of a training batch'):
        data = model.train().data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        if not loss.isfinite():
            raise ValueError(f'it is {loss:g} before the first step')
        loss.backward()
    with step(run, 'optimizer'):
        kind = (cfg.optim_wrapper.get('optimizer') or {}).get('type')
        if isinstance(kind, str) and OPTIMIZERS.get(kind) is None:
            raise ValueError(f'there is no optimizer {kind}')
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    with step(run, '`param_scheduler`'):
        for scheduler in schedulers_of(run.cfg):
            scheduler = dict(scheduler, optimizer=optimizer)
            scheduler.pop('convert_to_iter_based', None)
            PARAM_SCHEDULERS.build(scheduler)
    with step(run, 'hooks'):
        for hook in _hooks(run):  # some can be built in a runner alone
            kind = class_of(hook, HOOKS)
            if kind is None:
                raise ValueError(f'there is no hook {hook["type"]}')
            arguments = {k: hook[k] for k in hook if k not in ('type', 'priority', '_scope_')}
            inspect.signature(kind).bind(**arguments)


@torch.no_grad()
def try_decoders(run: Run, decoders: Dict[str, dict]) -> Trial:
    """Send one batch of the test data through the untrained network, every decoder and the
    metrics.

    Args:
        run (Run): The run.
        decoders (dict): Codec configs by name.

    Returns:
        Trial: What the batch gives.

    Raises:
        CompareError: A step fails; the message says which, and why.
    """
    run.build_metrics()
    if reads_grey(run.cfg):
        raise CompareError(
            f"{run.name}: a pipeline has LoadImage(color_type='grayscale'), but networks are "
            "counted, timed and exported with three channels: color_type='color' reads grey "
            'pictures so'
        )
    with step(run, 'its parts'):
        try:
            check_config(run.cfg)
        except ValueError as error:
            raise CompareError(f'{run.name}: {error}') from error
    with step(run, 'model'):
        model = build_model(run.cfg)
    own_decoder = pose_head(model).decoder
    with step(run, 'test data'):
        loader = load_test_data(run.cfg)
        batch = _first_batch(loader)
    with step(run, 'network'):
        outputs, samples = next(network_outputs(model, [batch]))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, decoder in decoders.items():
            with step(run, f'decoder {name}'):
                decode = {name: decode_by(pose_head(model), decoder)}
                people, predictions = predict(
                    model, [(outputs, samples)], decode, loader.dataset.metainfo
                )
            if not found:
                with step(run, 'metrics'):
                    scorer = Scorer(run.cfg.test_evaluator, people)
            with step(run, f'metrics of the decoder {name}'):
                found[name] = scorer(*predictions[name].load(), Path(folder, name))
    pose_head(model).decoder = own_decoder
    return Trial(model, outputs, people, found)


@torch.no_grad()
def try_out(run: Run, decoders: Dict[str, dict]) -> Trial:
    """Send one batch of the test data through all that a comparison does with a model: what
    :func:`try_decoders` does, the count of its size, the timing and the pictures.

    Args:
        run (Run): The run.
        decoders (dict): Codec configs by name.

    Returns:
        Trial: What the batch gives.

    Raises:
        CompareError: A step fails; the message says which, and why.
    """
    trial = try_decoders(run, decoders)
    model, found = trial.model, trial.scores
    with tempfile.TemporaryDirectory() as folder:
        with step(run, 'size of the network'):
            size = model_input_size(model)
            cost = count_complexity(model, size)
        with step(run, 'time of a picture'):
            decoder_inputs(model, torch.zeros(1, 3, *size[::-1]))
        with step(run, 'pictures'):
            name, scores = next(iter(found.items()))
            prefix = str(Path(folder, 'trial'))
            save_arrays(f'{prefix}.npz', **scores.arrays)
            row = Row.of(run, name, [Training('', prefix, scores.metrics)], size, cost)
            figure = plot_samples([row], next(iter(row.metrics)), {row.test_data: load_people(run)})
            figure.savefig(Path(folder, 'trial.png'))
    return trial
