# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
import functools
import importlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
import textwrap
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mmengine
import mmpose
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint
from mmengine.structures import InstanceData
from mmengine.utils import get_installed_path, is_installed
from mmengine.utils.package_utils import package2module
from mmpose.datasets import CocoDataset
from mmpose.datasets.datasets.utils import parse_pose_metainfo
from mmpose.structures import PoseDataSample
from mmpose.structures.keypoint import flip_keypoints
from mmpose.visualization import PoseLocalVisualizer
from torch import nn

import mmpose_simcc
from mmpose_simcc.utils import compat
from mmpose_simcc.utils.inference import load_weights

METAINFO = sorted(
    (Path(mmpose.__file__).parent / '.mim' / 'configs' / '_base_' / 'datasets').glob('*.py')
)
SAFE_LOADING = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)
needs_safe_loading = pytest.mark.skipif(
    not SAFE_LOADING, reason='torch < 2.6 loads without weights_only'
)


def run_python(code: str, *arguments, **env):
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code), *arguments],
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

    @pytest.mark.skipif(compat._has_compiled_ops(), reason='compiled mmcv')
    def test_says_what_it_was_compiled_by(self):
        """For the environment that OpenMMLab's tools log."""
        from mmcv.ops import get_compiler_version, get_compiling_cuda_version

        assert get_compiler_version() == get_compiling_cuda_version() == 'n/a'

    def test_leaves_compiled_ops_alone(self, monkeypatch):
        import mmcv

        before = sys.modules.get('mmcv.ops')
        monkeypatch.delitem(sys.modules, 'mmcv.ops', raising=False)
        monkeypatch.setattr(compat, '_has_compiled_ops', lambda: True)
        assert not compat.mend_mmcv_ops()
        assert 'mmcv.ops' not in sys.modules
        assert getattr(mmcv, 'ops', None) is before


