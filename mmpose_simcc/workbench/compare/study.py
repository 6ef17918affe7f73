# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Studies: models x codec arguments x decoders, and how to show them."""

import inspect
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpose.registry import KEYPOINT_CODECS

from ...utils.inference import pose_head_cfg
from ..data.coco import annotations_of, datasets_of
from ..metrics import RELIABILITY, value_names
from ..scoring import result_key
from .data import test_on, use_annotated_boxes, use_hold_out
from .decoders import Decoder, decoders_of, expand_decoders
from .errors import CompareError
from .rows import COSTS, find_key
from .runs import Run, read_config, vary


@dataclass
class Study:
    """What is compared, and the form in which it is shown.

    Rows are told apart by factors: ``model``, ``scheme``, ``decoder``, each
    varied codec argument by its name, and the ``factors`` of models and decoders.

    Attributes:
        models (list): Configs, or dicts with ``config`` and optionally
            ``name``, ``checkpoint``, ``options`` (as ``--cfg-options``),
            ``schedule`` (its own ``lr``, ``epochs`` and ``flip_test``) and
            ``factors``.
        codec (dict | list[dict]): Codec arguments to vary (``unbiased``,
            ``label_smoothing``, ``simcc_split_ratio``, ``input_size``,
            ``sigma`` and so on): values of each, of which all combinations
            are taken, or a list of combinations. An argument that only other
            models' codecs have leaves a model as it is.
        decoders (list, optional): Names, or codecs with a ``name``; ``each``
            in such a codec names arguments to vary. See
            :func:`~mmpose_simcc.workbench.compare.decoders.decoders_of`.
        schedule (dict): Values to vary, in all combinations, of ``lr`` (the
            optimizer's), ``epochs`` (with which the learning rate's schedule
            is stretched) and ``flip_test`` ('none', 'stock', 'exact').
        seeds (int): How often each model is trained.
        split (str): ``'test'``; ``'train'`` to evaluate on the training data;
            ``'hold_out'`` to train on four fifths of the training images and
            evaluate on the others, by which a recipe may be chosen.
        evaluator (dict, optional): Metrics in place of the configs' own.
        title (str): What is studied.
        claim (str): What the paper finds.
        value (str, optional): Metric of plots and of tables with factors in
            columns. By default AP, else PCK, NME or EPE.
        rows (list[str]): Factors that make the table's rows.
        columns (str | list[str]): Factor whose values are the columns, or
            names of metrics and costs. All metrics by default.
        plot (dict): ``kind`` ('bars' or 'lines'), the factors ``x`` and
            ``series``, and ``marks``, x values to mark by series, with their
            ``mark_label``.
        labels (dict): By factor, its ``title`` and names of its ``values``.
        baseline (dict): Factors of what each row is compared with; the other
            factors are the row's own. By default the best row.
        disagree (list): Two factor dicts or decoder names, between which
            the pictures show the largest disagreements. By default the best
            row and the worst.
    """

    models: List[Union[str, dict]]
    codec: Union[Dict[str, list], List[dict]] = field(default_factory=dict)
    decoders: Optional[List[Decoder]] = None
    schedule: Dict[str, list] = field(default_factory=dict)
    seeds: int = 1
    split: str = 'test'
    evaluator: Optional[dict] = None
    title: str = 'Comparison'
    claim: str = ''
    value: Optional[str] = None
    rows: List[str] = field(default_factory=lambda: ['model', 'decoder'])
    columns: Union[str, List[str], None] = None
    plot: dict = field(default_factory=dict)
    labels: Dict[str, dict] = field(default_factory=dict)
    baseline: dict = field(default_factory=dict)
    disagree: List[Union[str, dict]] = field(default_factory=list)
    folder: Path = Path()

    def __post_init__(self) -> None:
        self.models = [dict(config=m) if isinstance(m, str) else m for m in self.models]

    @property
    def codec_changes(self) -> List[dict]:
        """What is changed in codecs; an empty dict where they stay as they are."""
        codec = self.codec or {}
        return codec if isinstance(codec, list) else _combinations(codec)

    @property
    def pair(self) -> List[dict]:
        """The factors of the two that ``disagree``."""
        return [dict(decoder=d) if isinstance(d, str) else d for d in self.disagree]

    def title_of(self, factor: str) -> str:
        return self.labels.get(factor, {}).get('title', factor.replace('_', ' ').capitalize())

    def label(self, factor: str, value: Any) -> str:
        """A factor's value in words."""
        values = self.labels.get(factor, {}).get('values', {})
        if isinstance(value, (list, tuple)):
            # sizes are height x width wherever people write them
            parts = reversed(value) if factor == 'input_size' else value
            value = 'x'.join(map(str, parts))
        if value in values:
            return str(values[value])
        if value is None:
            return '-'
        return f'{value:g}' if isinstance(value, float) else str(value)


