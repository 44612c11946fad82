"""Objects with memories of their own, tracked in one batch."""

import pytest
import torch

from memory_videos import MemoryVideo
from projects.sam2.models.memory_bank import MemoryQuery, MemoryStore
from projects.sam2.models.tracking.frame import track_objects
from projects.sam2.structures import FrameMemory, ImageFeatures, TrackingMode
from toy_videos import SIDE, relative_difference, toy_model

MODEL = toy_model()
QUERY = MemoryQuery(frame_index=3, num_video_frames=9, mode=TrackingMode.EVALUATION)


def store(seed: int, *conditioning: int) -> MemoryStore:
    """Memories of noise."""
    noise = torch.Generator().manual_seed(seed)
    made = MemoryStore()
    for frame in range(3):
        memory = FrameMemory(
            spatial=torch.randn(1, 16, SIDE // 16, SIDE // 16, generator=noise),
            object_pointer=torch.randn(1, 64, generator=noise),
        )
        made.add(frame, memory, conditioning=frame in conditioning)
    return made


@pytest.fixture(scope='module')
def features() -> ImageFeatures:
    """Of one frame."""
    pixels = MemoryVideo(size=(SIDE, SIDE)).read_frame(3)
    with torch.no_grad():
        return MODEL.encode(MODEL.data_preprocessor.frame(pixels))


@pytest.mark.parametrize('size', [1, 2, 16])
def test_objects_in_batches_equal_objects_alone(
    features: ImageFeatures, size: int
) -> None:
    stores = [store(1, 0), store(2, 0, 1), store(3, 0), store(4, 0)]
    with torch.no_grad():
        batches = list(
            track_objects(MODEL.heads, stores, features, QUERY, max_batch_objects=size)
        )
        (alone,) = track_objects(
            MODEL.heads, stores[2:3], features, QUERY, max_batch_objects=1
        )
    places = sorted(position for batch in batches for position in batch.positions)
    assert places == [0, 1, 2, 3]
    assert max(len(batch.positions) for batch in batches) == min(size, 3)
    (batch,) = [batch for batch in batches if 2 in batch.positions]
    row = batch.positions.index(2)
    pairs = (
        (batch.output.memory.spatial, alone.output.memory.spatial),
        (batch.output.memory.object_pointer, alone.output.memory.object_pointer),
        (batch.output.final.candidate_ious, alone.output.final.candidate_ious),
    )
    for together, apart in pairs:
        assert relative_difference(together[row : row + 1], apart) <= 1e-4