@pytest.mark.slow
def test_says_once_what_it_did():
    """Data workers that are spawned, as on Windows and macOS, import it anew."""
    result = run_python(
        """
        import multiprocessing
        import os
        import subprocess
        import sys

        import mmpose_simcc
        import importlib
        importlib.reload(mmpose_simcc)
        import mmpose_simcc.codecs
        subprocess.run([sys.executable, '-c', 'import mmpose_simcc'], check=True)
        """,
        **{compat.SAID: ''},
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count('mmpose_simcc mends this environment: ') == 1


@pytest.mark.slow
def test_import_costs_no_more_than_that_of_mmpose():
    """What the package imports, MMPose's APIs have imported already."""
    result = run_python(
        """
        import sys
        import types

        mends = types.ModuleType('mmpose_simcc')  # of the package nothing else yet
        mends.__path__ = [sys.argv[1]]
        sys.modules['mmpose_simcc'] = mends
        from mmpose_simcc.utils import compat
        compat.apply()
        import mmpose.apis

        for name in [name for name in sys.modules if name.startswith('mmpose_simcc')]:
            del sys.modules[name]
        before = set(sys.modules)
        import mmpose_simcc
        print(*sorted(set(sys.modules) - before))
        """,
        str(Path(mmpose_simcc.__file__).parent),
    )
    assert result.returncode == 0, result.stderr
    added = {name.split('.')[0] for name in result.stdout.split()}
    assert 'mmpose_simcc' in added
    # MMEngine's hub is a few lines
    assert added <= {'mmpose_simcc', 'mmengine', 'mmpose', 'numpy'}, result.stdout


class TestPkgResources:
    """The stand-in against the real one, where that is."""

    @pytest.fixture
    def standing_in(self, monkeypatch):
        monkeypatch.delitem(sys.modules, 'pkg_resources', raising=False)
        monkeypatch.setattr(sys, 'meta_path', [compat._PkgResourcesFinder, *sys.meta_path])
        yield
        sys.modules.pop('pkg_resources', None)

    def test_mmengine_looks_up_packages(self, standing_in):
        assert is_installed('mmpose') and not is_installed('nothing_of_this_name')
        assert Path(get_installed_path('mmpose')) == Path(mmpose.__file__).parent
        assert package2module('json-tricks') == 'json_tricks'
        stand_in = importlib.import_module('pkg_resources')
        assert Path(stand_in.__file__).name == 'distributions.py'
        with pytest.raises(stand_in.DistributionNotFound):
            stand_in.get_distribution('nothing_of_this_name')

    def test_is_left_alone_where_it_works(self, monkeypatch):
        monkeypatch.setitem(sys.modules, 'pkg_resources', object())
        before = list(sys.meta_path)
        assert not compat.mend_pkg_resources()
        assert sys.meta_path == before


class TestVisualizer:
    @pytest.mark.parametrize('backend', ['opencv', 'matplotlib'])
    @pytest.mark.parametrize('alpha', [1.0, 0.5])
    def test_draws_keypoints(self, backend, alpha):
        visualizer = PoseLocalVisualizer(backend=backend, alpha=alpha)
        visualizer.set_dataset_meta(
            dict(
                keypoint_colors=[(255, 0, 0)] * 2,
                skeleton_links=[(0, 1)],
                skeleton_link_colors=[(0, 255, 0)],
            )
        )
        people = InstanceData(
            keypoints=np.array([[[10.0, 10.0], [40.0, 40.0]]]), keypoint_scores=np.ones((1, 2))
        )
        image = visualizer.add_datasample(
            'drawn',
            np.zeros((64, 64, 3), np.uint8),
            PoseDataSample(pred_instances=people),
            draw_gt=False,
        )
        drawn = image[..., 0] > 100
        assert (
            drawn[5:15, 5:15].any() and drawn[35:45, 35:45].any() and not drawn[5:15, 35:45].any()
        )

    def test_does_nothing_with_an_earlier_numpy(self, monkeypatch):
        monkeypatch.setattr(np, '__version__', '2.3.5')
        assert not compat.mend_visualizer()


class TestMetainfo:
    """MMEngine writes configs with their keys sorted as text, MMPose mirrors by their order."""

    @pytest.mark.parametrize('name', ['coco', 'mpii', 'aic'])
    def test_written_and_read_again(self, tmp_path, name):
        (path,) = (path for path in METAINFO if path.stem == name)
        metainfo = Config.fromfile(path).dataset_info
        expected = parse_pose_metainfo(metainfo)
        Config(dict(metainfo=metainfo)).dump(tmp_path / 'config.py')
        read = Config.fromfile(tmp_path / 'config.py').metainfo
        found = CocoDataset(metainfo=read, lazy_init=True, test_mode=True).metainfo
        for parsed in expected, found:
            links = zip(parsed.pop('skeleton_links'), parsed.pop('skeleton_link_colors').tolist())
            for name in ('flip_pairs', 'upper_body_ids', 'lower_body_ids'):
                parsed[name] = sorted(parsed[name])
            parsed['links'] = repr(sorted(links))
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, name)
        assert list(read.keypoint_info) != sorted(read.keypoint_info)

    def test_mirrored_picture(self):
        """Stock's own transform swaps what the metainfo says, in any order of its keys."""
        names = {0: 'nose', 1: 'left', 2: 'right'}
        swaps = {0: '', 1: 'right', 2: 'left'}
        for order in ((0, 1, 2), (2, 0, 1)):
            dataset = CocoDataset(
                metainfo=dict(
                    dataset_name='three',
                    keypoint_info={i: dict(name=names[i], swap=swaps[i]) for i in order},
                    skeleton_info={},
                    joint_weights=[1.0] * 3,
                    sigmas=[0.1] * 3,
                ),
                lazy_init=True,
            )
            mirrored, _ = flip_keypoints(
                np.float32([[[1, 0], [2, 0], [3, 0]]]),
                np.ones((1, 3), np.float32),
                image_size=(10, 10),
                flip_indices=dataset.metainfo['flip_indices'],
            )
            assert mirrored[0, :, 0].tolist() == [8, 6, 7]

    def test_does_nothing_twice(self):
        assert not compat.mend_metainfo()


class TestYapf:
    def test_writes_configs(self):
        assert 'a = 1' in Config(dict(a=1)).pretty_text

    def test_does_nothing_with_a_later_mmengine(self, monkeypatch):
        monkeypatch.setattr(mmengine, '__version__', '0.8.5')
        assert not compat.mend_yapf()


