# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint
from torch import nn

from mmpose_simcc import compat

SAFE_LOADING = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)
needs_safe_loading = pytest.mark.skipif(
    not SAFE_LOADING, reason='torch < 2.6 loads without weights_only'
)


def run_python(code: str, **env):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


class TestOpsStandIn:
    @pytest.mark.skipif(compat._has_compiled_ops(), reason='compiled mmcv')
    def test_imports_but_refuses_to_be_used(self):
        from mmcv.ops import DeformConv2d

        assert issubclass(DeformConv2d, nn.Module)
        with pytest.raises(ImportError, match='mmcv.ops.DeformConv2d needs'):
            DeformConv2d(1, 1, 3)

    @pytest.mark.skipif(compat._has_compiled_ops(), reason='compiled mmcv')
    def test_modules_and_functions(self):
        from mmcv.ops.nms import batched_nms

        with pytest.raises(ImportError, match='mmcv.ops.nms.batched_nms'):
            batched_nms(1)
        from mmcv.ops import nms, roi_align

        for function in (nms, roi_align):
            with pytest.raises(ImportError, match='needs compiled mmcv ops'):
                function(1)

    def test_leaves_compiled_ops_alone(self, monkeypatch):
        import mmcv

        before = sys.modules.get('mmcv.ops')
        monkeypatch.delitem(sys.modules, 'mmcv.ops', raising=False)
        monkeypatch.setattr(compat, '_has_compiled_ops', lambda: True)
        assert not compat.mend_mmcv_ops()
        assert 'mmcv.ops' not in sys.modules
        assert getattr(mmcv, 'ops', None) is before

    @pytest.mark.slow
    def test_says_once_what_it_did(self):
        result = run_python("""
            import mmpose_simcc
            import importlib
            importlib.reload(mmpose_simcc)
            import mmpose_simcc.codecs
        """)
        assert result.returncode == 0, result.stderr
        said = [line for line in result.stderr.splitlines() if line.startswith('mmpose_simcc:')]
        needed = not compat._has_compiled_ops() or SAFE_LOADING
        assert len(said) == int(needed)


class Exploit:
    """Unpickling this creates the file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


class StealGlobals:
    """Reaches for the globals of a module through an allowed type."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


@needs_safe_loading
class TestCheckpointLoading:
    def checkpoint(self):
        history = HistoryBuffer()
        history.update(0.5)
        history.update(np.float32(1.5).item())
        return dict(
            meta=dict(epoch=1, iter=2, seed=0),
            message_hub=dict(
                log_scalars={'train/loss': history},
                runtime_info=dict(loss=np.float64(1.5), step=np.int64(3), array=np.arange(3.0)),
            ),
            state_dict=nn.Linear(2, 2).state_dict(),
        )

    def test_loads_mmengine_types(self, tmp_path):
        path = tmp_path / 'epoch_1.pth'
        torch.save(self.checkpoint(), path)
        loaded = _load_checkpoint(str(path), map_location='cpu')
        history = loaded['message_hub']['log_scalars']['train/loss']
        assert history.current() == 1.5
        assert history.statistics('mean') == 1.0
        assert loaded['message_hub']['runtime_info']['loss'] == 1.5

    @pytest.mark.parametrize('core', ['core', '_core'])
    def test_loads_numpy_of_the_other_major_version(self, tmp_path, core):
        path = tmp_path / 'epoch_1.pth'
        torch.save(self.checkpoint(), path, _use_new_zipfile_serialization=False)
        ours = b'numpy.core.' if b'numpy.core.' in path.read_bytes() else b'numpy._core.'
        path.write_bytes(path.read_bytes().replace(ours, f'numpy.{core}.'.encode()))
        loaded = torch.load(path)
        assert loaded['message_hub']['runtime_info']['array'].sum() == 3

    @pytest.mark.parametrize('where', ['meta', 'state_dict', 'message_hub'])
    def test_malicious_pickle_does_not_run(self, tmp_path, where):
        path, trace = tmp_path / 'evil.pth', tmp_path / 'was_here'
        checkpoint = self.checkpoint()
        checkpoint[where]['evil'] = Exploit(trace)
        torch.save(checkpoint, path)
        with pytest.raises(pickle.UnpicklingError):
            load_checkpoint(nn.Linear(2, 2), str(path))
        assert not trace.exists()
        # the same file does run where pickle is trusted
        torch.load(path, weights_only=False)
        assert trace.exists()

    def test_getattr_is_limited_to_the_statistics(self, tmp_path):
        path = tmp_path / 'evil.pth'
        torch.save(dict(evil=StealGlobals()), path)
        with pytest.raises(pickle.UnpicklingError, match='not allowed'):
            torch.load(path)
