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
from ...utils.processes import only_here
from ..complexity import count_complexity
from ..identity import Content, digest, versions
from .decoders import Decoder, decoders_of
from .evaluation import RESULTS, build_metrics, evaluate, load_model
from .launch import Launcher, find_training, train
from .runs import Run, check_data, forward_identity, network_identity, training_identity
from .tables import Row
from .timing import time_runs


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
        runs (list[Run]): The models, with different names.
        work_dir (Path): Where everything is kept: ``trainings/``, and
            ``results/`` with one JSON file and the predictions of each row.
        decoders (list[str | dict], optional): See
            :func:`~mmpose_simcc.workbench.compare.decoders.decoders_of`.
        launcher (Launcher, optional): Starts the trainings; by default one
            process each.
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
    content = Content(hash_pictures)
    trainings, forwards, prefixes = [], [], []
    for run, of_run in zip(runs, codecs):
        check_data(run, 'test')
        build_metrics(run)  # before hours of training
        if not run.checkpoint:
            check_data(run, 'train')
            trainings.append(training_identity(run, launcher.world_size, content))
        else:
            trainings.append(None)
        weights = trainings[-1] or file_sha256(run.checkpoint)
        forwards.append(forward_identity(run, weights, content))
        prefixes.append(
            {
                name: work_dir / 'results' / digest([RESULTS, forwards[-1], content.of(codec)])
                for name, codec in of_run.items()
            }
        )
    todo = [_missing(*of_run) for of_run in zip(codecs, prefixes)]
    for run, missing in zip(runs, todo):
        if missing and run.checkpoint:
            load_model(run, run.checkpoint)
    launched = {
        training: run
        for run, training, missing in zip(runs, trainings, todo)
        if missing and training and not find_training(training, work_dir)
    }
    if launched:
        train(launched, work_dir, launcher)
    for run, training, forward, *of_run in zip(runs, trainings, forwards, todo, prefixes):
        # an earlier run may have computed the same rows
        if not _missing(*of_run):
            continue
        with only_here(work_dir / 'locks' / f'{forward}.lock', f'evaluate {run.name}'):
            missing = _missing(*of_run)  # nor may another process
            if missing:
                checkpoint = run.checkpoint or find_training(training, work_dir)
                _compute(run, missing, of_run[-1], checkpoint)
    return _collect(runs, codecs, prefixes, work_dir)


def _missing(decoders: Dict[str, dict], prefixes: Dict[str, Path]) -> Dict[str, dict]:
    """The decoders whose results are not there."""
    return {
        name: codec
        for name, codec in decoders.items()
        if not _result_file(prefixes[name]).is_file()
    }


def _result_file(prefix: Path) -> Path:
    return Path(f'{prefix}.json')


def _compute(
    run: Run,
    decoders: Dict[str, dict],
    prefixes: Dict[str, Path],
    checkpoint: Path,
) -> None:
    metrics = evaluate(run, str(checkpoint), decoders, prefixes)
    for name, decoder in decoders.items():
        with whole_file(_result_file(prefixes[name])) as unfinished:
            unfinished.write_text(
                json.dumps(
                    dict(metrics=metrics[name], decoder=decoder, checkpoint=str(checkpoint)),
                    default=list,
                )
            )


def _collect(
    runs: Sequence[Run],
    codecs: List[Dict[str, dict]],
    prefixes: List[Dict[str, Path]],
    work_dir: Path,
) -> List[Row]:
    times = _times(runs, codecs, work_dir)
    complexities = {}
    rows = []
    for run, of_prefix, of_times in zip(runs, prefixes, times):
        network = network_identity(run)
        if network not in complexities:
            model = build_model(run.cfg)
            size = model_input_size(model)
            complexities[network] = count_complexity(model, size), size
        cost, size = complexities[network]
        for name, prefix in of_prefix.items():
            result = json.loads(_result_file(prefix).read_text())
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
                    metrics=result['metrics'],
                    checkpoint=result['checkpoint'],
                    predictions=str(prefix),
                    boxes=run.boxes,
                    test_data=run.test_data,
                    factors=run.factors,
                )
            )
    return rows


def _times(
    runs: Sequence[Run], codecs: List[Dict[str, dict]], work_dir: Path
) -> List[Dict[str, float]]:
    """Times of all runs from one session, so that they compare."""
    session = digest(
        [
            [network_identity(run) for run in runs],
            codecs,
            versions(),
            get_device(),
            platform.node(),
            torch.get_num_threads(),
        ]
    )
    path = work_dir / 'results' / f'times-{session}.json'
    if not path.is_file():
        with only_here(work_dir / 'locks' / f'{session}.lock', 'time all models'):
            if not path.is_file():
                times = time_runs(list(runs), codecs)
                with whole_file(path) as unfinished:
                    unfinished.write_text(json.dumps(times))
    return json.loads(path.read_text())
