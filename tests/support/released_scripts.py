"""Scripts as people write them for SAM 2's release, and what ours gives for the same.

Each is run as it stands, with ``CONFIG``, ``CHECKPOINT``, ``IMAGE`` and ``VIDEO``
as its names for files, and leaves its answer in ``result``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from projects.sam2.apis import (
    SAM2AutomaticMaskGenerator,
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2,
    build_sam2_video_predictor,
)
from projects.sam2.checkpoints import map_to_released
from projects.sam2.models import SAM2

GRID: dict[str, Any] = {
    'points_per_side': 3,
    'pred_iou_thresh': 0.0,
    'stability_score_thresh': 0.0,
}


@dataclass(frozen=True)
class Files:
    """What scripts read."""

    config: str
    checkpoint: str
    image: Path
    video: Path

    def model(self) -> SAM2:
        """The model of the scripts."""
        return build_sam2(self.config, self.checkpoint, 'cpu')

    def predictor(self) -> SAM2ImagePredictor:
        """Ours, with the image."""
        predictor = SAM2ImagePredictor(self.model())
        predictor.set_image(self.pixels())
        return predictor

    def video_predictor(self) -> SAM2VideoPredictor:
        """Ours."""
        return build_sam2_video_predictor(self.config, self.checkpoint, 'cpu')

    def pixels(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The image."""
        with Image.open(self.image) as image:
            return np.array(image.convert('RGB'))


@dataclass(frozen=True)
class Script:
    """A script, and what ours gives for the same."""

    text: str
    expected: Callable[[Files], Any]


SCRIPTS: dict[str, Script] = {}


def script(name: str, text: str) -> Callable[[Callable[[Files], Any]], None]:
    """Note a script beside the function that gives what is expected of it."""

    def note(expected: Callable[[Files], Any]) -> None:
        SCRIPTS[name] = Script(text, expected)

    return note


@script(
    'click and refine',
    """
import cv2
import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

image = np.array(Image.open(IMAGE).convert("RGB"))
sam2_model = build_sam2(CONFIG, CHECKPOINT, device="cpu")
predictor = SAM2ImagePredictor(sam2_model)
predictor.set_image(image)
input_point = np.array([[30, 20]])
input_label = np.array([1])
masks, scores, logits = predictor.predict(
    point_coords=input_point, point_labels=input_label, multimask_output=True,
)
order = np.argsort(scores)[::-1]
masks, scores, logits = masks[order], scores[order], logits[order]
mask_input = logits[np.argmax(scores), :, :]
masks, scores, _ = predictor.predict(
    point_coords=np.array([[30, 20], [60, 30]]), point_labels=np.array([1, 0]),
    mask_input=mask_input[None, :, :], multimask_output=False,
)
h, w = masks.shape[-2:]
background = 1 - masks[0].reshape(h, w, 1) * np.array([0.1, 0.5, 1.0]).reshape(1, 1, -1)
result = cv2.resize(masks[0], (40, 24))
""",
)
def _refined(files: Files) -> Any:
    predictor = files.predictor()
    _, ious, low_res = predictor.predict([[30, 20]], [1])
    best = int(ious.argmax())
    masks, _, _ = predictor.predict(
        [[30, 20], [60, 30]],
        [1, 0],
        mask_input=low_res[best : best + 1],
        multimask_output=False,
    )
    return cv2.resize(masks[0].astype(np.float32), (40, 24))


@script(
    'boxes of a detector',
    """
import numpy as np, torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

model = build_sam2(CONFIG, CHECKPOINT, device="cpu", mode="eval")
predictor = SAM2ImagePredictor(model, mask_threshold=0.0)
xyxy = torch.tensor([[-0.7, 4.2, 33.1, 30.9], [20.0, 5.0, 80.6, 48.2]])
with torch.inference_mode(), torch.autocast("cpu", enabled=False):
    predictor.set_image(Image.open(IMAGE).convert("RGB"))
    masks, scores, _ = predictor.predict(
        point_coords=None, point_labels=None, box=xyxy, multimask_output=False)
if masks.ndim == 4:
    masks = masks.squeeze(1)
result = masks
""",
)
def _boxes(files: Files) -> Any:
    boxes = [[-0.7, 4.2, 33.1, 30.9], [20.0, 5.0, 80.6, 48.2]]
    return files.predictor().predict(box=boxes, multimask_output=False)[0][:, 0]