class TestMmdet:
    @pytest.mark.slow
    def test_imports_beside_mmcv_2_2(self):
        result = run_python("""
            import mmcv

            mmcv.__version__ = '2.2.0'
            from mmpose_simcc.utils import compat

            import mmdet
            assert mmcv.__version__ == '2.2.0'
            assert not compat.mend_mmdet()
        """)
        assert result.returncode == 0, result.stderr


class Exploit:
    """Unpickling this creates the file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.system, (f'echo > {self.path}',)


class StealGlobals:
    """Reaches for the globals of a module through an allowed type."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, '__init__')


class ManyBytes:
    def __reduce__(self):
        return bytes, (10**12,)


class Tiny(BaseModel):
    """A model of one layer whose loss is positive."""

    cfg = Config(dict(model=dict()))

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, inputs, mode):
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


class Numbers(torch.utils.data.Dataset):
    """Data with the ``metainfo`` of a data set of MMPose."""

    metainfo = dict()

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return dict(inputs=torch.ones(2))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A runner after one epoch, whose checkpoints are MMEngine's own."""
    runner = Runner(
        model=Tiny(),
        work_dir=str(tmp_path_factory.mktemp('trained')),
        train_dataloader=dict(
            batch_size=2,
            dataset=Numbers(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1)),
        param_scheduler=dict(type='MultiStepLR', milestones=[1]),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        default_scope='mmpose',  # stays the scope of later tests
        experiment_name='trained',
    )
    runner.train()
    return runner


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

    @pytest.mark.parametrize('metainfo', METAINFO, ids=lambda path: path.stem)
    def test_every_stock_data_set(self, trained, tmp_path, metainfo):
        trained.train_dataloader.dataset.metainfo = parse_pose_metainfo(
            dict(from_file=str(metainfo))
        )
        trained.save_checkpoint(str(tmp_path), 'epoch_1.pth')
        path = tmp_path / 'epoch_1.pth'
        trusted = torch.load(path, weights_only=False)
        loaded = torch.load(path)
        assert loaded['meta']['dataset_meta']['num_keypoints'] > 0
        np.testing.assert_equal(loaded['meta'], trusted['meta'])
        scalars = loaded['message_hub']['log_scalars']
        assert scalars['train/loss'].statistics('min') > 0
        assert scalars.keys() == trusted['message_hub']['log_scalars'].keys()
        assert loaded['optimizer'].keys() == trusted['optimizer'].keys()
        load_weights(Tiny(), str(path))

    def test_bytes_are_limited_to_none(self, tmp_path):
        """They would be as many as the file says."""
        path = tmp_path / 'evil.pth'
        torch.save(dict(evil=ManyBytes()), path)
        with pytest.raises(TypeError, match='argument'):
            torch.load(path)
        with pytest.raises(ValueError, match='evil.pth cannot be read'):
            load_weights(nn.Linear(2, 2), str(path))

    def test_says_in_one_line_what_was_refused_and_where(self, tmp_path):
        path = tmp_path / 'evil.pth'
        for refused, what in (
            (Exploit(tmp_path / 'was_here'), rf'{os.name}\.system'),
            (textwrap.TextWrapper(), r'textwrap\.TextWrapper'),
            (StealGlobals(), 'getattr.*is not allowed in a checkpoint$'),
        ):
            torch.save(dict(state_dict={}, evil=refused), path)
            with pytest.raises(ValueError, match=what) as error:
                load_weights(nn.Linear(2, 2), str(path))
            message = str(error.value)
            assert message.startswith(f'checkpoint {path} cannot be read: ')
            assert len(message.splitlines()) == 1
            assert 'weights_only' not in message and 'torch' not in message.replace(str(path), '')
        assert not (tmp_path / 'was_here').exists()

    def test_getattr_is_limited_to_the_statistics(self, tmp_path):
        path = tmp_path / 'evil.pth'
        torch.save(dict(evil=StealGlobals()), path)
        with pytest.raises(pickle.UnpicklingError, match='not allowed'):
            torch.load(path)


