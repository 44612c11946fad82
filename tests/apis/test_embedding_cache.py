"""Embeddings of the latest frames are kept, others are made again."""

import pytest
import torch

from projects.sam2.apis.video_state import EmbeddingCache
from projects.sam2.structures import ImageFeatures


def _cache(capacity: int) -> tuple[EmbeddingCache, list[int]]:
    encoded: list[int] = []

    def encode(frame_index: int) -> ImageFeatures:
        encoded.append(frame_index)
        one = torch.full((1, 1, 1, 1), float(frame_index))
        return ImageFeatures(
            embedding=one, position=one, high_res_8=one, high_res_4=one
        )

    return EmbeddingCache(encode, capacity=capacity), encoded


def test_frame_is_encoded_once_while_it_is_kept() -> None:
    cache, encoded = _cache(2)
    assert [cache.get(i).embedding.item() for i in (3, 3, 5, 3)] == [3, 3, 5, 3]
    assert encoded == [3, 5]


def test_frame_not_used_for_longest_makes_room() -> None:
    cache, encoded = _cache(2)
    for frame in (1, 2, 1, 3):
        cache.get(frame)
    assert [frame in cache for frame in (1, 2, 3)] == [True, False, True]
    cache.get(2)
    assert encoded == [1, 2, 3, 2]


def test_cache_keeps_at_least_one() -> None:
    with pytest.raises(ValueError, match='num_cached_embeddings is 0'):
        _cache(0)