@script(
    'batch of images',
    """
import numpy as np
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
img = np.array(Image.open(IMAGE).convert("RGB"))
predictor = SAM2ImagePredictor(build_sam2(CONFIG, CHECKPOINT, device="cpu"))
predictor.set_image_batch([img, img[:40, :60]])
masks, scores, _ = predictor.predict_batch(
    None, None, box_batch=[np.array([4, 4, 30, 30]), np.array([1, 2, 50, 30])],
    multimask_output=False)
assert predictor._is_batch and len(predictor._orig_hw) == 2
assert predictor._features["image_embed"].shape[0] == 2
result = [m.shape for m in masks] + [masks[1].astype(float)]
""",
)
def _batch(files: Files) -> Any:
    predictor = SAM2ImagePredictor(files.model())
    predictor.set_image(files.pixels()[:40, :60])
    mask, _, _ = predictor.predict(box=[1, 2, 50, 30], multimask_output=False)
    return [(1, 48, 80), (1, 40, 60), mask.astype(float)]


@script(
    'everything in an image',
    """
import cv2
import numpy as np
from sam2.build_sam import build_sam2
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
image = cv2.cvtColor(cv2.imread(str(IMAGE)), cv2.COLOR_BGR2RGB)
sam2 = build_sam2(CONFIG, CHECKPOINT, device="cpu", apply_postprocessing=False)
mask_generator = SAM2AutomaticMaskGenerator(
    model=sam2, points_per_side=3, points_per_batch=128, pred_iou_thresh=0.0,
    stability_score_thresh=0.92, crop_n_layers=0, use_m2m=True)
mask_generator.stability_score_thresh = 0.0
masks = mask_generator.generate(image)
sorted_anns = sorted(masks, key=(lambda x: x["area"]), reverse=True)
result = [(ann["area"], ann["bbox"], ann["point_coords"]) for ann in sorted_anns]
""",
)
def _everything(files: Files) -> Any:
    model = build_sam2(
        files.config, files.checkpoint, 'cpu', apply_postprocessing=False
    )
    masks = SAM2AutomaticMaskGenerator(
        model, points_per_batch=128, use_m2m=True, **GRID
    ).generate(files.pixels())
    masks.sort(key=lambda mask: -mask['area'])
    return [(mask['area'], mask['bbox'], mask['point_coords']) for mask in masks]


@script(
    'generator over a video predictor',
    """
import numpy as np
from PIL import Image
from sam2.build_sam import build_sam2_video_predictor
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.sam2_image_predictor import SAM2ImagePredictor
video_predictor = build_sam2_video_predictor(CONFIG, CHECKPOINT, device="cpu")
assert video_predictor.image_size == 64
print(sum(p.numel() for p in video_predictor.parameters()))
img = np.array(Image.open(IMAGE).convert("RGB"))
gen = SAM2AutomaticMaskGenerator(
    video_predictor, points_per_side=3, pred_iou_thresh=0.0, stability_score_thresh=0.0)
image_predictor = SAM2ImagePredictor(video_predictor)
image_predictor.set_image(img)
emb = image_predictor.get_image_embedding().cpu().numpy()
result = [m["segmentation"] for m in gen.generate(img)] + [emb]
""",
)
def _over_video(files: Files) -> Any:
    masks = SAM2AutomaticMaskGenerator(files.model(), **GRID).generate(files.pixels())
    embedding = files.predictor().get_image_embedding().numpy()
    return [mask['segmentation'] for mask in masks] + [embedding]


def _clicked(
    files: Files, predictor: SAM2VideoPredictor | None = None
) -> tuple[SAM2VideoPredictor, Any]:
    predictor = predictor or files.video_predictor()
    state = predictor.init_state(files.video)
    predictor.add_new_points_or_box(state, 0, 1, points=[[20, 20]], labels=[1])
    predictor.add_new_points_or_box(state, 0, 2, box=[30, 10, 70, 40])
    return predictor, state


def _segments(predictor: SAM2VideoPredictor, state: Any) -> Any:
    return {
        result.frame_index: {
            object_id: (result.mask_logits[row] > 0).numpy()
            for row, object_id in enumerate(result.object_ids)
        }
        for result in predictor.propagate_in_video(state)
    }


