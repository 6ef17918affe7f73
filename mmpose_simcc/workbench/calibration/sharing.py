# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Work shared by processes and threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, List

import torch
from mmengine.dist import all_gather_object, get_dist_info

from ...utils.console import track


def threaded_map(function: Callable, items: Iterable) -> Iterator[Any]:
    """Apply a function to items on as many threads as PyTorch uses.

    An operation of PyTorch's runs on one of them: its arrays are small, and
    results do not depend on how many there are.

    Args:
        function (callable): Of one item.
        items (iterable): The items.

    Yields:
        The results in the order of the items.
    """
    threads = torch.get_num_threads()
    if threads == 1:  # another thread would have memory of its own, 50 MiB of a calibration's
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(threads, '', torch.set_num_threads, (1,)) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(threads)  # which threads that are started later take over


def distributed_map(
    function: Callable, items: Iterable, description: str, mapped: Callable = map
) -> List:
    """Apply a function to items, shared by all processes.

    Args:
        function (callable): Of one item.
        items (iterable): The same in every process.
        description (str): What is done, for its progress.
        mapped (callable): How a process applies it: ``map`` or
            :func:`threaded_map`.

    Returns:
        list: The results in the order of the items, in every process.
    """
    rank, world_size = get_dist_info()
    items = list(items)
    share = items[rank::world_size]
    own = list(track(mapped(function, share), description, len(share)))
    if world_size == 1:
        return own
    shares = all_gather_object(own)
    return [shares[i % world_size][i // world_size] for i in range(len(items))]
