# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""The sizes that the papers print, and the config that reproduces each.

Sources:

* ``SimCC T1`` to ``SimCC T4``: tables of Li et al., "SimCC: a Simple
  Coordinate Classification Perspective for Human Pose Estimation", ECCV 2022.
* ``DARK T4``: Zhang et al., "Distribution-Aware Coordinate Representation for
  Human Pose Estimation", CVPR 2020, Table 4.
* ``TokenPose``: Li et al., "TokenPose: Learning Keypoint Tokens for Human
  Pose Estimation", ICCV 2021.
* ``SimCC code``, ``TokenPose code``: parameters of the published models, to
  the third decimal.
"""

from typing import NamedTuple, Optional, Tuple

# Parameters agree when they differ by no more than this, in millions.
PARAMS_TOLERANCE = 0.06
# GFLOPs agree when they differ by no more than the larger of these two.
GFLOPS_TOLERANCE = 0.15
GFLOPS_RELATIVE_TOLERANCE = 0.03


class PaperSize(NamedTuple):
    """What a paper says about one model.

    Attributes:
        source (str): Paper and table.
        model (str): The paper's name of the model.
        scheme (str): Representation of the keypoints.
        input_size (tuple): Width and height of the image in pixels.
        config (str, optional): The config that reproduces it: a path below
            ``configs/``, or ``mmpose::...``. None if neither this project nor
            MMPose has the model.
        params (float, optional): Parameters in millions, if printed.
        gflops (float, optional): GFLOPs, if printed.
        reason (str): Why this project's figure differs, where it does.
        relative_tolerance (float): Allowed relative difference where the
            paper leaves parts of the layout open.
    """

    source: str
    model: str
    scheme: str
    input_size: Tuple[int, int]
    config: Optional[str]
    params: Optional[float] = None
    gflops: Optional[float] = None
    reason: str = ''
    relative_tolerance: float = 0.0

    def params_agree(self, params: float) -> bool:
        """Whether a number of parameters, in millions, is the paper's."""
        return self._agree(params, self.params, PARAMS_TOLERANCE)

    def gflops_agree(self, gflops: float) -> bool:
        """Whether a paper count of GFLOPs is the paper's."""
        return self._agree(gflops, self.gflops, GFLOPS_TOLERANCE, GFLOPS_RELATIVE_TOLERANCE)

    def _agree(
        self, own: float, printed: Optional[float], absolute: float, relative: float = 0.0
    ) -> bool:
        if printed is None:
            return True
        relative = max(relative, self.relative_tolerance)
        allowed = max(absolute, relative * printed)
        return abs(own - printed) <= allowed + 1e-9


_HEATMAP = 'body_2d_keypoint/topdown_heatmap/coco/td-hm_'
_SIMCC = 'body_2d_keypoint/simcc/coco/simcc_'
_TOKENPOSE = 'body_2d_keypoint/tokenpose/coco/'
_REGRESSION = 'body_2d_keypoint/topdown_regression/coco/td-reg_'
_HEATMAP1D = 'body_2d_keypoint/heatmap1d/coco/heatmap1d_'

_64, _128, _256 = (64, 64), (128, 128), (192, 256)
_SQUARE, _384 = (256, 256), (288, 384)

_NO_MODEL = 'neither this project nor MMPose has this model'
_OTHER_COUNT = 'multiply-adds over 1e9 instead of 2**30 come close to the printed figure'
_REAL_DECONVOLUTIONS = (
    'with transposed convolutions at their real cost, a quarter of what is '
    'counted here, it is within 3%'
)
_BETWEEN = (
    'the published model has the same count; the printed figure lies '
    'between it and the count with attention products'
)
_BEYOND = (
    'the published model has the same count; attention products do '
    'not make up the difference, whose origin is unknown'
)