class TestMMEngineLoads:
    """By the loading of this package, with every torch and in OneDL's fork."""

    @pytest.fixture(params=['file', 'url'])
    def address(self, request, tmp_path, monkeypatch):
        """What MMEngine calls the file `a.pth`."""
        if request.param == 'file':
            yield str(tmp_path / 'a.pth')
            return
        monkeypatch.setenv('no_proxy', '127.0.0.1')
        monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
        handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
        with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f'http://127.0.0.1:{server.server_port}/a.pth'
            server.shutdown()

    def test_checkpoint(self, trained, tmp_path, address):
        trained.save_checkpoint(str(tmp_path), 'a.pth')
        model = Tiny()
        load_checkpoint(model, address)
        assert torch.equal(model.layer.weight, trained.model.layer.weight)

    @pytest.mark.parametrize('evil', ['system', StealGlobals()])
    def test_crafted_file_does_not_run(self, tmp_path, address, evil):
        trace = tmp_path / 'was_here'
        evil = Exploit(trace) if evil == 'system' else evil
        torch.save(dict(state_dict={}, meta=dict(evil=evil)), tmp_path / 'a.pth')
        with pytest.raises(pickle.UnpicklingError, match='a.pth cannot be read') as error:
            load_checkpoint(nn.Linear(2, 2), address)
        assert not trace.exists()
        assert len(str(error.value).splitlines()) == 1

    def test_after_others_emptied_the_list(self, trained, tmp_path):
        """As OneDL's fork does when it has loaded one."""
        if SAFE_LOADING:
            torch.serialization.clear_safe_globals()
        trained.save_checkpoint(str(tmp_path), 'a.pth')
        load_checkpoint(Tiny(), str(tmp_path / 'a.pth'))

    @needs_safe_loading
    def test_beside_types_that_were_allowed_before(self, trained, tmp_path):
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([HistoryBuffer])
        trained.save_checkpoint(str(tmp_path), 'a.pth')
        load_checkpoint(Tiny(), str(tmp_path / 'a.pth'))

    def test_missing_file(self):
        with pytest.raises(FileNotFoundError, match='no_such.pth can not be found'):
            CheckpointLoader.load_checkpoint('no_such.pth')


@pytest.fixture(params=['as with this torch', 'as before torch 2.6'])
def loads(request, monkeypatch):
    """The project's own loading, which is as strict with every torch."""
    if request.param == 'as before torch 2.6':
        monkeypatch.setattr(compat, 'LOADS_WEIGHTS_ONLY', False)
    return compat.load_checkpoint


