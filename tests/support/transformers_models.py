"""The SAM 2 of Hugging Face's transformers, an implementation that is not ours.

It comes to its weights through our bridge: we write a folder, transformers reads it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from bridge_models import small_config
from projects.sam2.checkpoints import CheckpointKind, write_checkpoint
from projects.sam2.models import SAM2
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import FrameTask, track_frame
from projects.sam2.structures import (
    FrameOutput,
    FramePrompt,
    PointPrompt,
    TrackingMode,
)


def transformers() -> Any:
    """The module; the test is skipped where it is not installed."""
    reason = 'transformers is not installed; see requirements/tests.txt'
    return pytest.importorskip('transformers', reason=reason)


def read_by_transformers(
    kind: str, model: SAM2, version: str, folder: Path
) -> tuple[Any, dict[str, list[str]]]:
    """Write a model of ours and let transformers read it.

    Args:
        model: Ours, of :func:`small_config`.
        folder: To write to; used again where it exists.
    """
    if not folder.exists():
        write_checkpoint(
            folder,
            model.state_dict(),
            CheckpointKind.HUGGINGFACE,
            small_config(version),
        )
    built, info = getattr(transformers(), kind).from_pretrained(
        folder, output_loading_info=True
    )
    return built.eval(), info


class _TorchWithoutBFloat16:
    """Torch as transformers sees it, where memories stay in float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> object:
        """All else."""
        return getattr(torch, name)


@contextmanager
def memory_in(dtype: torch.dtype) -> Iterator[None]:
    """Let transformers keep memories in bfloat16, as it does, or in float32."""
    if dtype is torch.bfloat16:
        yield
        return
    place = 'transformers.models.sam2_video.modeling_sam2_video.torch'
    with mock.patch(place, _TorchWithoutBFloat16()):
        yield


@dataclass(frozen=True)
class Answer:
    """What a model says of the objects of one frame.

    Attributes:
        masks: Low-resolution logits, (O, H4, W4).
        scores: Of the objects, (O,).
        pointers: (O, C).
    """

    masks: Tensor
    scores: Tensor
    pointers: Tensor


@dataclass(frozen=True)
class VideoCase:
    """A video with one prompted frame.

    Attributes:
        frames: Normalised, (T, 3, H, W).
        prompt: Of all objects, on the first frame of the pass.
        reverse: The pass runs from the last frame to the first.
    """

    frames: Tensor
    prompt: FramePrompt
    reverse: bool = False

    @property
    def order(self) -> list[int]:
        """Frames in the order of the pass."""
        frames = list(range(len(self.frames)))
        return frames[::-1] if self.reverse else frames


def track_with_transformers(model: Any, case: VideoCase) -> list[Answer]:
    """Propagate as transformers does, one object after another."""
    session = transformers().Sam2VideoInferenceSession(
        video=case.frames,
        video_height=case.frames.shape[-2],
        video_width=case.frames.shape[-1],
        dtype=torch.float32,
    )
    points, mask = case.prompt.points, case.prompt.mask
    count = len(points.labels if points is not None else mask)  # type: ignore[arg-type]
    first = case.order[0]
    for number in range(count):
        index = session.obj_id_to_idx(number)
        if points is not None:
            inputs = {
                'point_coords': points.coords[None, number : number + 1],
                'point_labels': points.labels[None, number : number + 1],
            }
            session.add_point_inputs(index, first, inputs)
        if mask is not None:
            session.add_mask_inputs(index, first, mask[number : number + 1])
    session.obj_with_new_inputs.extend(range(count))
    model(session, frame_idx=first)
    passes = model.propagate_in_video_iterator(session, first, reverse=case.reverse)
    assert [output.frame_idx for output in passes] == case.order
    return [_stored(session, frame, count) for frame in case.order]


def _stored(session: Any, frame: int, count: int) -> Answer:
    """What a session of transformers remembers of a frame."""
    parts = [session.output_dict_per_obj[number] for number in range(count)]
    found = [
        part['cond_frame_outputs'].get(frame) or part['non_cond_frame_outputs'][frame]
        for part in parts
    ]
    return Answer(
        masks=torch.cat([output['pred_masks'][0] for output in found]),
        scores=torch.cat([output['object_score_logits'].flatten() for output in found]),
        pointers=torch.cat(
            [output['object_pointer'].flatten(0, -2) for output in found]
        ),
    )


@torch.no_grad()
def track_with_ours(
    model: SAM2, case: VideoCase, memory_dtype: torch.dtype
) -> list[Answer]:
    """Propagate as our predictors do, all objects in one batch."""
    features = model.encode(case.frames)
    points, mask = case.prompt.points, case.prompt.mask
    count = len(points.labels if points is not None else mask)  # type: ignore[arg-type]
    store = MemoryStore()
    answers = []
    for step, frame in enumerate(case.order):
        query = MemoryQuery(
            frame_index=frame,
            num_video_frames=len(case.frames),
            mode=TrackingMode.EVALUATION,
            reverse=case.reverse,
        )
        task = FrameTask(
            query=query,
            prompt=None if step else case.prompt,
            uses_memory=step > 0,
            reread_prompt=True,
        )
        own = features.select(torch.full((count,), frame))
        output = track_frame(model.heads, own, store, task)
        spatial = output.memory.spatial.to(memory_dtype)
        memory = replace(output.memory, spatial=spatial)
        store.add(frame, memory, conditioning=step == 0)
        answers.append(_answer(output))
    return answers


def _answer(output: FrameOutput) -> Answer:
    """Our answer on a frame."""
    step = output.final
    return Answer(
        masks=step.mask_logits[:, 0],
        scores=step.object_score_logits[:, 0],
        pointers=step.object_pointer,
    )


def clicks(*objects: tuple[tuple[float, float, int], ...]) -> PointPrompt:
    """Points of objects, each as x, y and label."""
    given = torch.tensor(objects)
    return PointPrompt(coords=given[..., :2], labels=given[..., 2].int())
