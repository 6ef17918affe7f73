# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tables of model sizes, alone and beside the papers' figures."""

import json
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from tabulate import tabulate
from tqdm import tqdm

from ...utils.checks import check_choice
from ...utils.inference import build_model, describe, load_config, model_input_size
from .count import count_complexity, time_forward
from .papers import (
    GFLOPS_RELATIVE_TOLERANCE,
    GFLOPS_TOLERANCE,
    PAPER_SIZES,
    PARAMS_TOLERANCE,
    PaperSize,
)

FORMATS = ('table', 'markdown', 'json')

Record = Dict[str, object]
# header, and the cell's text from a record
Column = Tuple[str, Callable[[Record], str]]

LEGEND = (
    'GFLOPs (paper): multiply-adds of convolution and linear layers '
    '/ 2^30, a transposed convolution taken as\n'
    'weights x output positions, no attention products: the count of '
    'the SimCC, HRNet and SimpleBaseline papers.'
)
TRUE_LEGEND = (
    'GFLOPs (true): all multiply-adds / 1e9, transposed '
    'convolutions at their real cost, with attention.\n'
    'attn. (true): the part of it that multiplies activations '
    'with each other.\n'
    'act.: activations, output elements of convolution and linear '
    'layers.'
)


def _size_text(size: Sequence[int]) -> str:
    """Height x width, as papers and config names have it."""
    width, height = size
    return f'{height}x{width}'


def measure_size(config: str, device: Optional[str] = None) -> Record:
    """Size and cost of a config's model at its own input size.

    Args:
        config (str): See :func:`load_config`.
        device (str, optional): Device to time the forward pass on. Not timed
            by default.

    Returns:
        dict: ``config``; ``input_size`` (w, h) in pixels; ``params``;
        ``paper_gflops``, ``gflops`` and ``product_gflops`` as in
        :class:`Complexity`; ``activations``. With ``device`` also
        ``device``, ``num_threads``, ``time_ms`` (median), ``time_iqr_ms``
        and ``num_runs``.

    Raises:
        ValueError: The config cannot be used; the message names it.
    """
    cfg = load_config(config)
    try:
        model = build_model(cfg)
        input_size = model_input_size(model)
        cost = count_complexity(model, input_size)
    except Exception as error:  # any module may be named by a config
        raise ValueError(f'config {config}: its model does not run: {describe(error)}') from error
    record = dict(
        config=config,
        input_size=input_size,
        params=cost.params,
        paper_gflops=cost.paper_gflops,
        gflops=cost.gflops,
        product_gflops=cost.product_gflops,
        activations=cost.activations,
    )
    if device is not None:
        time = time_forward(model, input_size, device)
        record.update(
            device=str(device),
            num_threads=torch.get_num_threads(),
            time_ms=time.median * 1e3,
            time_iqr_ms=time.iqr * 1e3,
            num_runs=len(time.times) * time.number_per_run,
        )
    return record


def size_table(records: Sequence[Record], fmt: str = 'table') -> str:
    """Model sizes as text.

    Args:
        records (list[dict]): From :func:`measure_size`.
        fmt (str): ``'table'``, ``'markdown'`` or ``'json'``.

    Returns:
        str: The table with a legend, or JSON.
    """
    columns: List[Column] = [
        ('config', lambda r: Path(str(r['config'])).stem),
        ('input', lambda r: _size_text(r['input_size'])),
        ('params\n(M)', lambda r: f'{r["params"] / 1e6:.3f}'),
        ('GFLOPs\n(paper)', lambda r: f'{r["paper_gflops"]:.2f}'),
        ('GFLOPs\n(true)', lambda r: f'{r["gflops"]:.2f}'),
        ('attn.\n(true)', lambda r: f'{r["product_gflops"]:.2f}'),
        ('act.\n(M)', lambda r: f'{r["activations"] / 1e6:.2f}'),
    ]
    legend = [LEGEND, TRUE_LEGEND]
    if records and 'time_ms' in records[0]:
        first = records[0]
        columns.append(('forward\n(ms)', lambda r: f'{r["time_ms"]:.1f} ({r["time_iqr_ms"]:.1f})'))
        runs = min(r['num_runs'] for r in records)
        legend.append(
            'forward: one image, without decoding; median (interquartile '
            f'range) of at least {runs} runs on {first["device"]}, '
            f'{first["num_threads"]} CPU threads.'
        )
    return _render(records, columns, legend, fmt)


def _config_root() -> Path:
    """The folder that holds ``configs``: of an installed wheel, or of the
    repository."""
    package = Path(__file__).resolve().parents[2]
    installed = package / '.mim'
    return installed if installed.is_dir() else package.parent


def _compare(paper: PaperSize, measured: Dict[str, Record]) -> Record:
    record = dict(
        paper._asdict(),
        paper_params=paper.params,
        paper_gflops=paper.gflops,
        params=None,
        gflops=None,
    )
    config = paper.config
    if config is None:
        return dict(record, verdict='no model')
    if '::' not in config:
        path = _config_root() / 'configs' / config
        if not path.is_file():
            return dict(record, verdict='no config', reason=f'no configs/{config}')
        config = str(path)
    try:
        if config not in measured:
            measured[config] = measure_size(config)
        size = measured[config]
        if size['input_size'] != paper.input_size:
            raise ValueError(
                f'config {config} has another input size, {_size_text(size["input_size"])}'
            )
    except ValueError as error:
        return dict(record, verdict='fails', reason=str(error))
    params, gflops = size['params'] / 1e6, size['paper_gflops']
    record.update(params=params, gflops=gflops)
    if paper.params_agree(params) and paper.gflops_agree(gflops):
        return dict(record, verdict='ok', reason='')
    return dict(record, verdict='differs')