class TestOwnLoading:
    def same(self, value, expected):
        assert type(value) is type(expected)
        if isinstance(expected, dict):
            assert value.keys() == expected.keys()
            for name in expected:
                self.same(value[name], expected[name])
        elif isinstance(expected, (list, tuple)):
            assert len(value) == len(expected)
            for pair in zip(value, expected):
                self.same(*pair)
        elif isinstance(expected, torch.Tensor):
            assert value.dtype == expected.dtype and torch.equal(value, expected)
        elif isinstance(expected, HistoryBuffer):
            np.testing.assert_equal(value.data, expected.data)
            assert value.statistics('mean') == expected.statistics('mean')
        else:
            np.testing.assert_equal(value, expected)

    @pytest.mark.parametrize('zipped', [True, False])
    def test_all_of_a_checkpoint_of_mmengine(self, trained, tmp_path, loads, zipped):
        """By comparison with trusted pickle."""
        trained.train_dataloader.dataset.metainfo = parse_pose_metainfo(
            dict(from_file=str(METAINFO[0]))
        )
        trained.save_checkpoint(str(tmp_path), 'epoch_1.pth')
        path = tmp_path / 'epoch_1.pth'
        trusted = torch.load(path, weights_only=False)
        torch.save(trusted, path, _use_new_zipfile_serialization=zipped)
        loaded = loads(str(path))
        assert loaded['message_hub']['log_scalars'] and loaded['optimizer']['state']
        self.same(loaded, trusted)
        load_weights(Tiny(), str(path))

    @pytest.mark.parametrize('core', ['core', '_core'])
    def test_numpy_of_the_other_major_version(self, tmp_path, loads, core):
        path = tmp_path / 'a.pth'
        value = dict(array=np.arange(3.0), scalar=np.float64(1.5))
        torch.save(value, path, _use_new_zipfile_serialization=False)
        ours = b'numpy.core.' if b'numpy.core.' in path.read_bytes() else b'numpy._core.'
        path.write_bytes(path.read_bytes().replace(ours, f'numpy.{core}.'.encode()))
        self.same(loads(str(path)), value)

    @pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float64', 'int64', 'bool', 'uint8'])
    def test_tensors_of_every_kind(self, tmp_path, loads, dtype):
        path = tmp_path / 'a.pth'
        tensor = torch.arange(6).view(2, 3).to(getattr(torch, dtype))
        value = dict(view=tensor[:, 1:], parameter=nn.Parameter(torch.ones(2)), size=tensor.shape)
        torch.save(value, path)
        loaded = loads(str(path))
        self.same(loaded['view'], value['view'])
        assert isinstance(loaded['parameter'], nn.Parameter)
        assert loaded['size'] == torch.Size([2, 3])

    @pytest.mark.parametrize('zipped', [True, False])
    @pytest.mark.parametrize('where', ['meta', 'state_dict', 'state_dict/deep'])
    def test_malicious_pickle_does_not_run(self, tmp_path, loads, where, zipped):
        path, trace = tmp_path / 'evil.pth', tmp_path / 'was_here'
        evil = Exploit(trace)
        checkpoint = {'meta': {}, 'state_dict': nn.Linear(2, 2).state_dict()}
        if where == 'state_dict/deep':
            checkpoint['state_dict']['deep'] = [dict(deeper=(evil,))]
        else:
            checkpoint[where]['evil'] = evil
        torch.save(checkpoint, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(
            ValueError, match=rf'evil.pth cannot be read: .*{os.name}\.system'
        ) as error:
            load_weights(nn.Linear(2, 2), str(path))
        assert len(str(error.value).splitlines()) == 1
        assert not trace.exists()
        # the same file does run where pickle is trusted
        torch.load(path, weights_only=False)
        assert trace.exists()

    def test_plain_pickle_does_not_run(self, tmp_path, loads):
        path, trace = tmp_path / 'evil.pth', tmp_path / 'was_here'
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps(Exploit(trace), protocol))
            with pytest.raises(ValueError, match='cannot be read'):
                load_weights(nn.Linear(2, 2), str(path))
        assert not trace.exists()

    def test_pickle_in_a_tar_does_not_run(self, tmp_path, loads):
        """The oldest format of torch, which weights_only=True of torch < 2.6
        does not restrict (CVE-2025-32434)."""
        path, trace = tmp_path / 'evil.tar', tmp_path / 'was_here'
        with tarfile.open(path, 'w') as content:
            for name in ('storages', 'tensors', 'pickle'):
                data = pickle.dumps(Exploit(trace), 2)
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                content.addfile(entry, io.BytesIO(data))
        with pytest.raises(ValueError, match='cannot be read'):
            load_weights(nn.Linear(2, 2), str(path))
        assert not trace.exists()

    def test_programs_are_refused(self, tmp_path, loads):
        path = str(tmp_path / 'program.pth')
        torch.jit.script(nn.Linear(2, 2)).save(path)
        with pytest.raises(ValueError, match='cannot be read: .*TorchScript'):
            load_weights(nn.Linear(2, 2), path)

    @pytest.mark.parametrize('evil', [StealGlobals(), ManyBytes(), textwrap.TextWrapper()])
    def test_what_types_of_checkpoints_could_reach(self, tmp_path, loads, evil):
        path = tmp_path / 'evil.pth'
        torch.save(dict(evil=evil), path)
        with pytest.raises(ValueError, match='cannot be read'):
            load_weights(nn.Linear(2, 2), str(path))

    def test_dotted_names_are_refused(self, tmp_path, loads):
        """Protocol 4 reaches attributes of what it names."""
        path = tmp_path / 'evil.pth'
        words = b'torch._utils', b'_rebuild_tensor_v2.__globals__'
        pushed = b''.join(b'\x8c' + bytes([len(word)]) + word for word in words)
        reach = b'\x80\x04' + pushed + b'\x93.'
        path.write_bytes(reach)
        assert pickle.loads(reach)['torch'] is torch
        with pytest.raises(ValueError, match='cannot be read'):
            load_weights(nn.Linear(2, 2), str(path))