def named_models(specs: Sequence[str]) -> List[dict]:
    """Models as a command line names them.

    Args:
        specs (list[str]): ``CONFIG`` or ``CONFIG=CHECKPOINT`` each.

    Returns:
        list[dict]: Named by their config, with its folder where two configs have the same name,
        and with the checkpoint where one config is named several times.

    Raises:
        CompareError: The same is named twice.
    """
    found = []
    for spec in specs:
        config, checkpoint = _split(spec)
        if dict(config=config, checkpoint=checkpoint) in found:
            raise CompareError(f'{spec} is named twice')
        found.append(dict(config=config, checkpoint=checkpoint))
    paths = {model['config']: Path(model['config']).with_suffix('') for model in found}
    for model in found:
        parts = paths[model['config']].parts
        for length in range(1, len(parts) + 1):  # the folder too, where it tells two apart
            others = [path for config, path in paths.items() if config != model['config']]
            if parts[-length:] not in [path.parts[-length:] for path in others]:
                break
        model['name'] = '/'.join(parts[-length:])
    names = [model['name'] for model in found]
    for model, name in zip(found, names):
        if names.count(name) > 1 and model['checkpoint']:
            model['name'] += f'={Path(model["checkpoint"]).stem}'
    return found


def _split(spec: str) -> Tuple[str, Optional[str]]:
    """The paths in ``CONFIG=CHECKPOINT``, each of which may have a ``=`` of its own."""
    for place in (i for i, letter in enumerate(spec + '=') if letter == '='):
        if spec[:place].endswith(('.py', '.json', '.yml', '.yaml')):
            return spec[:place], spec[place + 1 :] or None
    config, _, checkpoint = spec.partition('=')
    return config, checkpoint or None


SCHEDULE = ('lr', 'epochs', 'flip_test')
VARIANTS = ('full', 'faces')
SPLITS = ('test', 'train', 'hold_out')


def load_study(path: str, variant: Optional[str] = None) -> Study:
    """Read a study file.

    Args:
        path (str): A YAML, JSON or Python file with :class:`Study`'s
            attributes. Configs are relative to its folder.
        variant (str, optional): The part of the file that replaces the entries of the same name:
            ``full`` (the models and sizes of the paper) or ``faces`` (photographs).

    Returns:
        Study: The study.

    Raises:
        CompareError: There is no such file, or it is not a study.
    """
    if not Path(path).is_file():
        raise CompareError(f'there is no study {path}')
    try:
        content = Config.fromfile(path).to_dict()
    except Exception as error:  # a file of any kind: anything may happen
        raise CompareError(f'study {path}: {error}') from error
    overrides = {name: content.pop(name, None) for name in VARIANTS}
    if variant:
        if not overrides[variant]:
            raise CompareError(f'study {path} has no part `{variant}`')
        content.update(overrides[variant])
    allowed = [f.name for f in fields(Study) if f.name != 'folder']
    for name in content:
        if name not in allowed:
            raise CompareError(
                f'study {path}: `{name}` is not one of {", ".join([*allowed, *VARIANTS])}'
            )
    if content.get('split', 'test') not in SPLITS:
        raise CompareError(
            f'study {path}: `split` is {content["split"]!r}, must be one of {", ".join(SPLITS)}'
        )
    if not content.get('models'):
        raise CompareError(f'study {path} has no `models`')
    return Study(folder=Path(path).parent, **content)


