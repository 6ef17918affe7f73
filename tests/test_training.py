# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""Trainings that are distributed, interrupted, in lower precision or
compiled give what a plain one gives."""

import contextlib
import copy
import json
import os
import random
import re
import subprocess
import time
from functools import partial

import mmengine
import numpy as np
import pytest
import torch
from conftest import DEVICES, LAUNCHERS, cuda
from mmengine.config import Config
from mmengine.dataset import worker_init_fn
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import digit_version
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from torch.utils.data import DataLoader, Dataset

from mmpose_simcc import EpochSeedHook, SimCCKLLoss
from mmpose_simcc.utils.console import Progress
from mmpose_simcc.workbench.compare import Launcher, Run
from mmpose_simcc.workbench.compare.launch import Program
from mmpose_simcc.workbench.compare.trainings import train_config, training_config
from mmpose_simcc.workbench.toy import make_toy_coco

SIMCC = 'configs/body_2d_keypoint/simcc/toy_coco/simcc_res18_1xb8-4e_toy-coco-64x64.py'
ANN_FILE = 'annotations/person_keypoints_train2017.json'
# 22 people in batches of 8: the last of an epoch has 6
PEOPLE, BATCH = 22, 8

# Runner.test in each of torchrun's processes
EVALUATE = """
import json
import sys
import torch
import mmpose_simcc
from mmengine.config import Config
from mmengine.runner import Runner
torch.distributed.init_process_group('gloo')
cfg = Config.fromfile(sys.argv[1])
cfg.launcher = 'pytorch'
cfg.model_wrapper_cfg = dict(
    type='MMDistributedDataParallel', device_ids=None)
metrics = Runner.from_cfg(cfg).test()
# the log's own file is written by both processes at once
if torch.distributed.get_rank() == 0:
    with open(sys.argv[2], 'w') as file:
        json.dump(metrics, file)
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope='module')
def toy_config(tmp_path_factory, repo_root):
    """SimCC with ResNet-18 at 64x64 on drawn people, scored on the pictures
    that it is trained on."""
    root = tmp_path_factory.mktemp('toy') / 'data'
    make_toy_coco(root, train=24, val=1, seed=0, workers=1)
    cfg = Config.fromfile(repo_root / SIMCC)
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.num_workers = 0
        loader.persistent_workers = False
        loader.dataset.data_root = f'{root}/'
        loader.dataset.ann_file = ANN_FILE
        loader.dataset.data_prefix = dict(img='train2017/')
        loader.dataset.indices = PEOPLE
    for name in ('val_evaluator', 'test_evaluator'):
        cfg[name].ann_file = f'{root}/{ANN_FILE}'
    cfg.train_dataloader.batch_size = BATCH
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    return cfg


def start(cfg, folder, **changes):
    """A Runner in this process."""
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_dict(changes)
    cfg.work_dir = str(folder)
    cfg.experiment_name = str(folder)
    return Runner.from_cfg(cfg)


@pytest.fixture(scope='module')
def learned(toy_config, tmp_path_factory):
    """A checkpoint that knows something of these people."""
    folder = tmp_path_factory.mktemp('learned')
    cfg = copy.deepcopy(toy_config)
    cfg.optim_wrapper.optimizer = dict(type='Adam', lr=1e-3)
    start(
        cfg,
        folder,
        **{
            'train_cfg.max_epochs': 25,
            'train_cfg.val_interval': 99,
            'default_hooks.checkpoint.interval': 25,
        },
    ).train()
    return str(folder / 'epoch_25.pth')


@pytest.fixture
def further(toy_config, learned):
    """Trains on from there, with frozen batch statistics, since those of half
    a batch are others."""
    cfg = copy.deepcopy(toy_config)
    cfg.load_from = learned
    cfg.model.backbone.norm_eval = True
    cfg.optim_wrapper.optimizer = dict(type='SGD', lr=0.02, momentum=0.9)
    cfg.train_cfg.max_epochs = 3
    cfg.train_cfg.val_interval = 99
    return cfg


def drop_augmentation(cfg):
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline = [t for t in dataset.pipeline if not t.type.startswith('Random')]


