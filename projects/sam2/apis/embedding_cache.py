"""Keeps the image embeddings of the frames that were looked at last."""

from collections import OrderedDict
from collections.abc import Callable

from projects.sam2.structures import ImageFeatures

__all__ = ['EmbeddingCache']


class EmbeddingCache:
    """The embeddings of a few frames; the one not used for longest makes room.

    Args:
        encode: Gives the features of a frame by its position in the video.
        capacity: Frames that are kept.

    Attributes:
        capacity: May be changed; it holds from the next frame on.

    Raises:
        ValueError: If the capacity is below one.
    """

    def __init__(
        self, encode: Callable[[int], ImageFeatures], *, capacity: int
    ) -> None:
        if capacity < 1:
            msg = f'num_cached_embeddings is {capacity}; keep at least one'
            raise ValueError(msg)
        self._encode = encode
        self.capacity = capacity
        self._kept: OrderedDict[int, ImageFeatures] = OrderedDict()

    def __contains__(self, frame_index: int) -> bool:
        """Is the embedding of a frame kept?"""
        return frame_index in self._kept

    def get(self, frame_index: int) -> ImageFeatures:
        """Features of a frame, encoded where they are not kept.

        Args:
            frame_index: Position in the video.

        Returns:
            Features of one frame.
        """
        if frame_index not in self._kept:
            self._kept[frame_index] = self._encode(frame_index)
        self._kept.move_to_end(frame_index)
        while len(self._kept) > self.capacity:
            self._kept.popitem(last=False)
        return self._kept[frame_index]

    def branch(
        self, encode: Callable[[int], ImageFeatures] | None = None
    ) -> 'EmbeddingCache':
        """Copy the cache; changes of the copy do not affect the original.

        Args:
            encode: Gives the features of a frame; by default as before.

        Returns:
            The copy.
        """
        other = EmbeddingCache(encode or self._encode, capacity=self.capacity)
        other._kept = self._kept.copy()
        return other