def study_runs(
    study: Study,
    data_root: Optional[str] = None,
    gt_boxes: bool = False,
    work_dir: Path = Path(),
    cfg_options: Optional[dict] = None,
    before_data: Optional[Callable[[List[Config]], None]] = None,
) -> List[Run]:
    """The models of a study, one for each combination that it varies.

    Args:
        study (Study): The study.
        data_root (str, optional): Folder in place of the configs'
            ``data_root``.
        gt_boxes (bool): Whether annotated boxes replace detected ones.
        work_dir (Path): The comparison's folder, to which the annotations of a
            hold-out are written.
        cfg_options (dict, optional): Changes of all configs as they are read, by names such as
            ``'train_cfg.max_epochs'``.
        before_data (callable, optional): Gets all configs before a hold-out reads their data,
            which may be drawn only then.

    Raises:
        CompareError: A config cannot be read or cannot be varied so.
    """
    configs = []
    for model in study.models:
        options = {**model.get('options', {}), **(cfg_options or {})}
        configs.append(read_config(str(study.folder / model['config']), options, data_root))
    _check_varied(study, configs)
    if before_data:
        before_data(configs)
    runs = {}
    for model, cfg in zip(study.models, configs):
        if gt_boxes:
            use_annotated_boxes(cfg)
        if study.split == 'train':
            test_on(cfg, annotations_of(datasets_of(cfg, 'train')[0]))
        elif study.split == 'hold_out':
            use_hold_out(cfg, work_dir / 'hold_out')
        if study.evaluator:
            cfg.test_evaluator = study.evaluator
        name = model.get('name', Path(model['config']).stem)
        for change, schedule in product(_changes(cfg, study), _combinations(study.schedule)):
            varied = {**change, **schedule}
            schedule = {**model.get('schedule', {}), **schedule}
            try:
                own = vary(cfg, change, schedule)
            except CompareError as error:
                changed = {**change, **schedule}
                raise CompareError(f'{name} with {changed}: {error}') from error
            words = [f'{study.title_of(k).lower()} {study.label(k, v)}' for k, v in varied.items()]
            checkpoint = model.get('checkpoint')
            if checkpoint and not Path(checkpoint).is_file():
                raise CompareError(f'there is no checkpoint {checkpoint}')
            run = Run(', '.join([name, *words]), own, checkpoint, seeds=study.seeds)
            run.factors = {
                **run.codec_factors,
                **varied,
                'model': name,
                'scheme': run.scheme,
                **model.get('factors', {}),
            }
            if run.name in runs:
                raise CompareError(
                    f'two models are named {run.name}: give one of them another `name`'
                )
            runs[run.name] = run
    return list(runs.values())


def _combinations(values: Dict[str, list]) -> List[dict]:
    return [dict(zip(values, chosen)) for chosen in product(*values.values())]


def _arguments(cfg: Config) -> List[str]:
    """Those of a config's codec."""
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    codec = KEYPOINT_CODECS.get(pose_head_cfg(cfg).decoder.type)
    parameters = inspect.signature(codec).parameters.items()
    return [name for name, each in parameters if each.kind is not each.VAR_KEYWORD]


def _changes(cfg: Config, study: Study) -> List[dict]:
    """Of a config's codec, each once."""
    known, changes = _arguments(cfg), []
    for change in study.codec_changes:
        change = {name: value for name, value in change.items() if name in known}
        if change not in changes:
            changes.append(change)
    return changes


