"""The head that labels every pixel with a class by SAM 2's mask decoder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from torch import Tensor

from projects.sam2.apis import build_sam2
from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.models.prompt_encoder import PromptEmbeddings

pytest.importorskip('mmseg.version')
pytestmark = pytest.mark.filterwarnings('ignore')  # of mmseg's imports

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs/mmseg/sam2_semantic_mini_shapes.py'
WEIGHTS = str(ROOT / 'docs/weights/sam2_mini.pth')
PRETRAINED = {'type': 'Pretrained', 'checkpoint': WEIGHTS}
Segmentor = Any  # a type of mmseg, which is not imported here


def build(*, pretrained: bool = False, **head: Any) -> Segmentor:
    config = Config.fromfile(CONFIG).model  # imports the bridge, too
    for part in ('backbone', 'neck', 'decode_head'):
        config[part].init_cfg = PRETRAINED if pretrained else None
    config.backbone.frozen_stages = 4
    config.decode_head.update(head)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config)
    model.init_weights()
    return model


def batch(size: tuple[int, int], largest: int) -> dict[str, Any]:
    """An image whose left half has the label 0, the right half the largest one."""
    from mmseg.structures import SegDataSample  # noqa: PLC0415  it warns

    labels = torch.zeros(1, *size, dtype=torch.int64)
    labels[:, :, size[1] // 2 :] = largest
    sample = SegDataSample(
        metainfo={'img_shape': size, 'ori_shape': size},
        gt_sem_seg=PixelData(data=labels),
    )
    image = torch.full((3, *size), 40, dtype=torch.uint8)
    image[:, :, size[1] // 2 :] = 200
    return {'inputs': [image], 'data_samples': [sample]}


def losses(model: Segmentor, data: dict[str, Any]) -> Tensor:
    prepared = model.data_preprocessor(data, training=True)
    total: Tensor
    total, _ = model.parse_losses(model(**prepared, mode='loss'))
    return total


def test_class_tokens_are_decoded_as_the_prompts_of_a_sam2() -> None:
    model = build(pretrained=True).eval().double()
    head = model.decode_head
    sam2 = build_sam2(ROOT / 'docs/weights/sam2_mini_cells.py', WEIGHTS, 'cpu').double()
    image = torch.randn(1, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        logits = head(model.extract_feat(image))
        features = sam2.encode(image)
        tokens = head.class_tokens.weight[None]
        cells = (8, 8)
        embedding = sam2.tracker.condition_on_memory(features, None)
        decoder = sam2.mask_decoder
        nothing = sam2.prompt_encoder(
            points=None, mask_logits=None, embedding_size=cells, num_objects=1
        )
        decoded, pixels = decoder.transform(
            embedding,
            sam2.prompt_encoder.dense_position(cells),
            PromptEmbeddings(sparse=tokens, dense=nothing.dense),
        )
        upscaled = decoder.upscale(pixels, (features.high_res_8, features.high_res_4))
        # Before training, the kernel of a class is that of SAM 2's single mask.
        kernels = decoder.hypernetworks[0](decoded[:, -len(tokens[0]) :])
        expected = decoder.apply_kernels(upscaled, kernels)
    assert logits.shape == (1, 5, 32, 32)
    torch.testing.assert_close(logits, expected)


def test_any_size_gets_a_label_for_each_pixel() -> None:
    model = build().eval()
    (result,) = model.test_step(batch((75, 50), 4))
    assert result.pred_sem_seg.data.shape == (1, 75, 50)


def test_an_image_is_learnt_while_the_encoder_stays_as_it_was() -> None:
    model = build(pretrained=True).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    data = batch((64, 64), 4)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-3)
    for _ in range(24):
        optimizer.zero_grad()
        losses(model, data).backward()
        # DDP waits for a gradient of every parameter.
        assert all(parameter.grad is not None for parameter in trained)
        optimizer.step()
    (result,) = model.eval().test_step(data)
    truth = data['data_samples'][0].gt_sem_seg.data
    assert (result.pred_sem_seg.data == truth).float().mean() > 0.9
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_the_mask_decoder_can_be_frozen_or_adapted() -> None:
    freezing = {'type': 'SAM2Freezing', 'parts': ['mask_decoder']}
    adapters = {'type': 'SAM2LowRankAdapters', 'layers': ['mask_decoder.transformer']}
    model = build(pretrained=True, adaptations=[freezing, adapters])
    names = {n for n, p in model.decode_head.named_parameters() if p.requires_grad}
    in_decoder = {name for name in names if name.startswith('mask_decoder.')}
    assert in_decoder
    assert all('.lora_' in name for name in in_decoder)
    assert 'class_tokens.weight' in names


def test_a_mask_decoder_alone_is_no_start(tmp_path: Path) -> None:
    weights = torch.load(PRETRAINED['checkpoint'])['state_dict']
    decoder = {k: v for k, v in weights.items() if k.startswith('mask_decoder.')}
    torch.save({'state_dict': decoder}, tmp_path / 'decoder.pth')
    given = PRETRAINED | {'checkpoint': str(tmp_path / 'decoder.pth')}
    with pytest.raises(CheckpointMismatchError, match='give a checkpoint of a whole'):
        build(init_cfg=given)


def test_labels_beyond_the_classes_are_named() -> None:
    model = build().train()
    with pytest.raises(ValueError, match=r'label 5, but the head has num_classes=5'):
        losses(model, batch((64, 64), 5))
    assert losses(model, batch((64, 64), 255)).isfinite()  # pixels to ignore
    with pytest.raises(ValueError, match='num_classes is 1'):
        build(num_classes=1)