def compare_with_papers(papers: Sequence[PaperSize] = PAPER_SIZES) -> List[Record]:
    """Measure every model whose size a paper prints.

    Args:
        papers (sequence[PaperSize]): The papers' figures.

    Returns:
        list[dict]: In the order of ``papers``: the fields of
        :class:`PaperSize`, where ``params`` (millions) and ``gflops`` (the
        paper count) are this project's and the paper's are ``paper_params``
        and ``paper_gflops``; ``verdict``: ``'ok'`` within the tolerance,
        ``'differs'``, ``'fails'`` where the config cannot be used, ``'no
        config'`` where the file is missing, or ``'no model'``; ``reason`` of
        a verdict that is not ``'ok'``.
    """
    measured = {}
    return [
        _compare(paper, measured)
        for paper in tqdm(papers, desc='models', file=sys.stderr, disable=None, leave=False)
    ]


def is_settled(record: Record) -> bool:
    """Whether a row of :func:`compare_with_papers` agrees, or its difference
    has a known reason."""
    return record['verdict'] in ('ok', 'no model') or (
        record['verdict'] == 'differs' and bool(record['reason'])
    )


def papers_table(records: Sequence[Record], fmt: str = 'table') -> str:
    """This project's sizes beside the papers'.

    Args:
        records (list[dict]): From :func:`compare_with_papers`.
        fmt (str): ``'table'``, ``'markdown'`` or ``'json'``.

    Returns:
        str: The table with the reasons of differences below it, or JSON.
    """

    def number(key: str, digits: int) -> Callable[[Record], str]:
        return lambda r: '' if r[key] is None else f'{r[key]:.{digits}f}'

    def printed(key: str) -> Callable[[Record], str]:
        return lambda r: '' if r[key] is None else str(r[key])

    def difference(key: str, digits: int) -> Callable[[Record], str]:
        return lambda r: (
            ''
            if None in (r[key], r[f'paper_{key}'])
            else (f'{r[key] - r[f"paper_{key}"]:+.{digits}f}')
        )

    reasons = list(
        dict.fromkeys(r['reason'] or 'not explained yet' for r in records if r['verdict'] != 'ok')
    )

    def verdict(r: Record) -> str:
        if r['verdict'] == 'ok':
            return 'ok'
        reason = r['reason'] or 'not explained yet'
        return f'{r["verdict"]} [{reasons.index(reason) + 1}]'

    columns: List[Column] = [
        ('source', lambda r: r['source']),
        ('model', lambda r: r['model']),
        ('scheme', lambda r: r['scheme']),
        ('input', lambda r: _size_text(r['input_size'])),
        ('params\n(M)', number('params', 3)),
        ('\npaper', printed('paper_params')),
        ('\ndiff', difference('params', 3)),
        ('GFLOPs\n(paper)', number('gflops', 2)),
        ('\npaper', printed('paper_gflops')),
        ('\ndiff', difference('gflops', 2)),
        ('', verdict),
    ]
    verdicts = [r['verdict'] for r in records]
    counts = ', '.join(f'{verdicts.count(name)} {name}' for name in dict.fromkeys(verdicts))
    legend = [f'[{i}] {reason}' for i, reason in enumerate(reasons, start=1)]
    tolerance = (
        f'ok: parameters within {PARAMS_TOLERANCE}M, GFLOPs within '
        f'{GFLOPS_TOLERANCE} or {GFLOPS_RELATIVE_TOLERANCE:.0%}'
    )
    for r in records:
        if r['relative_tolerance']:
            tolerance += (
                f'; {r["scheme"]}, whose layout is not published '
                f'in full: {r["relative_tolerance"]:.0%}'
            )
    legend += [LEGEND, f'{tolerance}.', f'{len(records)} rows: {counts}.']
    return _render(records, columns, legend, fmt)


def _render(
    records: Sequence[Record], columns: Sequence[Column], legend: Sequence[str], fmt: str
) -> str:
    check_choice('fmt', fmt, FORMATS)
    if fmt == 'json':
        return json.dumps(list(records), indent=2)
    markdown = fmt == 'markdown'
    rows = [[cell(record) for _, cell in columns] for record in records]
    names = [header for header, _ in columns]
    headers = ()
    if markdown:
        headers = [name.replace('\n', ' ').strip() for name in names]
    else:  # as rows: tabulate makes columns wider than their header
        header_lines = [name.split('\n') for name in names]
        height = max(map(len, header_lines))
        padded = [[''] * (height - len(line)) + line for line in header_lines]
        rows = [*map(list, zip(*padded)), *rows]
    table = tabulate(
        rows,
        headers,
        tablefmt='pipe' if markdown else 'simple',
        disable_numparse=True,
        colalign=[
            'left' if name in ('config', 'source', 'model', 'scheme', '') else 'right'
            for name in names
        ],
    )
    if not markdown:
        rule, *lines, _ = table.splitlines()
        table = '\n'.join([*lines[:height], rule, *lines[height:]])
    return '\n\n'.join([table, ('\n\n' if markdown else '\n').join(legend)])