def _check_varied(study: Study, configs: Sequence[Config]) -> None:
    """Check that each name to vary is one of a codec's arguments or of the schedule."""
    arguments = sorted({name for cfg in configs for name in _arguments(cfg)})
    schedules = [study.schedule, *(model.get('schedule', {}) for model in study.models)]
    for known, changes in ((arguments, study.codec_changes), (SCHEDULE, schedules)):
        for name in (name for change in changes for name in change):
            if name not in known:
                raise CompareError(
                    f'there is no {name!r} to vary: the codecs have {", ".join(arguments)}; of '
                    f'the schedule there are {", ".join(SCHEDULE)}'
                )


def planned_rows(study: Study, runs: Sequence[Run]) -> List[Dict[str, Any]]:
    """The factors of every row that a study will have."""
    own = {
        decoder['name']: decoder['factors']
        for decoder in expand_decoders(study.decoders or ())
        if isinstance(decoder, dict)
    }
    return [
        {**run.factors, 'decoder': name, **own.get(name, {})}
        for run in runs
        for name in decoders_of(run, study.decoders)
    ]


def check_study(study: Study, runs: Sequence[Run]) -> None:
    """Check that the names in a study mean something, and that its table tells all rows apart.

    Raises:
        CompareError: There is no such factor, no row that has such a value of it, or two rows
            have the same label.
    """
    rows = planned_rows(study, runs)
    known = list(dict.fromkeys(name for row in rows for name in row))
    columns = [study.columns] if isinstance(study.columns, str) else []
    plotted = [study.plot[name] for name in ('x', 'series') if study.plot.get(name)]
    wanted = [('baseline', study.baseline), *(('disagree', each) for each in study.pair)]
    for place, names in [('rows', study.rows), ('columns', columns), ('plot', plotted), *wanted]:
        for name in names:
            if name not in known:
                raise CompareError(
                    f'`{place}` names the factor {name!r}; there are {", ".join(known)}'
                )
    for place, factors in wanted:
        if not any(all(row.get(name) == factors[name] for name in factors) for row in rows):
            values = {
                name: list(dict.fromkeys(str(row.get(name)) for row in rows)) for name in factors
            }
            there = '; '.join(f'{name}: {", ".join(found)}' for name, found in values.items())
            raise CompareError(f'`{place}`: no row has {dict(factors)}; there are {there}')
    labelled: Dict[tuple, dict] = {}
    for row in rows:
        label = tuple(study.label(name, row.get(name)) for name in (*study.rows, *columns))
        other = labelled.setdefault(label, row)
        if other is not row:
            apart = [name for name in known if row.get(name) != other.get(name)]
            raise CompareError(
                f'two rows are labelled {", ".join(label)}: `rows` needs one of '
                f'{", ".join(apart) or "the names of the models"} as well'
            )


def check_metric_names(study: Study, runs: Sequence[Run]) -> None:
    """Check before anything is computed that the metrics exist that a study names; not where the
    names of a metric's values are known only with its results.

    Raises:
        CompareError: There is no such metric, or a run cannot have it: the reliability of scores
            needs a truth, which detected people do not have.
    """
    columns = study.columns if isinstance(study.columns, (list, tuple)) else []
    named = [name for name in (study.value, *columns) if name]
    detected = [run.name for run in runs if run.box_files]
    for name in named:
        if name in RELIABILITY and detected:
            raise CompareError(
                f'{", ".join(detected)}: there is no {name} of detected boxes, whose people have '
                'no truth: take the annotated boxes with --gt-boxes'
            )
    wanted = [name for name in named if name not in (*COSTS, *RELIABILITY)]
    keys = []
    for metric in [metric for run in runs if wanted for metric in run.build_metrics()]:
        names = value_names(metric)
        if names is None:
            return
        keys += [result_key(metric, name) for name in names]
    for name in wanted:
        find_key(name, keys)