@script(
    'video segments',
    """
import os
import numpy as np
import torch
from sam2.build_sam import build_sam2_video_predictor
predictor = build_sam2_video_predictor(CONFIG, CHECKPOINT, device=torch.device("cpu"))
frame_names = sorted(os.listdir(VIDEO))
inference_state = predictor.init_state(video_path=str(VIDEO))
predictor.reset_state(inference_state)
_, out_obj_ids, out_mask_logits = predictor.add_new_points_or_box(
    inference_state=inference_state, frame_idx=0, obj_id=1,
    points=np.array([[20, 20]], dtype=np.float32), labels=np.array([1], np.int32))
predictor.add_new_points_or_box(
    inference_state=inference_state, frame_idx=0, obj_id=2,
    box=np.array([30, 10, 70, 40], dtype=np.float32))
video_segments = {}
for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(
    inference_state):
    video_segments[out_frame_idx] = {
        out_obj_id: (out_mask_logits[i] > 0.0).cpu().numpy()
        for i, out_obj_id in enumerate(out_obj_ids)
    }
assert len(video_segments) == len(frame_names) == inference_state["num_frames"]
result = video_segments
""",
)
def _video(files: Files) -> Any:
    return _segments(*_clicked(files))


@script(
    'removal and pairs',
    """
import numpy as np
from sam2.build_sam import build_sam2_video_predictor
predictor = build_sam2_video_predictor(CONFIG, CHECKPOINT, device="cpu")
state = predictor.init_state(str(VIDEO), offload_state_to_cpu=True)
predictor.add_new_points_or_box(state, 0, 1, points=[[20, 20]], labels=[1])
predictor.add_new_points_or_box(state, 0, 2, box=[30, 10, 70, 40])
obj_ids, updated_frames = predictor.remove_object(state, 1, need_output=True)
shown = {}
for frame_idx, video_res_masks in updated_frames:
    shown[frame_idx] = video_res_masks.cpu().numpy()
result = [obj_ids, shown]
""",
)
def _removed(files: Files) -> Any:
    predictor = files.video_predictor()
    state = predictor.init_state(files.video)
    shown = predictor.add_new_points_or_box(state, 0, 2, box=[30, 10, 70, 40])
    return [[2], {0: shown.mask_logits.numpy()}]


LABELS = np.zeros((48, 80), np.uint8)
LABELS[4:20, 6:30], LABELS[25:44, 40:70] = 3, 9


@script(
    'label map of the first frame',
    """
import numpy as np, torch
from sam2.build_sam import build_sam2_video_predictor
labels = torch.zeros(48, 80, dtype=torch.uint8)
labels[4:20, 6:30] = 3
labels[25:44, 40:70] = 9
predictor = build_sam2_video_predictor(CONFIG, CHECKPOINT, device="cpu")
predictor.fill_hole_area = 0
predictor.non_overlap_masks = True
state = predictor.init_state(str(VIDEO), async_loading_frames=True)
for obj_id in torch.unique(labels):
    if obj_id == 0:
        continue
    predictor.add_new_mask(state, frame_idx=0, obj_id=obj_id, mask=labels == obj_id)
result = {}
for frame_idx, ids, logits in predictor.propagate_in_video(state, start_frame_idx=0):
    out = np.zeros((state["video_height"], state["video_width"]), np.uint8)
    for i, obj_id in enumerate(ids):
        out[(logits[i, 0] > 0).cpu().numpy()] = obj_id
    result[frame_idx] = out
""",
)
def _label_map(files: Files) -> Any:
    predictor = SAM2VideoPredictor(files.model(), non_overlap_masks=True)
    state = predictor.init_state(files.video)
    for number in (3, 9):
        predictor.add_new_mask(state, 0, number, number == LABELS)
    maps = {}
    for result in predictor.propagate_in_video(state):
        out = maps[result.frame_index] = np.zeros((48, 80), np.uint8)
        for number, logits in zip(result.object_ids, result.mask_logits, strict=True):
            out[(logits[0] > 0).numpy()] = number
    return maps


@script(
    'state as a dict',
    """
from sam2.build_sam import build_sam2_video_predictor
from sam2.utils.misc import load_video_frames
predictor = build_sam2_video_predictor(CONFIG, CHECKPOINT, device="cpu")
inference_state = predictor.init_state(video_path=str(VIDEO))
predictor.add_new_points_or_box(inference_state, 0, 1, points=[[20, 20]], labels=[1])
predictor.add_new_points_or_box(inference_state, 0, 2, box=[30, 10, 70, 40])
for _ in predictor.propagate_in_video(inference_state):
    pass
assert inference_state.get("constants", None) is None and "images" in inference_state
images, video_height, video_width = load_video_frames(
    str(VIDEO), image_size=predictor.image_size, offload_video_to_cpu=True)
assert (inference_state["images"][1] - images[1]).abs().max() < 1e-5
out = {}
for obj_id, obj_idx in inference_state["obj_id_to_idx"].items():
    obj_output = inference_state["output_dict_per_obj"][obj_idx]
    for storage_key in ("cond_frame_outputs", "non_cond_frame_outputs"):
        for frame_idx, frame_out in obj_output[storage_key].items():
            out[obj_id, frame_idx] = frame_out["pred_masks"].cpu().numpy()
            assert frame_out["obj_ptr"].shape[-1] == 256 // 2
result = [out, video_height, video_width]
""",
)
def _state(files: Files) -> Any:
    predictor, state = _clicked(files)
    list(predictor.propagate_in_video(state))
    answers = {
        (object_id, frame): obj.output(frame).mask_logits.numpy()
        for object_id, obj in state.objects.items()
        for frame in range(4)
    }
    return [answers, 48, 80]


