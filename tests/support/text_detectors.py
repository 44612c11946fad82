"""Small detectors of mmdetection with random weights, and a small language model."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from numpy.typing import NDArray

from projects.sam2.bridges.detection.detector import Detector
from projects.sam2.bridges.mmcv_operators import ensure_operators

WORDS = ('a', 'red', 'disk', 'square', 'star', 'dog', 'ball', '.', ',', '?', '-')
CLASSES = ('cat', 'Dog', 'traffic light', 'cup', 'kite')


def bright_disks() -> NDArray[np.uint8]:
    """An image in which the random detectors find something, (128, 144, 3)."""
    pixels = np.random.default_rng(0).integers(0, 30, (128, 144, 3), np.uint8)
    for center, color in (
        ((30, 30), (60, 235, 110)),
        ((90, 40), (235, 70, 200)),
        ((100, 100), (250, 200, 60)),
    ):
        cv2.ellipse(pixels, center, (18, 12), 30, 0, 360, color, cv2.FILLED)
    return pixels


def write_language_model(folder: Path, *, max_tokens: int = 64) -> str:
    """Write a BERT of two narrow layers that knows WORDS and all letters."""
    transformers = pytest.importorskip('transformers')
    letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    vocabulary = [*special, *WORDS, *letters, *(f'##{letter}' for letter in letters)]
    vocabulary = list(dict.fromkeys(vocabulary))
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    kind = {'tokenizer_class': 'BertTokenizer', 'do_lower_case': True}
    (folder / 'tokenizer_config.json').write_text(json.dumps(kind))
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=max_tokens,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return str(folder)


def mmdet_config(name: str) -> Config:
    """A config that comes with mmdetection."""
    mmdet = pytest.importorskip('mmdet')
    ensure_operators()
    return Config.fromfile(Path(mmdet.__file__).parent / '.mim' / 'configs' / name)


def shrink_images(cfg: Config, side: int) -> None:
    """Let the test pipeline of a config resize images to a side."""
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type in {'Resize', 'FixScaleResize'}:
            step.scale = (side, side)
        elif step.type == 'Pad':
            step.size = (side, side)


def write_rtmdet(folder: Path, classes: tuple[str, ...] = CLASSES) -> str:
    """Write the config of a narrow RTMDet."""
    cfg = mmdet_config('rtmdet/rtmdet_tiny_8xb32-300e_coco.py')
    cfg.model.backbone.update(init_cfg=None, widen_factor=0.125)
    cfg.model.neck.update(in_channels=[32, 64, 128], out_channels=16)
    head = {'in_channels': 16, 'feat_channels': 16, 'num_classes': len(classes)}
    cfg.model.bbox_head.update(head)
    cfg.model.test_cfg.update(max_per_img=40)
    shrink_images(cfg, 160)
    cfg.test_dataloader.dataset.metainfo = {'classes': classes}
    path = folder / 'rtmdet.py'
    cfg.dump(path)
    return str(path)


def write_grounding_dino(folder: Path, language_model: str) -> str:
    """Write the config of a narrow GroundingDINO."""
    cfg = mmdet_config(
        'grounding_dino/grounding_dino_swin-t_pretrain_obj365_goldg_cap4m.py'
    )
    # Mmdet's encoder has 256 channels written in.
    model = cfg.model
    model.update(num_queries=20)
    model.language_model.update(name=language_model, max_tokens=64)
    model.backbone.update(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
    model.neck.update(in_channels=[16, 32, 64])
    narrow = {'feedforward_channels': 16}
    model.encoder.update(num_layers=1)
    model.encoder.layer_cfg.ffn_cfg.update(narrow)
    model.encoder.text_layer_cfg.ffn_cfg.update(narrow)
    model.encoder.fusion_layer_cfg.update(embed_dim=32)
    model.test_cfg.update(max_per_img=15)
    model.decoder.update(num_layers=1)
    model.decoder.layer_cfg.ffn_cfg.update(narrow)
    model.bbox_head.contrastive_cfg.update(max_text_len=64)
    shrink_images(cfg, 96)
    path = folder / 'grounding_dino.py'
    cfg.dump(path)
    return str(path)


def write_glip(folder: Path, language_model: str) -> str:
    """Write the config of a narrow GLIP."""
    cfg = mmdet_config('glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py')
    model, dims = cfg.model, 32
    model.language_model.update(name=language_model, max_tokens=64)
    model.backbone.update(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
    model.neck.update(in_channels=[16, 32, 64], out_channels=dims)
    head = {'in_channels': dims, 'feat_channels': dims, 'num_dyhead_blocks': 1}
    model.bbox_head.update(lang_model_name=language_model, **head)
    model.test_cfg.update(score_thr=0.0, max_per_img=20)
    shrink_images(cfg, 96)
    path = folder / 'glip.py'
    cfg.dump(path)
    return str(path)


def write_detector_weights(
    config: str, path: Path, *, classes: tuple[str, ...] = CLASSES, **options: Any
) -> str:
    """Write random weights of a detector as MMEngine's runner does."""
    torch.manual_seed(0)
    model: Any = Detector(config, None, device='cpu', **options)._model
    if hasattr(model, 'level_embed'):
        torch.nn.init.normal_(model.level_embed)  # empty memory in mmdet
    for name, parameter in model.named_parameters():
        if 'rtm_cls' in name:  # the image decides on the class, not the biases
            weight = parameter.data
            weight.copy_(torch.randn_like(weight) * (100 if weight.ndim > 1 else 0))
    meta = {'dataset_meta': {'classes': classes}}
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return str(path)
