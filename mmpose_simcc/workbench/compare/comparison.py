# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The comparison engine: trains what has no checkpoint, evaluates every
decoder of a model from one forward pass, and keeps what is done."""

import json
import platform
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import torch
from mmengine.device import get_device

from ...utils.files import file_sha256, whole_file
from ...utils.inference import build_model, model_input_size
from ...version import __version__
from ..complexity import count_complexity
from .decoders import Decoder, calibrated_on, decoders_of
from .evaluation import RESULTS, build_metrics, evaluate, load_model
from .launch import Launcher, find_training, train
from .runs import Run, check_data, digest, forward_identity, network_identity, training_identity
from .tables import Row, Training
from .timing import time_runs


def compare(
    runs: Sequence[Run],
    work_dir: Path,
    decoders: Optional[Sequence[Decoder]] = None,
    launcher: Optional[Launcher] = None,
) -> List[Row]:
    """Compare decoders and models.

    What was done before with the same resolved config, weights and data (by
    content) is read from ``work_dir``; an interrupted training goes on.

    Args:
        runs (list[Run]): The models, with different names; those with several
            seeds are trained as often.
        work_dir (Path): Where everything is kept: ``trainings/``, and
            ``results/`` with one JSON file and the predictions of each row.
        decoders (list[str | dict], optional): See
            :func:`~mmpose_simcc.workbench.compare.decoders.decoders_of`.
        launcher (Launcher, optional): Starts the trainings; by default one
            process each.

    Returns:
        list[Row]: A row for each decoder of each run.

    Raises:
        CompareError: A config, checkpoint or data set does not serve.
    """
    work_dir = Path(work_dir)
    (work_dir / 'results').mkdir(parents=True, exist_ok=True)
    codecs = [decoders_of(run, decoders) for run in runs]
    for run in runs:  # before hours of training
        check_data(run, 'test')
        build_metrics(run)
        if not run.checkpoint:
            check_data(run, 'train')
    trainings = [
        (training, of_run) for run, of_run in zip(runs, codecs) for training in run.trainings()
    ]
    prefixes = []
    for run, of_run in trainings:
        weights = file_sha256(run.checkpoint) if run.checkpoint else training_identity(run)
        forward = forward_identity(run, weights)
        prefixes.append(
            {
                name: work_dir
                / 'results'
                / digest([__version__, RESULTS, forward, _by_content(codec)])
                for name, codec in of_run.items()
            }
        )
    todo = [
        {
            name: codec
            for name, codec in of_run.items()
            if not _result_file(of_prefix[name]).is_file()
        }
        for (_, of_run), of_prefix in zip(trainings, prefixes)
    ]
    for (run, _), missing in zip(trainings, todo):
        if missing and run.checkpoint:
            load_model(run, run.checkpoint)
    launched = {
        training_identity(run): run
        for (run, _), missing in zip(trainings, todo)
        if missing and not run.checkpoint and not find_training(run, work_dir)
    }
    if launched:
        train(list(launched.values()), work_dir, launcher or Launcher())
    for (run, _), of_run, of_prefix in zip(trainings, todo, prefixes):
        # an earlier run may have computed the same rows
        missing = {
            name: codec
            for name, codec in of_run.items()
            if not _result_file(of_prefix[name]).is_file()
        }
        if missing:
            _compute(run, missing, of_prefix, work_dir)
    by_training = iter(prefixes)
    of_runs = [[next(by_training) for _ in run.trainings()] for run in runs]
    return _collect(runs, codecs, of_runs, work_dir)


def _by_content(codec: dict) -> dict:
    """A codec with files (of learned factors) replaced by their content."""
    return {
        name: file_sha256(value) if isinstance(value, str) and Path(value).is_file() else value
        for name, value in codec.items()
    }


def _result_file(prefix: Path) -> Path:
    return Path(f'{prefix}.json')


def _compute(
    run: Run,
    decoders: Dict[str, dict],
    prefixes: Dict[str, Path],
    work_dir: Path,
) -> None:
    checkpoint = run.checkpoint or find_training(run, work_dir)
    metrics = evaluate(run, str(checkpoint), decoders, prefixes)
    for name, decoder in decoders.items():
        with whole_file(_result_file(prefixes[name])) as unfinished:
            unfinished.write_text(
                json.dumps(
                    dict(
                        metrics=metrics[name],
                        decoder=decoder,
                        checkpoint=str(checkpoint),
                        calibrated_on=calibrated_on(decoder),
                    ),
                    default=list,
                )
            )


def _collect(
    runs: Sequence[Run],
    codecs: List[Dict[str, dict]],
    prefixes: List[List[Dict[str, Path]]],
    work_dir: Path,
) -> List[Row]:
    times = _times(runs, codecs, work_dir)
    complexities = {}
    rows = []
    for run, of_run, of_prefixes, of_times in zip(runs, codecs, prefixes, times):
        network = network_identity(run)
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
                    factors=run.factors,
                )
            )
    return rows


def _read_training(prefix: Path) -> Training:
    result = json.loads(_result_file(prefix).read_text())
    return Training(result['checkpoint'], str(prefix), result['metrics'], result['calibrated_on'])


def _times(
    runs: Sequence[Run], codecs: List[Dict[str, dict]], work_dir: Path
) -> List[Dict[str, float]]:
    """Times of all runs from one session, so that they compare."""
    session = digest(
        [
            [network_identity(run) for run in runs],
            codecs,
            torch.__version__,
            get_device(),
            platform.node(),
            torch.get_num_threads(),
        ]
    )
    path = work_dir / 'results' / f'times-{session}.json'
    if not path.is_file():
        with whole_file(path) as unfinished:
            unfinished.write_text(json.dumps(time_runs(list(runs), codecs)))
    return json.loads(path.read_text())
