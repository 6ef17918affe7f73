# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""COCO's evaluation of keypoints as xtcocotools does it, on top of pycocotools.

xtcocotools adds to pycocotools CrowdPose, the parts of whole bodies, other sigmas and data
without areas, but its wheels are for numpy 1 and Python 3.7 to 3.11 only. Here annotations are
brought into the form that pycocotools expects, and pycocotools evaluates them. All results,
those of single images included, equal xtcocotools' to the last digit.

:mod:`mmpose_simcc.utils.compat` lets MMPose import this as ``xtcocotools``.
"""

import contextlib
import io
import json
import warnings
from collections import defaultdict
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
from pycocotools import coco, cocoeval

# For each kind of evaluation, the entries of an annotation that hold its keypoints.
PARTS = {
    'keypoints': ('keypoints',),
    'keypoints_crowd': ('keypoints',),
    'keypoints_body': ('keypoints',),
    'keypoints_wholebody': (
        'keypoints',
        'foot_kpts',
        'face_kpts',
        'lefthand_kpts',
        'righthand_kpts',
    ),
    'keypoints_foot': ('foot_kpts',),
    'keypoints_face': ('face_kpts',),
    'keypoints_lefthand': ('lefthand_kpts',),
    'keypoints_righthand': ('righthand_kpts',),
}
# A person without an area is taken to cover this part of the box.
AREA_OF_BOX = 0.53
# CrowdPose: images with a crowd index below the first are easy, those from the second on hard.
CROWD_INDICES = (0.2, 0.8)


class COCO(coco.COCO):
    """A data set of COCO's layout, or results.

    Args:
        annotation_file (str, optional): Its file.
        test_index (sequence[int], optional): The keypoints to keep.
        ann_data (dict, optional): The file's content, if it has been read
            already.
    """

    def __init__(
        self,
        annotation_file: Optional[str] = None,
        test_index: Optional[Sequence[int]] = None,
        ann_data: Optional[dict] = None,
    ) -> None:
        super().__init__(annotation_file if ann_data is None else None)
        if annotation_file is not None and ann_data is not None:
            self.dataset = ann_data
            self.createIndex()
        self.anno_file = [annotation_file]
        self.test_index = test_index
        for annotation in self.dataset.get('annotations', ()):
            if test_index is not None:
                keypoints = np.reshape(annotation['keypoints'], (-1, 3))[test_index]
                annotation['keypoints'] = keypoints.flatten().tolist()
            annotation.setdefault('iscrowd', False)

    def loadRes(self, resFile, resData: Optional[list] = None) -> coco.COCO:
        """Load results on this data set.

        Args:
            resFile (str | list[dict] | np.ndarray): The results, or their file.
            resData (list[dict], optional): The file's content, if it has been
                read already.
        """
        if len(self.anno_file) == 1:
            self.anno_file.append(resFile)
        found = resFile if resData is None else resData
        if isinstance(found, str):
            found = json.loads(Path(found).read_text(encoding='utf-8'))
        if not isinstance(found, list) or found:
            results = super().loadRes(found)
        else:  # which pycocotools cannot read
            results = coco.COCO()
            results.dataset = dict(images=list(self.dataset['images']), annotations=[])
            results.createIndex()
        return results


class COCOeval(cocoeval.COCOeval):
    """Evaluates results on keypoints.

    Args:
        cocoGt (COCO): The annotations.
        cocoDt (pycocotools.coco.COCO): The results, from ``cocoGt.loadRes``.
        iouType (str): One of :data:`PARTS`.
        sigmas (np.ndarray, optional): Of each keypoint, shape (K,); COCO's by
            default.
        use_area (bool): Whether to use the ``area`` of annotations. Otherwise
            it is estimated from the box.
    """

    def __init__(
        self,
        cocoGt: Optional[COCO] = None,
        cocoDt: Optional[coco.COCO] = None,
        iouType: str = 'keypoints',
        sigmas: Optional[np.ndarray] = None,
        use_area: bool = True,
    ) -> None:
        if iouType not in PARTS:
            raise ValueError(f'iouType must be one of {", ".join(PARTS)}, got {iouType!r}')
        super().__init__(cocoGt, cocoDt, 'keypoints')
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas)
        self.sigmas = self.params.kpt_oks_sigmas
        self.use_area = use_area
        self._kind = iouType
        of_the_body = PARTS[iouType] == ('keypoints',)  # whose score is the person's
        self.score_key = 'score' if of_the_body else iouType.replace('keypoints_', '') + '_score'

    def _keypoints(self, annotation: dict) -> list:
        """x, y and visibility of the keypoints that are evaluated."""
        return [number for part in PARTS[self._kind] for number in annotation[part]]

    def _prepare(self) -> None:
        ids = dict(imgIds=self.params.imgIds, catIds=self.params.catIds)
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        for gt in self.cocoGt.loadAnns(self.cocoGt.getAnnIds(**ids)):
            keypoints = self._keypoints(gt)
            if self._kind == 'keypoints_crowd':  # which counts visible ones alone
                seen = gt['num_keypoints']
            else:
                seen = np.count_nonzero(np.array(keypoints[2::3]) > 0)
            prepared = dict(gt, id=gt['id'] + 1, keypoints=keypoints)
            prepared['ignore'] = seen == 0 or gt.get('iscrowd', False)
            if not self.use_area:
                prepared['area'] = gt['bbox'][2] * gt['bbox'][3] * AREA_OF_BOX
            elif 'area' not in gt:
                raise ValueError(f'annotation {gt["id"]} has no `area`: evaluate by use_area=False')
            self._gts[gt['image_id'], gt['category_id']].append(prepared)
        without_score = False
        for dt in self.cocoDt.loadAnns(self.cocoDt.getAnnIds(**ids)):
            keypoints = self._keypoints(dt)
            without_score |= self.score_key not in dt
            if (np.array(keypoints[2::3]) > 0).any():
                score = dt.get(self.score_key, dt['score'])
                prepared = dict(dt, id=dt['id'] + 1, keypoints=keypoints, score=score)
                self._dts[dt['image_id'], dt['category_id']].append(prepared)
        if without_score:
            warnings.warn(f'results have no {self.score_key!r}: `score` is used', stacklevel=3)
        self.evalImgs, self.eval = defaultdict(list), {}

    def evaluateImg(self, *args) -> Optional[dict]:
        """Matches of one image, where -1 means none: an id may be 0."""
        found = super().evaluateImg(*args)
        if found is not None:
            for name in 'dtIds', 'gtIds':
                found[name] = [number - 1 for number in found[name]]
            for name in 'dtMatches', 'gtMatches':
                found[name] = found[name].astype(np.int64) - 1
        return found

    def accumulate(self, p: Optional[cocoeval.Params] = None) -> None:
        """Precision and recall over all images, in ``eval``."""
        by_image = self.evalImgs
        # for pycocotools 0 means none
        self.evalImgs = [e and dict(e, dtMatches=e['dtMatches'] + 1) for e in by_image]
        super().accumulate(p)
        self.evalImgs = by_image

    def summarize(self) -> None:
        """Print COCO's ten figures, or CrowdPose's nine, and keep them in
        ``stats``."""
        super().summarize()
        if self._kind == 'keypoints_crowd':
            stats = self.stats[[0, 1, 2, 5, 6, 7]]
            by_crowd = self.get_type_result(*CROWD_INDICES)
            for name, value in zip(('easy', 'medium', 'hard'), by_crowd):
                print(f' Average Precision  (AP) of {name} images = {value:0.3f}')
            self.stats = np.append(stats, by_crowd)

    def get_type_result(self, first: float, second: float) -> List[float]:
        """AP on easy, medium and hard images of CrowdPose, rounded to four
        digits.

        Args:
            first (float): The crowd index from which on an image is medium.
            second (float): The crowd index from which on it is hard.
        """
        images = self.cocoGt.dataset['images']
        values = []
        for low, high in ((-np.inf, first), (first, second), (second, np.inf)):
            chosen = [image['id'] for image in images if low <= image['crowdIndex'] < high]
            self.params.imgIds = chosen
            with contextlib.redirect_stdout(io.StringIO()):
                self.evaluate()
                self.accumulate()
            values.append(round(np.mean(self.eval['precision'][:, :, :, 0, :]), 4))
        return values
