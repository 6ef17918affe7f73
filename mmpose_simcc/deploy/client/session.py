# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Opens ONNX files with onnxruntime."""

from pathlib import Path
from typing import Dict, Optional, Sequence, Union

from .errors import ClientError
from .packages import onnxruntime

DEFAULT_PROVIDERS = ('CUDAExecutionProvider', 'CPUExecutionProvider')


def make_options(entries: Optional[Dict[str, str]] = None):
    """Session options that log errors alone.

    Args:
        entries (dict, optional): Entries of onnxruntime's session configuration.

    Returns:
        onnxruntime.SessionOptions: The options.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    return options


def open_session(
    path: Union[str, Path],
    providers: Optional[Sequence[str]] = None,
    threads: Optional[int] = None,
    session_options=None,
):
    """Open a model.

    Args:
        path (str | Path): The ONNX file.
        providers (sequence[str], optional): onnxruntime's execution providers, the preferred one
            first. CUDA where it is available and else the CPU by default.
        threads (int, optional): Threads of one operator on the CPU. As many as the CPU has cores
            by default.
        session_options (onnxruntime.SessionOptions, optional): More settings.

    Returns:
        onnxruntime.InferenceSession: The model.

    Raises:
        ClientError: onnxruntime is not installed, has not these providers or cannot start the
            first of them, or the file is missing or no ONNX model.
    """
    if not Path(path).is_file():
        raise ClientError(f'there is no model {path}')
    available = onnxruntime.get_available_providers()
    missing = sorted(set(providers or ()) - set(available))
    if missing:
        raise ClientError(
            f'this onnxruntime has no {", ".join(missing)}; it has {", ".join(available)}'
        )
    options = session_options or make_options()
    if threads is not None:
        if threads < 1:
            raise ClientError(f'`threads` must be at least 1, not {threads}')
        options.intra_op_num_threads = threads
    wanted = list(providers or (name for name in DEFAULT_PROVIDERS if name in available))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # onnxruntime has a type for each reason
        reason = ' '.join(str(error).split())
        raise ClientError(
            f'{path} is no ONNX model that onnxruntime can run: {reason[:200]}'
        ) from None
    # onnxruntime falls back to the CPU where a provider's libraries are missing
    if providers and session.get_providers()[0] != providers[0]:
        raise ClientError(f'onnxruntime cannot start {providers[0]}: are its libraries installed?')
    return session
