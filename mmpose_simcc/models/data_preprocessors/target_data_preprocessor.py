# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
from typing import List

import torch
from mmengine.structures import PixelData
from mmpose.models.data_preprocessors import PoseDataPreprocessor
from mmpose.registry import KEYPOINT_CODECS, MODELS
from mmpose.structures import PoseDataSample
from mmpose.utils.typing import ConfigType

from ...utils.checks import invalid


@MODELS.register_module()
class TargetDataPreprocessor(PoseDataPreprocessor):
    """Makes the dense labels of a batch on the training device, in one call.

    Data workers send coordinates (:class:`CoordinateCodec`) where they would
    send heatmaps or SimCC vectors; heads find the labels where workers would
    have put them. Samples without coordinates, those of a test, pass as they
    are.

    Args:
        codec (dict): Config of the codec that makes the labels.
        **kwargs: See :class:`mmpose.models.PoseDataPreprocessor`.

    Raises:
        ValueError: The codec is not one of this package.
    """

    def __init__(self, codec: ConfigType, **kwargs) -> None:
        super().__init__(**kwargs)
        self.codec = KEYPOINT_CODECS.build(codec)
        if not hasattr(self.codec, 'encode_tensors'):
            raise invalid('codec', codec['type'], 'a codec of mmpose_simcc')

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise the images as the parent does, and add the labels.

        Args:
            data (dict): Data sampled from the dataloader.
            training (bool): Whether to enable training time augmentation.

        Returns:
            dict: Data in the same format as the model input.
        """
        data = super().forward(data, training)
        samples = data['data_samples']
        if samples and 'keypoint_labels' in samples[0].get('gt_instance_labels', ()):
            self._add_labels(samples)
        return data

    @torch.no_grad()
    def _add_labels(self, samples: List[PoseDataSample]) -> None:
        given = [sample.gt_instance_labels for sample in samples]
        labels = self.codec.encode_tensors(
            torch.stack([label.keypoint_labels for label in given]),
            torch.stack([label.keypoints_visible for label in given]),
        )
        labels['keypoint_weights'] = labels['keypoint_weights'] * torch.stack(
            [label.keypoint_weights for label in given]
        )
        for index, (sample, label) in enumerate(zip(samples, given)):
            for key, name in self.codec.label_mapping_table.items():
                label.set_field(labels[key][index], name)
            if self.codec.field_mapping_table:
                sample.gt_fields = PixelData(
                    **{
                        name: labels[key][index]
                        for key, name in self.codec.field_mapping_table.items()
                    }
                )
