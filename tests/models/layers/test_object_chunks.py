"""Objects are taken apart on a CPU without a graph, and nowhere else."""

import pytest
import torch

from projects.sam2.models.layers import chunks, objects_at_once

MEGABYTE = 2**20


@pytest.mark.parametrize(
    ('largest', 'dtype', 'expected'),
    [
        (MEGABYTE, torch.float32, 7),  # eight of 4 MB are 32 MB: too large
        (MEGABYTE, torch.bfloat16, 15),
        (8 * MEGABYTE, torch.float32, 1),
        (99 * MEGABYTE, torch.float32, 1),
    ],
)
def test_largest_tensor_stays_below_32_megabytes(
    largest: int, dtype: torch.dtype, expected: int
) -> None:
    with torch.no_grad():
        assert objects_at_once(torch.zeros(20, 1, dtype=dtype), largest) == expected


def test_batch_stays_whole_with_a_graph_and_on_other_devices() -> None:
    assert objects_at_once(torch.zeros(20, 1), 99 * MEGABYTE) == 20
    with torch.no_grad():
        elsewhere = torch.zeros(20, 1, device='meta')
        assert objects_at_once(elsewhere, 99 * MEGABYTE) == 20


def test_a_batch_that_is_small_enough_is_its_only_chunk() -> None:
    batch = torch.arange(5)
    assert chunks(batch, 5)[0] is batch
    assert [chunk.tolist() for chunk in chunks(batch, 2)] == [[0, 1], [2, 3], [4]]
