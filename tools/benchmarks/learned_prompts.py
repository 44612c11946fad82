"""Compare masks from learned prompts with those from the detector's boxes alone.

A detector (SAM2PromptDetector) finds boxes and classes in the images of its config's
test set. The same boxes get masks in three ways: filled, as box prompts of SAM 2, and
by the learned prompts. The table has the mean average precision of each (COCO, segm).

    python tools/benchmarks/learned_prompts.py \
        configs/mmdet/sam2_prompt_mini_shapes.py work_dirs/prompts/epoch_8.pth
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from repository_root import use_repository_root  # type: ignore[import-not-found]

use_repository_root()

from mmengine.config import Config, DictAction
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint

from projects.sam2.apis import SAM2ImagePredictor, build_sam2
from projects.sam2.bridges.detection.box_prompts import segment_boxes
from projects.sam2.engine.config import load_config

KINDS = ('filled boxes', 'box prompts', 'learned prompts')


def fill_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (N, height, width) of all pixels whose centre is in a box (N, 4)."""
    x = torch.arange(size[1]) + 0.5
    y = torch.arange(size[0]) + 0.5
    x0, y0, x1, y1 = boxes.cpu()[..., None].unbind(1)  # (N, 1) each
    columns, rows = (x >= x0) & (x < x1), (y >= y0) & (y < y1)
    return rows[:, :, None] & columns[:, None]


def compare(cfg: Config, checkpoint: str, sam2: str | None) -> dict[str, float]:
    """Score the three kinds of masks.

    Args:
        checkpoint: Weights of the detector.
        sam2: Weights of the SAM 2 that gets box prompts; None for the detector's own.
    """
    init_default_scope(cfg.default_scope)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = MODELS.build(cfg.model).to(device).eval()
    load_checkpoint(model, checkpoint, map_location='cpu')
    prompted = model.backbone
    if sam2 is not None:
        plain = {**cfg.model.backbone, 'adaptations': (), 'init_cfg': None}
        prompted = build_sam2(Config({'model': plain}), sam2, device)
    predictor = SAM2ImagePredictor(prompted)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    dataset: Any = loader.dataset
    evaluators = {kind: Evaluator(cfg.test_evaluator) for kind in KINDS}
    for evaluator in evaluators.values():
        evaluator.dataset_meta = dataset.metainfo
    for batch in loader:
        with torch.no_grad():
            samples = model.test_step(batch)
        for sample in samples:
            found: Any = sample.pred_instances
            image = Image.open(sample.img_path).convert('RGB')
            predictor.set_image(np.asarray(image))
            masks = {
                'filled boxes': fill_boxes(found.bboxes, sample.ori_shape[:2]),
                'box prompts': segment_boxes(predictor, found.bboxes).masks,
                'learned prompts': found.masks,
            }
            for kind, evaluator in evaluators.items():
                scored = copy.copy(sample)
                scored.pred_instances = found.clone()
                scored.pred_instances.masks = masks[kind]
                evaluator.process([scored])
    size = len(dataset)
    scores = {}
    for kind, evaluator in evaluators.items():
        metrics = evaluator.evaluate(size)
        scores['boxes'] = metrics['coco/bbox_mAP']
        scores[kind] = metrics['coco/segm_mAP']
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, compare, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of a SAM2PromptDetector')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        '--sam2',
        metavar='CHECKPOINT',
        help='SAM 2 for box prompts, where the detector has changed its own',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='changes of the config'
    )
    args = parser.parse_args(arguments)
    cfg = load_config(args.config, args.cfg_options)
    scores = compare(cfg, args.checkpoint, args.sam2)
    lines = [f'{kind:16} {score:.3f}' for kind, score in scores.items()]
    print('\n'.join(['masks            mAP', *lines]))


if __name__ == '__main__':
    main()