@script(
    'one step of fine-tuning',
    """
import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
image = np.array(Image.open(IMAGE).convert("RGB"))
predictor = SAM2ImagePredictor(build_sam2(CONFIG, CHECKPOINT, device="cpu"))
predictor.model.sam_mask_decoder.train(True)
predictor.model.sam_prompt_encoder.train(True)
predictor.model.image_encoder.requires_grad_(False)
optimizer = torch.optim.AdamW(params=predictor.model.parameters(), lr=1e-3)
gt_mask = torch.zeros(1, 48, 80)
gt_mask[:, 10:30, 10:50] = 1
losses = []
for itr in range(2):
    predictor.set_image(image)
    mask_input, unnorm_coords, labels, unnorm_box = predictor._prep_prompts(
        np.array([[[30, 20]]]), np.array([[1]]), box=None, mask_logits=None,
        normalize_coords=True)
    sparse, dense = predictor.model.sam_prompt_encoder(
        points=(unnorm_coords, labels), boxes=None, masks=None)
    high_res = [level[-1].unsqueeze(0) for level in
                predictor._features["high_res_feats"]]
    low_res_masks, prd_scores, _, _ = predictor.model.sam_mask_decoder(
        image_embeddings=predictor._features["image_embed"][-1].unsqueeze(0),
        image_pe=predictor.model.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense,
        multimask_output=True, repeat_image=unnorm_coords.shape[0] > 1,
        high_res_features=high_res)
    prd_masks = predictor._transforms.postprocess_masks(
        low_res_masks, predictor._orig_hw[-1])
    prd_mask = torch.sigmoid(prd_masks[:, 0])
    loss = torch.nn.functional.binary_cross_entropy(prd_mask, gt_mask)
    predictor.model.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert np.isfinite(losses).all() and losses[1] != losses[0]
result = losses[0]
""",
)
def _fine_tuned(files: Files) -> Any:
    logits = files.predictor().predict([[30, 20]], [1], return_logits=True)[0][0]
    truth = torch.zeros(48, 80)
    truth[10:30, 10:50] = 1
    loss = torch.nn.functional.binary_cross_entropy
    return loss(torch.from_numpy(logits).sigmoid(), truth).item()


@script(
    'kept embeddings',
    """
import io
import numpy as np, torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
model = build_sam2(CONFIG, CHECKPOINT, device="cpu")
predictor = SAM2ImagePredictor(model)
predictor.set_image(np.array(Image.open(IMAGE).convert("RGB")))
buffer = io.BytesIO()
torch.save({"features": predictor._features, "hw": predictor._orig_hw}, buffer)
buffer.seek(0)
cache = torch.load(buffer, weights_only=False)
other = SAM2ImagePredictor(model)
other.reset_predictor()
other._features, other._orig_hw = cache["features"], cache["hw"]
other._is_image_set = True
mask_input, coords, labels, box = other._prep_prompts(
    None, None, np.array([5, 5, 60, 40]), None, True, img_idx=-1)
masks, ious, low_res = other._predict(
    coords, labels, box, mask_input, multimask_output=False, return_logits=True)
result = [masks[0].numpy(), ious[0].numpy(), low_res[0].numpy()]
""",
)
def _kept(files: Files) -> Any:
    return list(
        files.predictor().predict(
            box=[5, 5, 60, 40], multimask_output=False, return_logits=True
        )
    )