PAPER_SIZES = (
    # SimCC, Table 1: COCO val
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'heatmap',
        _64,
        _TOKENPOSE + 'td-hm_tokenpose-s_8xb64-300e_coco-64x64.py',
        4.9,
        1.4,
        _BETWEEN,
    ),
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'SimCC',
        _64,
        _TOKENPOSE + 'simcc_tokenpose-s_8xb64-300e_coco-64x64.py',
        4.9,
        1.4,
        _BETWEEN,
    ),
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'heatmap',
        _128,
        _TOKENPOSE + 'td-hm_tokenpose-s_8xb64-300e_coco-128x128.py',
        5.2,
        1.6,
    ),
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'SimCC',
        _128,
        _TOKENPOSE + 'simcc_tokenpose-s_8xb64-300e_coco-128x128.py',
        5.1,
        1.6,
    ),
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-s_8xb64-300e_coco-256x192.py',
        6.6,
        2.2,
    ),
    PaperSize(
        'SimCC T1',
        'TokenPose-S',
        'SimCC',
        _256,
        _TOKENPOSE + 'simcc_tokenpose-s_8xb64-300e_coco-256x192.py',
        5.5,
        2.2,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'heatmap',
        _64,
        _HEATMAP + 'res50_8xb64-210e_coco-64x64.py',
        34.0,
        0.7,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'SimCC',
        _64,
        _SIMCC + 'res50_8xb64-210e_coco-64x64.py',
        24.7,
        0.3,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'heatmap',
        _128,
        _HEATMAP + 'res50_8xb64-210e_coco-128x128.py',
        34.0,
        3.0,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'SimCC',
        _128,
        _SIMCC + 'res50_8xb64-210e_coco-128x128.py',
        25.0,
        1.3,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'heatmap',
        _256,
        _HEATMAP + 'res50_8xb64-210e_coco-256x192.py',
        34.0,
        8.9,
    ),
    PaperSize(
        'SimCC T1, T4',
        'SimBa-R50',
        'SimCC',
        _256,
        _SIMCC + 'res50_8xb64-210e_coco-256x192.py',
        25.7,
        3.8,
    ),
    PaperSize(
        'SimCC T1',
        'HRNet-W48',
        'heatmap',
        _64,
        _HEATMAP + 'hrnet-w48_8xb32-210e_coco-64x64.py',
        63.6,
        1.2,
    ),
    PaperSize(
        'SimCC T1',
        'HRNet-W48',
        'SimCC',
        _64,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-64x64.py',
        63.7,
        1.2,
    ),
    PaperSize(
        'SimCC T1',
        'HRNet-W48',
        'heatmap',
        _128,
        _HEATMAP + 'hrnet-w48_8xb32-210e_coco-128x128.py',
        63.6,
        4.9,
    ),
    PaperSize(
        'SimCC T1',
        'HRNet-W48',
        'SimCC',
        _128,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-128x128.py',
        64.1,
        4.9,
    ),
    PaperSize(
        'SimCC T1, T2',
        'HRNet-W48',
        'heatmap',
        _256,
        _HEATMAP + 'hrnet-w48_8xb32-210e_coco-256x192.py',
        63.6,
        14.6,
    ),
    PaperSize(
        'SimCC T1, T2',
        'HRNet-W48',
        'SimCC',
        _256,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-256x192.py',
        66.3,
        14.6,
    ),
    # SimCC, Table 2: COCO test-dev; only GFLOPs are printed
    PaperSize('SimCC T2', 'RMPE', 'heatmap', (256, 320), None, None, 26.7, _NO_MODEL),
    PaperSize('SimCC T2', 'CPN', 'heatmap', _384, None, None, 29.2, _NO_MODEL),
    PaperSize(
        'SimCC T2',
        'SimBa-R152',
        'heatmap',
        _384,
        _HEATMAP + 'res152_8xb32-210e_coco-384x288.py',
        None,
        35.6,
    ),
    PaperSize('SimCC T2', 'TransPose-H', 'heatmap', _256, None, None, 21.8, _NO_MODEL),
    PaperSize(
        'SimCC T2',
        'HRNet-W32',
        'heatmap',
        _384,
        _HEATMAP + 'hrnet-w32_8xb64-210e_coco-384x288.py',
        None,
        16.0,
    ),
    PaperSize(
        'SimCC T2',
        'SimBa-R50',
        'heatmap',
        _384,
        _HEATMAP + 'res50_8xb64-210e_coco-384x288.py',
        None,
        20.0,
    ),
    PaperSize(
        'SimCC T2',
        'HRNet-W48',
        'heatmap',
        _384,
        _HEATMAP + 'hrnet-w48_8xb32-210e_coco-384x288.py',
        None,
        32.9,
    ),
    PaperSize(
        'SimCC T2',
        'DeepPose-R101',
        'regression',
        _256,
        f'mmpose::{_REGRESSION}res101_8xb64-210e_coco-256x192.py',
        None,
        7.7,
        _OTHER_COUNT,
    ),
    PaperSize(
        'SimCC T2',
        'DeepPose-R152',
        'regression',
        _256,
        f'mmpose::{_REGRESSION}res152_8xb64-210e_coco-256x192.py',
        None,
        11.3,
        _OTHER_COUNT,
    ),
    PaperSize(
        'SimCC T2',
        'Integral Pose-R101',
        'regression',
        _SQUARE,
        'body_2d_keypoint/integral_regression/coco/ipr_res101_8xb64-210e_coco-256x256.py',
        None,
        11.0,
        _REAL_DECONVOLUTIONS,
    ),
    PaperSize('SimCC T2', 'TFPose-R50', 'regression', _384, None, None, 20.4, _NO_MODEL),
    PaperSize('SimCC T2', 'PRTR-W32', 'regression', _384, None, None, 21.6, _NO_MODEL),
    PaperSize('SimCC T2', 'PRTR-W32', 'regression', (384, 512), None, None, 37.8, _NO_MODEL),
    PaperSize(
        'SimCC T2',
        'SimBa-R50',
        'SimCC, deconv',
        _384,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-384x288.py',
        None,
        20.2,
    ),
    PaperSize(
        'SimCC T2',
        'HRNet-W48',
        'SimCC',
        _384,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-384x288.py',
        None,
        32.9,
    ),
    # SimCC, Table 3: against 1D heatmaps
    PaperSize(
        'SimCC T3',
        'SimBa-R50',
        'heatmap',
        _SQUARE,
        _HEATMAP + 'res50_8xb64-210e_coco-256x256.py',
        34.0,
        12.0,
    ),
    PaperSize(
        'SimCC T3',
        'SimBa-R50',
        '1D heatmap',
        _SQUARE,
        _HEATMAP1D + 'res50_8xb64-210e_coco-256x256.py',
        39.0,
        14.4,
        relative_tolerance=0.05,
    ),
    PaperSize(
        'SimCC T3',
        'SimBa-R50',
        'SimCC',
        _SQUARE,
        _SIMCC + 'res50_8xb64-210e_coco-256x256.py',
        26.3,
        5.0,
    ),
    # SimCC, Table 4: with deconvolutions
    PaperSize(
        'SimCC T4',
        'SimBa-R50',
        'SimCC, deconv',
        _64,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-64x64.py',
        34.1,
        0.7,
    ),
    PaperSize(
        'SimCC T4',
        'SimBa-R50',
        'SimCC, deconv',
        _128,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-128x128.py',
        34.8,
        3.0,
    ),
    PaperSize(
        'SimCC T4',
        'SimBa-R50',
        'SimCC, deconv',
        _256,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-256x192.py',
        36.8,
        9.0,
    ),
    # the published SimCC models
    PaperSize(
        'SimCC code', 'SimBa-R50', 'SimCC', _64, _SIMCC + 'res50_8xb64-210e_coco-64x64.py', 24.672
    ),
    PaperSize(
        'SimCC code',
        'SimBa-R50',
        'SimCC',
        _128,
        _SIMCC + 'res50_8xb64-210e_coco-128x128.py',
        25.017,
    ),
    PaperSize(
        'SimCC code',
        'SimBa-R50',
        'SimCC',
        _256,
        _SIMCC + 'res50_8xb64-210e_coco-256x192.py',
        25.688,
    ),
    PaperSize(
        'SimCC code',
        'SimBa-R50',
        'SimCC, deconv',
        _64,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-64x64.py',
        34.098,
    ),
    PaperSize(
        'SimCC code',
        'SimBa-R50',
        'SimCC, deconv',
        _256,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-256x192.py',
        36.753,
    ),
    PaperSize(
        'SimCC code',
        'SimBa-R50',
        'SimCC, deconv',
        _384,
        _SIMCC + 'res50_deconv-8xb64-210e_coco-384x288.py',
        43.291,
    ),
    PaperSize(
        'SimCC code',
        'HRNet-W32',
        'SimCC',
        _128,
        _SIMCC + 'hrnet-w32_8xb64-210e_coco-128x128.py',
        29.061,
    ),
    PaperSize(
        'SimCC code',
        'HRNet-W32',
        'SimCC',
        _256,
        _SIMCC + 'hrnet-w32_8xb64-210e_coco-256x192.py',
        31.290,
    ),
    PaperSize(
        'SimCC code',
        'HRNet-W48',
        'SimCC',
        _64,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-64x64.py',
        63.694,
    ),
    PaperSize(
        'SimCC code',
        'HRNet-W48',
        'SimCC',
        _256,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-256x192.py',
        66.349,
    ),
    PaperSize(
        'SimCC code',
        'HRNet-W48',
        'SimCC',
        _384,
        _SIMCC + 'hrnet-w48_8xb32-210e_coco-384x288.py',
        70.564,
    ),
    # DARK, Table 4: HRNet-W32, the same for DARK and for the baseline
    PaperSize(
        'DARK T4',
        'HRNet-W32',
        'heatmap',
        (96, 128),
        _HEATMAP + 'hrnet-w32_8xb64-210e_coco-128x96.py',
        None,
        1.8,
    ),
    PaperSize(
        'DARK T4',
        'HRNet-W32',
        'heatmap',
        _256,
        _HEATMAP + 'hrnet-w32_8xb64-210e_coco-256x192.py',
        None,
        7.1,
    ),
    PaperSize(
        'DARK T4',
        'HRNet-W32',
        'heatmap',
        _384,
        _HEATMAP + 'hrnet-w32_8xb64-210e_coco-384x288.py',
        None,
        16.0,
    ),
    # TokenPose
    PaperSize(
        'TokenPose',
        'TokenPose-S-v2',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-s-v2_8xb64-300e_coco-256x192.py',
        6.2,
        11.6,
        _BEYOND,
    ),
    PaperSize(
        'TokenPose',
        'TokenPose-B',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-b_8xb64-300e_coco-256x192.py',
        13.5,
        5.7,
        _BETWEEN,
    ),
    PaperSize(
        'TokenPose',
        'TokenPose-L/D24',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-l-d24_8xb64-300e_coco-256x192.py',
        None,
        11.0,
    ),
    PaperSize(
        'TokenPose code',
        'TokenPose-T',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-t_8xb64-300e_coco-256x192.py',
        5.816,
    ),
    PaperSize(
        'TokenPose code',
        'TokenPose-L/D24',
        'heatmap',
        _256,
        _TOKENPOSE + 'td-hm_tokenpose-l-d24_8xb64-300e_coco-256x192.py',
        27.482,
    ),
    PaperSize(
        'TokenPose code',
        'TokenPose-L/D24',
        'heatmap',
        _384,
        _TOKENPOSE + 'td-hm_tokenpose-l-d24_8xb64-300e_coco-384x288.py',
        29.809,
    ),
)
