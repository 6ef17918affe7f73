# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What is exported: a top-down model between a client's input and output."""

from typing import Optional, Tuple, Union

import torch
from mmpose.models import TopdownPoseEstimator
from torch import Tensor, nn

from ...codecs import SimCCCodec, equivalent_codec
from ...functional.arrays import as_array
from ...models import Heatmap1DHead
from ...utils.checks import check_choice
from ...utils.inference import pose_head
from ..client import RTMLIB_MEAN, RTMLIB_STD
from ..client.metadata import INPUTS, OUTPUTS


class ImageInput(nn.Module):
    """From what a client feeds to what the network takes.

    Args:
        preprocessor (nn.Module): The model's ``PoseDataPreprocessor``, for
            images as OpenCV reads them (BGR).
        kind (str): What the client feeds. ``'float'``: normalised pixels in
            the network's channel order, (B, 3, h, w), handed on as they are.
            ``'bgr'``: BGR pixels that rtmlib has normalised by its defaults,
            (B, 3, h, w). ``'uint8'``: a plain OpenCV crop, BGR in [0, 255],
            (B, h, w, 3).
    """

    def __init__(self, preprocessor: nn.Module, kind: str) -> None:
        super().__init__()
        self.kind = check_choice('input', kind, INPUTS)
        self.flip_channels = preprocessor._channel_conversion
        self.mean, self.std = preprocessor_statistics(preprocessor)
        for name, values in (
            ('_mean', self.mean),
            ('_std', self.std),
            ('_client_mean', RTMLIB_MEAN),
            ('_client_std', RTMLIB_STD),
        ):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def example(self, size: Tuple[int, int], batch_size: int) -> Tensor:
        """Zeros of the shape that a client feeds, for images (w, h)."""
        w, h = size
        if self.kind == 'uint8':
            return torch.zeros(batch_size, h, w, 3, dtype=torch.uint8)
        return torch.zeros(batch_size, 3, h, w)

    def forward(self, image: Tensor) -> Tensor:
        """Shape (B, 3, h, w) or (B, h, w, 3) to (B, 3, h, w)."""
        if self.kind == 'float':
            return image
        if self.kind == 'uint8':
            pixels = image.permute(0, 3, 1, 2).float()
        else:
            pixels = image * self._client_std + self._client_mean
        if self.flip_channels:
            pixels = pixels.flip(1)
        return (pixels - self._mean) / self._std


def preprocessor_statistics(preprocessor: nn.Module) -> Tuple[Tuple[float, ...], ...]:
    """Mean and standard deviation of a data preprocessor, in the network's
    channel order; 0 and 1 where it does not normalise."""
    if not preprocessor._enable_normalize:
        return (0.0,) * 3, (1.0,) * 3
    # rounded: they are float32 copies of short decimals
    return tuple(
        tuple(round(value, 4) for value in statistic.flatten().tolist())
        for statistic in (preprocessor.mean, preprocessor.std)
    )


def relative_probabilities(logits: Tensor) -> Tensor:
    """Probabilities relative to the largest.

    Args:
        logits (Tensor): What the softmax is taken of, shape (..., L).

    Returns:
        Tensor: float32 in [0, 1], shape (..., L), 1 at the argmax of the logits alone.
    """
    logits = logits.float()
    peak = logits.amax(dim=-1, keepdim=True)
    return _below_the_peak((logits - peak).exp(), logits < peak)


def relative_heights(vectors: Tensor) -> Tensor:
    """1-D heatmaps, shifted for their maxima to be 1, which those of a perfect prediction are.

    Args:
        vectors (Tensor): Heatmaps, shape (..., L).

    Returns:
        Tensor: float32 in [0, 1], shape (..., L), 1 at the argmax of the heatmaps alone.
    """
    vectors = vectors.float()
    peak = vectors.amax(dim=-1, keepdim=True)
    return _below_the_peak((vectors - peak + 1).clamp(min=0), vectors < peak)


def move_peaks(vectors: Tensor, bins: Tensor) -> Tensor:
    """Vectors turned round until their maxima lie at other bins; clients read nothing else.

    Args:
        vectors (Tensor): Shape (..., L).
        bins (Tensor): Where the maxima ought to lie, shape (...); the nearest bin is taken.

    Returns:
        Tensor: Shape (..., L).
    """
    L = vectors.shape[-1]
    rows = vectors.reshape(-1, L)
    shift = bins.reshape(-1, 1).round().clamp(0, L - 1) - rows.argmax(-1, keepdim=True)
    source = (torch.arange(L, device=shift.device) - shift).remainder(L).long()
    first = L * torch.arange(rows.shape[0], device=source.device)
    return rows.reshape(-1)[source + first[:, None]].view_as(vectors)