@script(
    'run lengths and boxes',
    """
import numpy as np
import torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
from sam2.utils.amg import (
    area_from_rle, batched_mask_to_box, box_xyxy_to_xywh, calculate_stability_score,
    coco_encode_rle, mask_to_rle_pytorch, remove_small_regions, rle_to_mask)
from sam2.utils.misc import mask_to_box
predictor = SAM2ImagePredictor(build_sam2(CONFIG, CHECKPOINT, device="cpu"))
predictor.set_image(Image.open(IMAGE).convert("RGB"))
logits, _, _ = predictor.predict([[30, 20]], [1], return_logits=True)
logits = torch.from_numpy(logits)
masks = logits > predictor.mask_threshold
rles = mask_to_rle_pytorch(masks)
assert all((rle_to_mask(r) == m.numpy()).all() for r, m in zip(rles, masks))
boxes = batched_mask_to_box(masks)
assert (mask_to_box(masks[:, None])[:, 0] == boxes).all()
clean, changed = remove_small_regions(masks[0].numpy(), 50, mode="holes")
result = [
    [area_from_rle(r) for r in rles], [coco_encode_rle(r)["size"] for r in rles],
    box_xyxy_to_xywh(boxes).tolist(),
    calculate_stability_score(logits, 0.0, 1.0).tolist(),
]
""",
)
def _run_lengths(files: Files) -> Any:
    logits = files.predictor().predict([[30, 20]], [1], return_logits=True)[0]
    boxes = []
    for mask in logits > 0:
        rows, columns = np.nonzero(mask)
        x, y = int(columns.min()), int(rows.min())
        boxes.append([x, y, int(columns.max()) - x, int(rows.max()) - y])
    return [
        [int(mask.sum()) for mask in logits > 0],
        [[48, 80]] * 3,
        boxes,
        [float(np.float32((m > 1).sum()) / (m > -1).sum()) for m in logits],
    ]


@script(
    'weights of a training run',
    """
import torch
from sam2.build_sam import build_sam2, build_sam2_video_predictor
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam.mask_decoder import MaskDecoder
model = build_sam2(CONFIG, None, device="cpu")
assert isinstance(model, SAM2Base) and isinstance(model.sam_mask_decoder, MaskDecoder)
sd = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)["model"]
missing_keys, unexpected_keys = model.load_state_dict(sd)
assert not missing_keys and not unexpected_keys
for name, param in model.named_parameters():
    if "image_encoder" in name:
        param.requires_grad = False
trainable = [p for p in model.parameters() if p.requires_grad]
assert len(trainable) == sum(1 for k, _ in model.named_parameters()
                             if not k.startswith("image_encoder."))
predictor = build_sam2_video_predictor(CONFIG, None, device="cpu").eval().float()
predictor.load_state_dict(sd)
result = {k: v.numpy() for k, v in predictor.state_dict().items()}
""",
)
def _weights(files: Files) -> Any:
    loaded = torch.load(files.checkpoint, map_location='cpu', weights_only=True)
    order = map_to_released(files.model().state_dict())
    return {key: loaded['model'][key].numpy() for key in order}


@script(
    'image features of one pass',
    """
import numpy as np, torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.utils.transforms import SAM2Transforms
model = build_sam2(CONFIG, CHECKPOINT, device="cpu")
transforms = SAM2Transforms(resolution=model.image_size, mask_threshold=0.0)
img = transforms(Image.open(IMAGE).convert("RGB"))[None, ...].to(model.device)
with torch.no_grad():
    backbone_out = model.forward_image(img)
    _, vision_feats, _, feat_sizes = model._prepare_backbone_features(backbone_out)
    vision_feats[-1] = vision_feats[-1] + model.no_mem_embed
feats = [
    feat.permute(1, 2, 0).view(1, -1, *feat_size)
    for feat, feat_size in zip(vision_feats[::-1], feat_sizes[::-1])
][::-1]
result = [feat.numpy() for feat in feats]
""",
)
def _features(files: Files) -> Any:
    image = files.predictor().image(0)
    assert image.high_res is not None
    high_res_8, high_res_4 = image.high_res
    return [high_res_4.numpy(), high_res_8.numpy(), image.embedding.numpy()]


@script(
    'half precision',
    """
import numpy as np, torch
from PIL import Image
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor
predictor = SAM2ImagePredictor(build_sam2(CONFIG, CHECKPOINT, device="cpu").half())
predictor.set_image(Image.open(IMAGE).convert("RGB"))
masks, scores, logits = predictor.predict(
    point_coords=[[30, 20]], point_labels=[1], multimask_output=False)
result = [masks.shape, logits.dtype.name]
""",
)
def _half(_: Files) -> Any:
    return [(1, 48, 80), 'float32']


@script(
    'options of building and of the generator in one call',
    """
from PIL import Image
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
gen = SAM2AutomaticMaskGenerator.from_pretrained(
    "facebook/sam2.1-hiera-tiny", device="cpu", apply_postprocessing=False,
    image_size=(64, 64), points_per_side=2, pred_iou_thresh=0.0,
    stability_score_thresh=0.0)
assert gen.predictor.model.image_size == 64
result = [gen.points_per_side, gen.model.mask_decoder.stability_selection]
""",
)
def _from_pretrained(_: Files) -> Any:
    return [2, False]