def weights_of(path):
    return torch.load(path, map_location='cpu')['state_dict']


def largest_difference(one, other):
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys()
    return max((one[k].double() - other[k].double()).abs().max().item() for k in one)


def environment(repo_root, **changes):
    changes = dict(dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES=''), **changes)
    path = os.pathsep.join(filter(None, [str(repo_root), os.environ.get('PYTHONPATH')]))
    return dict(os.environ, PYTHONPATH=path, **changes)


def launch(launcher, repo_root, cwd, *program, **changes):
    done = subprocess.run(
        launcher.command(*program),
        cwd=cwd,
        env=environment(repo_root, **changes),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@contextlib.contextmanager
def training(cfg, folder, repo_root, launcher, **changes):
    """A training in processes of its own, as a comparison starts it."""
    cfg.dump(folder / 'config.py')
    with Progress() as progress:
        program = Program(
            'training',
            (train_config, (folder / 'config.py',)),
            folder / 'log.txt',
            launcher,
            progress.add('train'),
            env=environment(repo_root, **changes),
        )
        try:
            yield program
        finally:
            program.end()


def train_alone_and_together(cfg, repo_root, folder, launcher, **environment):
    """Train in this process and in several that share the same batches, without augmentation,
    which each process draws for itself; the two checkpoints."""
    drop_augmentation(cfg)
    start(cfg, folder / 'one').train()
    cfg.train_dataloader.batch_size = BATCH // launcher.processes
    cfg.work_dir = str(folder / 'several')
    with training(cfg, folder, repo_root, launcher, **environment) as program:
        while not program.is_finished():
            time.sleep(0.1)
    return [folder / name / 'epoch_3.pth' for name in ('one', 'several')]


@pytest.mark.slow
class TestTwoProcesses:
    @pytest.mark.parametrize('launcher', LAUNCHERS)
    def test_train_to_the_weights_of_one(self, further, learned, repo_root, tmp_path, launcher):
        """With the same global batch, shuffled, without augmentation, which
        each process draws for itself."""
        one, two = train_alone_and_together(further, repo_root, tmp_path, Launcher(launcher, 2))
        assert largest_difference(one, learned) > 1e-3
        assert largest_difference(one, two) < 1e-5

    @pytest.mark.skipif(
        not hasattr(mmengine.dist.dist, 'zip_longest'),
        reason='this MMEngine loses the last of an odd number of people',
    )
    def test_evaluate_to_the_metrics_of_one(self, toy_config, learned, repo_root, tmp_path):
        cfg = copy.deepcopy(toy_config)
        cfg.load_from = learned
        # an odd number of people for two processes
        cfg.test_dataloader.dataset.indices = PEOPLE - 1
        cfg.test_dataloader.batch_size = 1
        results = {}
        for name in ('one', 'two'):
            cfg.work_dir = str(tmp_path / name)
            cfg.test_evaluator.outfile_prefix = str(tmp_path / name / 'found')
            if name == 'one':
                metrics = start(cfg, tmp_path / name).test()
            else:
                cfg.dump(tmp_path / 'config.py')
                (tmp_path / 'evaluate.py').write_text(EVALUATE)
                program = ('evaluate.py', 'config.py', 'metrics.json')
                launch(Launcher('pytorch', 2), repo_root, tmp_path, *program)
                metrics = json.loads((tmp_path / 'metrics.json').read_text())
            found = json.loads((tmp_path / name / 'found.keypoints.json').read_text())
            results[name] = (
                {k: v for k, v in metrics.items() if k.startswith('coco/')},
                sorted(found, key=lambda person: person['keypoints']),
            )
        (one, people), (two, same) = results['one'], results['two']
        assert one['coco/AP'] > 0.1
        assert one == two and len(one) == 10
        assert len(people) == len(same) == PEOPLE - 1
        for person, other in zip(people, same):
            assert person['image_id'] == other['image_id']
            np.testing.assert_allclose(person['keypoints'], other['keypoints'], atol=1e-3)


def kill_at(cfg, folder, repo_root, step):
    """Train in a process and kill it at a step of the training."""
    cfg.work_dir = str(folder)
    folder.mkdir()
    log = folder / 'log.txt'
    with training(cfg, folder, repo_root, Launcher()) as program:
        # a line of the log for each step
        while len(re.findall(r'\(train\).* loss: ', log.read_text())) < step:
            assert not program.is_finished()
            time.sleep(0.005)
        program._process.kill()  # SIGKILL
        program._process.wait()
    return len(re.findall(r'\(train\).* loss: ', log.read_text()))


@pytest.mark.slow
class TestKilledAndResumed:
    """With augmentation, one data worker and the same seed."""

    def compare(self, cfg, folder, repo_root, steps, last):
        cfg.train_dataloader.num_workers = 1
        assert any(
            transform.type.startswith('Random')
            for transform in cfg.train_dataloader.dataset.pipeline
        )
        step = random.Random(last).randint(steps[0], steps[1])  # anywhere
        start(cfg, folder / 'whole').train()
        killed = kill_at(cfg, folder / 'killed', repo_root, step)
        print(f'killed at step {killed}')
        assert not (folder / 'killed' / last).exists()
        checkpoints = list((folder / 'killed').glob('*_[0-9].pth'))
        assert checkpoints
        # as --resume does
        start(cfg, folder / 'killed', resume=True, load_from=None).train()
        whole, killed = (folder / name / last for name in ('whole', 'killed'))
        assert largest_difference(whole, cfg.load_from) > 1e-3
        assert largest_difference(whole, killed) < 1e-6

    def test_epochs(self, further, repo_root, tmp_path):
        """Killed in the second or third of three epochs."""
        further.train_dataloader.persistent_workers = True
        further.custom_hooks = [dict(type='EpochSeedHook')]
        self.compare(further, tmp_path, repo_root, (4, 7), 'epoch_3.pth')

    def test_iterations(self, further, repo_root, tmp_path):
        """MMEngine alone passes over the data that were trained on."""
        if digit_version(mmengine.__version__) < digit_version('0.10.7'):
            pytest.skip('older versions may begin the data anew')
        further.train_dataloader.persistent_workers = True
        further.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
        further.train_cfg = dict(type='IterBasedTrainLoop', max_iters=9, val_interval=99)
        further.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
        further.log_processor = dict(by_epoch=False)
        self.compare(further, tmp_path, repo_root, (3, 7), 'iter_9.pth')


@pytest.mark.slow
def test_killed_while_saving(toy_config, learned, tmp_path):
    """The comparison's trainings can be resumed even then."""
    run = Run('toy', copy.deepcopy(toy_config))
    run.cfg.load_from = learned
    run.cfg.train_cfg.max_epochs = 3
    run.cfg.train_dataloader.dataset.indices = BATCH
    runner = start(training_config(run, tmp_path), tmp_path)
    save = runner.save_checkpoint

    def killed(folder, name, *args, **kwargs):
        if name == 'epoch_3.pth':
            (tmp_path / name).write_bytes(b'half')
            raise KeyboardInterrupt
        save(folder, name, *args, **kwargs)

    runner.save_checkpoint = killed
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert runner.iter == 3
    resumed = start(training_config(run, tmp_path), tmp_path)
    steps = []
    step = resumed.model.train_step
    resumed.model.train_step = lambda *args, **kwargs: (
        steps.append(step(*args, **kwargs)) or steps[-1]
    )
    resumed.train()
    assert len(steps) == 1  # the third
    assert weights_of(tmp_path / 'epoch_3.pth')


class Draws(Dataset):
    """What a worker draws for each sample."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return np.array([random.random(), np.random.rand(), torch.rand(()).item()])


class Epochs:
    """As much of a Runner as a hook sees before an epoch."""

    seed = 7

    def __init__(self, num_workers, persistent_workers=False, epoch=0):
        self.epoch = epoch
        options = dict(persistent_workers=persistent_workers) if num_workers else {}
        self.train_dataloader = DataLoader(
            Draws(),
            num_workers=num_workers,
            worker_init_fn=partial(worker_init_fn, num_workers=num_workers, rank=0, seed=7),
            **options,
        )

    def run(self, hook, epochs):
        found = []
        for _ in range(epochs):
            hook.before_train_epoch(self)
            found.append(torch.cat(list(self.train_dataloader)))
            self.epoch += 1
        return torch.stack(found)


class TestEpochSeedHook:
    @pytest.mark.slow
    @pytest.mark.parametrize('workers', [(0,), (1, False), (1, True), (2, True)])
    def test_draws_follow_from_seed_and_epoch(self, workers):
        whole = Epochs(*workers).run(EpochSeedHook(), 3)
        # no number twice: not in an epoch, not in another
        assert len(whole.unique()) == whole.numel()
        torch.rand(5)
        resumed = Epochs(*workers, epoch=1).run(EpochSeedHook(), 2)
        assert torch.equal(resumed, whole[1:])
        other = Epochs(*workers)
        other.seed = 8
        assert not (other.run(EpochSeedHook(), 1)[0] == whole[0]).any()


HEADS = dict(
    simcc=dict(
        type='SimCCClassifierHead',
        in_channels=8,
        out_channels=5,
        in_featuremap_size=(3, 4),
        channels_per_keypoint=4,
        deconv_out_channels=(8,),
        deconv_kernel_sizes=(4,),
        decoder=dict(type='SimCCCodec', input_size=(48, 64)),
    ),
    tokens=dict(
        type='SimCCClassifierHead',
        in_channels=8,
        out_channels=5,
        decoder=dict(type='SimCCCodec', input_size=(48, 64)),
    ),
    token_heatmap=dict(
        type='TokenHeatmapHead',
        in_channels=8,
        out_channels=5,
        heatmap_size=(12, 16),
        decoder=dict(type='DARKCodec', input_size=(48, 64), heatmap_size=(12, 16), sigma=2),
    ),
    heatmap1d=dict(
        type='Heatmap1DHead',
        in_channels=8,
        out_channels=5,
        in_featuremap_size=(3, 4),
        deconv_out_channels=(8, 8),
        deconv_kernel_sizes=(4, 4),
        deconv1d_out_channels=(8, 8),
        decoder=dict(
            type='SimCCCodec', input_size=(48, 64), simcc_split_ratio=1, sigma=2.0, score='maximum'
        ),
    ),
)


def build_head(name):
    init_default_scope('mmpose')
    torch.manual_seed(0)
    head = MODELS.build(copy.deepcopy(HEADS[name]))
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    shape = (6, 5, 8) if 'token' in name else (6, 8, 4, 3)
    return head, (torch.randn(shape),)


def samples_for(codec, number, seed=0):
    """Data samples with labels, some keypoints invisible or outside."""
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(number):
        keypoints = rng.uniform(-0.1, 1.1, (1, 5, 2)) * codec.input_size
        visible = (rng.random((1, 5)) > 0.3).astype(np.float32)
        encoded = codec.encode(keypoints, visible)
        sample = PoseDataSample(
            gt_instance_labels=InstanceData(
                **{name: torch.from_numpy(encoded[name]) for name in codec.label_mapping_table}
            )
        )
        if 'heatmaps' in encoded:
            sample.gt_fields = PixelData(heatmaps=torch.from_numpy(encoded['heatmaps']))
        samples.append(sample)
    return samples


class TestMixedPrecision:
    @pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
    @pytest.mark.parametrize('smoothing', ['none', 'equal', 'gaussian', 'laplace'])
    def test_logits_of_1e4(self, dtype, smoothing):
        """Loss and gradient equal float64's on the very same logits."""
        generator = torch.Generator().manual_seed(0)
        codec = KEYPOINT_CODECS.build(
            dict(type='SimCCCodec', input_size=(48, 64), label_smoothing=smoothing)
        )
        labels = [s.gt_instance_labels for s in samples_for(codec, 6)]
        target = [
            torch.cat([label[f'keypoint_{axis}_labels'] for label in labels]) for axis in 'xy'
        ]
        weight = torch.cat([label.keypoint_weights for label in labels])
        logits = [
            (1e4 * (2 * torch.rand(6, 5, bins, generator=generator) - 1)).to(dtype).requires_grad_()
            for bins in codec.num_bins
        ]
        assert max(z.abs().max().item() for z in logits) > 9e3
        loss = SimCCKLLoss()(logits, target, weight)
        loss.backward()
        exact, expected = ([z.detach().double().requires_grad_() for z in logits], 0)
        for z, t in zip(exact, target):
            t = t.double()
            kl = torch.xlogy(t, t) - t * z.log_softmax(-1)
            expected += (kl.sum(-1) * weight).mean()
        expected.backward()
        assert expected > 1e3
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        tolerance = torch.finfo(dtype).eps
        for actual, z in zip(logits, exact):
            assert actual.grad.dtype == dtype and actual.grad.isfinite().all()
            torch.testing.assert_close(actual.grad.double(), z.grad, atol=1e-6, rtol=2 * tolerance)

    def few_steps(self, toy_config, folder, **optim_wrapper):
        """A Runner for 12 steps on one batch, with made-up logits of 1e4,
        from which it has to come back."""
        cfg = copy.deepcopy(toy_config)
        drop_augmentation(cfg)  # another crop moves such a loss by more than 12 steps
        cfg.train_dataloader.dataset.indices = BATCH
        cfg.optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-3), **optim_wrapper)
        runner = start(
            cfg,
            folder,
            **{
                'train_cfg.max_epochs': 12,
                'train_cfg.val_interval': 99,
                'default_hooks.checkpoint.interval': 12,
            },
        )
        runner.model.init_weights()
        torch.nn.init.normal_(runner.model.head.mlp_head_x.bias, std=1e4)
        return runner

    @pytest.mark.slow
    def test_trains_on_cpu(self, toy_config, tmp_path):
        """In bfloat16, by autocast: MMEngine's AmpOptimWrapper refuses to
        run without a GPU."""
        runner = self.few_steps(toy_config, tmp_path)
        model = runner.model.cpu().train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = runner.build_dataloader(runner.cfg.train_dataloader)
        losses = []
        for _ in range(12):
            data = model.data_preprocessor(next(iter(loader)), True)
            with torch.autocast('cpu', torch.bfloat16):
                logits = model.head(model.extract_feat(data['inputs']))
                loss, _ = model.parse_losses(model(**data, mode='loss'))
            assert logits[0].dtype == torch.bfloat16
            assert loss.dtype == torch.float32
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.check(losses, model.state_dict())

    @pytest.mark.slow
    @cuda
    def test_trains_on_cuda(self, toy_config, tmp_path):
        """In float16, by AmpOptimWrapper."""
        runner = self.few_steps(toy_config, tmp_path, type='AmpOptimWrapper', dtype='float16')
        dtypes = set()

        def look(module, args, out):
            if module.training:  # the validation is in float32
                dtypes.add(out.dtype)

        runner.model.head.mlp_head_x.register_forward_hook(look)
        runner.model.init_weights = lambda: None  # they are made up
        runner.train()
        assert dtypes == {torch.float16}
        (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
        losses = [
            line['loss']
            for line in map(json.loads, scalars.read_text().splitlines())
            if 'loss' in line
        ]
        self.check(losses, weights_of(tmp_path / 'epoch_12.pth'))

    @pytest.mark.slow
    @cuda
    def test_distributed_on_cuda(self, further, learned, repo_root, tmp_path):
        """In float16, by NCCL, to the weights of one process without it."""
        gpus = range(min(2, torch.cuda.device_count()))
        further.optim_wrapper.update(type='AmpOptimWrapper', dtype='float16')
        launcher = Launcher('pytorch', len(gpus))
        visible = ','.join(map(str, gpus))
        one, several = train_alone_and_together(
            further, repo_root, tmp_path, launcher, CUDA_VISIBLE_DEVICES=visible
        )
        moved = largest_difference(one, learned)
        assert moved > 1e-3
        assert largest_difference(one, several) < 0.05 * moved

    def check(self, losses, state):
        assert len(losses) == 12 and np.isfinite(losses).all()
        assert losses[0] > 1e3 and losses[-1] < losses[0]
        assert all(value.isfinite().all() for value in state.values())


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def flat(results):
    """Tensors in nested lists."""
    if isinstance(results, torch.Tensor):
        return [results]
    return [tensor for result in results for tensor in flat(result)]


@pytest.mark.slow
@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.4'),
    reason='older compilers break off at numpy and lists',
)
@pytest.mark.usefixtures('fresh_compiler')
class TestCompile:
    """By inductor, torch.compile's own backend, where its C++ compiler is
    done in seconds, else by aot_eager, which captures the same graphs."""

    @pytest.mark.parametrize('device', DEVICES)
    @pytest.mark.parametrize('name', HEADS)
    def test_heads(self, name, device):
        """Outputs, losses and gradients."""
        backend = 'inductor' if name == 'tokens' else 'aot_eager'
        results = []
        for compiled in (False, True):
            head, feats = build_head(name)
            head, feats = head.to(device), tuple(feat.to(device) for feat in feats)
            samples = [sample.to(device) for sample in samples_for(head.decoder, 6)]
            forward, loss = head.forward, head.loss
            if compiled:
                forward = torch.compile(forward, fullgraph=True, backend=backend)
                loss = torch.compile(loss, backend=backend)
            head.eval()
            with torch.no_grad():
                outputs = forward(feats)
            head.train()
            losses = loss(feats, samples)
            losses['loss_kpt'].backward()
            results.append(
                (
                    outputs,
                    losses['loss_kpt'].detach(),
                    losses['acc_pose'].float(),
                    [p.grad.clone() for p in head.parameters()],
                )
            )
        plain, compiled = results
        assert plain[1] > 0
        for actual, expected in zip(flat(compiled), flat(plain)):
            scale = max(1.0, expected.abs().max().item())
            torch.testing.assert_close(actual, expected, atol=1e-5 * scale, rtol=0)

    @pytest.mark.parametrize(
        'codec',
        [
            dict(type='SimCCCodec', sigma=3.0),
            dict(type='SimCCCodec', refine='dark', sigma=4.0),
            dict(type='SimCCCodec', refine='daec', sigma=4.0, delta=1.5),
            dict(type='HeatmapCodec', refine='none'),
            dict(type='HeatmapCodec', refine='quarter'),
            dict(type='HeatmapCodec', refine='second_max'),
            dict(type='DARKCodec'),
            dict(type='DAECCodec'),
            dict(type='DAECCodec', smooth=True, corner='ul', delta=[0.5] * 5),
        ],
        ids=lambda codec: '-'.join(map(str, codec.values())),
    )
    @pytest.mark.parametrize('device', DEVICES)
    def test_decoders(self, codec, device):
        init_default_scope('mmpose')
        backend = 'inductor' if codec.get('refine') == 'quarter' else 'aot_eager'
        size = dict(input_size=(48, 64))
        if codec['type'] != 'SimCCCodec':
            size.update(heatmap_size=(12, 16), sigma=2)
        codec = KEYPOINT_CODECS.build({**size, **codec})
        rng = np.random.default_rng(0)
        encoded = codec.encode_tensors(rng.uniform(0, (47, 63), (16, 1, 5, 2)), np.ones((16, 1, 5)))
        if hasattr(codec, 'num_bins'):
            maps = [np.log(encoded[f'keypoint_{axis}_labels'][:, 0] + 1e-4) for axis in 'xy']
        else:
            maps = [encoded['heatmaps']]
        maps = [torch.from_numpy(m + 0.05 * rng.random(m.shape)).float() for m in maps]
        maps[0][0, 0] = 0.0
        maps[0][0, 1] = float('nan')
        maps[0][0, 2, ..., 0] = 9.0  # at the border
        maps = [m.to(device) for m in maps]
        expected = codec.decode_tensors(*maps)
        actual = torch.compile(codec.decode_tensors, backend=backend)(*maps)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
        expected = codec.batch_decode(*maps)
        actual = torch.compile(codec.batch_decode, backend=backend)(*maps)
        for one, other in zip(actual, expected):
            np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
