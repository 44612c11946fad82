"""Whole videos of validation, dealt so that no process waits long."""

from collections.abc import Iterator, Sized

from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from projects.sam2.structures.epoch_index import EpochIndex

__all__ = ['ClipVideoSampler']


@DATA_SAMPLERS.register_module()
class ClipVideoSampler(Sampler[int]):
    """Deals videos, longest first, each to the process with the least to do.

    Every video is dealt once: the processes may get different numbers of them. The
    indices keep their position among all videos where a ``ConcatDataset`` shifts them.

    Args:
        dataset: The videos. Its ``video_lengths`` (frames of each video) is read
            where it has one; otherwise all count as equally long.
        seed: Not used, the order is fixed; the Runner gives one to every sampler.

    Raises:
        ValueError: If ``video_lengths`` does not have one entry for each video.
    """

    def __init__(self, *, dataset: Sized, seed: int | None = None) -> None:
        del seed
        lengths = list(getattr(dataset, 'video_lengths', [1] * len(dataset)))
        if len(lengths) != len(dataset):
            msg = (
                f'video_lengths of {type(dataset).__name__} has {len(lengths)} '
                f'entries for {len(dataset)} videos; it needs one for each'
            )
            raise ValueError(msg)
        rank, world_size = get_dist_info()
        self.indices = deal_videos(lengths, world_size)[rank]

    def __len__(self) -> int:
        """Videos of this process."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Give the positions of this process's videos in the dataset."""
        return (EpochIndex(index, epoch=0) for index in self.indices)


def deal_videos(lengths: list[int], num_hands: int) -> list[list[int]]:
    """Deal videos, longest first, each to the hand with the fewest frames so far.

    Args:
        lengths: Frames of each video.
        num_hands: Processes.

    Returns:
        Positions of each hand's videos; together they are all, once.
    """
    hands: list[list[int]] = [[] for _ in range(num_hands)]
    frames = [0] * num_hands
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        hand = min(range(num_hands), key=frames.__getitem__)
        hands[hand].append(index)
        frames[hand] += lengths[index]
    return hands