def _below_the_peak(values: Tensor, is_below: Tensor) -> Tensor:
    """Lower by a millionth whatever is below the peak, since rounding may have made it equal."""
    return values * torch.where(is_below, 1 - 1e-6, 1.0)


class Decode(nn.Module):
    """From the network's outputs to the client's.

    Codecs of this package decode themselves. A stock codec is decoded by the
    one that does the same; its scores then are, as in this package, in [0, 1]
    for SimCC, where MMPose gives raw logits.

    Args:
        head (nn.Module): Head of a top-down model.
        output (str, optional): ``'simcc'``: vectors along x and y with maxima in (0, 1].
            ``'keypoints'``: keypoints and scores. ``'raw'``: what the head gives, heatmaps
            or SimCC logits, for runtimes that cannot decode. ``'simcc'`` by default where the
            head classifies coordinates, else ``'keypoints'``.

    Attributes:
        output_names (tuple[str]): Names of the outputs. A calibrated model has a third one of
            keypoints and scores, ``'radii'`` (B, K, 2) in input-image pixels.
        calibration (Calibration, optional): That of the codec, where the outputs are decoded.

    Raises:
        ValueError: The head or its codec is not supported, or has not this
            output.
    """

    def __init__(self, head: nn.Module, output: Optional[str] = None) -> None:
        super().__init__()
        self.codec = equivalent_codec(head.decoder, getattr(head, 'loss_module', None))
        self.is_simcc = isinstance(self.codec, SimCCCodec)
        self.is_logits = not isinstance(head, Heatmap1DHead)
        self.output = check_choice(
            'output',
            output or ('simcc' if self.is_simcc else 'keypoints'),
            OUTPUTS[0 if self.is_simcc else 1 :],
        )
        raw = ('simcc_x', 'simcc_y') if self.is_simcc else ('heatmaps',)
        self.calibration = None if self.output == 'raw' else self.codec.calibration
        decoded = ('keypoints', 'scores')
        if self.calibration and self.calibration.radii:
            decoded += ('radii',)
        self.output_names = decoded if self.output == 'keypoints' else raw

    def forward(self, *responses: Tensor) -> Tuple[Tensor, ...]:
        """Outputs as named in ``output_names``; keypoints in input-image pixels. The vectors of
        both axes have the codec's score as their maximum, since some clients take the smaller of
        both maxima for the score and others the mean. A calibration moves them to the bin nearest
        to its keypoint."""
        if self.output == 'raw':
            return responses
        keypoints, scores = self.codec.decode_tensors(*responses)
        if self.output == 'keypoints':
            radii = self.codec.keypoint_radius(scores)
            return (keypoints, scores) if radii is None else (keypoints, scores, radii)
        height = scores.clamp(min=1e-6).unsqueeze(-1)  # a vector of zeros has no argmax
        if self.is_logits:
            relative = (relative_probabilities(r * self.codec.beta) for r in responses)
        else:
            relative = (relative_heights(r) for r in responses)
        vectors = tuple(vectors * height for vectors in relative)
        if self.calibration:
            bins = keypoints / as_array(self.codec.decoded_scale_factor, like=keypoints)
            vectors = tuple(move_peaks(v, at) for v, at in zip(vectors, bins.unbind(-1)))
        return vectors


class Network(nn.Module):
    """Backbone, neck and the head that predicts keypoints of a top-down model.

    Args:
        model (TopdownPoseEstimator): The model.
    """

    def __init__(self, model: TopdownPoseEstimator) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.head = pose_head(model)

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """The head's outputs for normalised images (B, 3, h, w)."""
        responses: Union[Tensor, Tuple] = self.head(self.neck(self.backbone(image)))
        if isinstance(responses, Tensor):
            responses = (responses,)
        # After some layers, such as Tensor.unflatten, the tracer takes the batch size for constant
        # and other sizes for variable. This tells it that only the batch size varies.
        return tuple(
            response.reshape(image.shape[0], *map(int, response.shape[1:]))
            for response in responses
        )


class DeployModel(nn.Module):
    """A top-down model from a client's input to its output, without flip
    test.

    Args:
        model (TopdownPoseEstimator): The model, in evaluation mode.
        input (str): See :class:`ImageInput`. Defaults to ``'float'``.
        output (str, optional): See :class:`Decode`.

    Raises:
        ValueError: The model cannot be exported in this way.
    """

    def __init__(
        self, model: TopdownPoseEstimator, input: str = 'float', output: Optional[str] = None
    ) -> None:
        super().__init__()
        self.input = ImageInput(model.data_preprocessor, input)
        self.network = Network(model)
        self.decode = Decode(self.network.head, output)

    @property
    def input_size(self) -> Tuple[int, int]:
        return self.decode.codec.input_size

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """See :class:`ImageInput` and :class:`Decode` for the shapes."""
        return self.decode(*self.network(self.input(image)))
