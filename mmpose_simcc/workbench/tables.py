# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Tables that tools print."""

from typing import Sequence

from tabulate import tabulate


def markdown_table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """Cells that are text already, in Markdown.

    Example:
        >>> print(markdown_table([['dark', '0.70']], ['decoder', 'AP']))
        | decoder   | AP   |
        |:----------|:-----|
        | dark      | 0.70 |
    """
    return tabulate(rows, headers, tablefmt='pipe', disable_numparse=True)
