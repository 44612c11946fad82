"""The base of all sources of clips: listed at once, decoded when sampled."""

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset

from projects.sam2.datasets.bad_clips import BadClipLedger
from projects.sam2.datasets.errors import ClipDataError, ClipDrawError
from projects.sam2.datasets.object_masks import list_objects
from projects.sam2.datasets.transforms.state import ClipState
from projects.sam2.structures import VideoSource
from projects.sam2.structures.epoch_index import EpochIndex

MAX_RETRIES = 11  # of a clip of which random choices left nothing
MAX_DRAWS = 20 * (1 + MAX_RETRIES)  # for one item


class ClipDataset(BaseDataset):
    """Clips for training. A source of videos says which there are and opens them.

    An item depends on the run's seed, the epoch and the position that its index
    carries, never on a rank or worker. Where random choices leave nothing of a clip,
    it is drawn again. A clip that cannot be used is logged and counted, and another
    is drawn from the item's own random numbers.

    Args:
        data_root: Folder of the data; None for clips that are not read from files.
        pipeline: Transforms, from a :class:`ClipState` to a ``ClipSample``.
        max_bad_share: Largest share of clips that may be skipped (see
            :class:`BadClipLedger`); past it the run stops.

    Raises:
        FileNotFoundError: If ``data_root`` or a list of it is missing.
        ValueError: If no clip is left.
    """

    METAINFO = {'classes': ('object',)}  # noqa: RUF012  MMEngine's declaration
    is_generated = False  # whether the clips are made by the program, not read

    def __init__(
        self,
        *,
        data_root: str | None,
        pipeline: Sequence[dict[str, Any]] = (),
        max_bad_share: float = 0.1,
    ) -> None:
        if data_root is not None and not Path(data_root).is_dir():
            msg = (
                f'data_root {data_root} is no folder (working folder {Path.cwd()}); '
                f"give the data's place, e.g. --cfg-options data_root=<folder>"
            )
            raise FileNotFoundError(msg)
        # Shared with the workers, so that set_epoch reaches persistent ones as well.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._num_objects: dict[str, int] = {}
        super().__init__(data_root=data_root or '', pipeline=list(pipeline))
        self.bad_clips = BadClipLedger(num_clips=len(self), max_share=max_bad_share)

    @abstractmethod
    def list_videos(self) -> list[str]:
        """Names of the videos, without opening any.

        Returns:
            The names, in the order of their list.
        """

    @abstractmethod
    def open_video(self, name: str) -> VideoSource:
        """List the files of a video, without decoding any.

        Args:
            name: One of :meth:`list_videos`.

        Returns:
            Its reader.

        Raises:
            ClipDataError: If files are missing.
        """

    def load_data_list(self) -> list[dict[str, Any]]:
        """Index the videos for MMEngine."""
        return [{'video_name': name} for name in self.list_videos()]

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of plain indices, those that do not carry their own.

        Args:
            epoch: The epoch that begins.
        """
        self._epoch[0] = epoch

    def video_name(self, index: int) -> str:
        """Name of a video.

        Args:
            index: Position in the dataset.

        Returns:
            The name, as in its list.
        """
        return str(self.get_data_info(index)['video_name'])

    def get_cat_ids(self, idx: int) -> list[int]:
        """Category of a clip for balancing: its number of objects.

        Args:
            idx: Position in the dataset.

        Returns:
            The number of objects on the first annotated frame; empty for a clip that
            cannot be read.
        """
        name = self.video_name(idx)
        if name not in self._num_objects:
            self._num_objects[name] = self._count_objects(name)
        count = self._num_objects[name]
        return [count] if count else []

    def _count_objects(self, name: str) -> int:
        try:
            source = self.open_video(name)
            seen, _ = list_objects(source, source.annotated_frames()[0])
        except (ClipDataError, IndexError):
            return 0  # it is reported when it is drawn
        return len(seen)

    def run_pipeline(self, state: ClipState) -> Any:  # noqa: ANN401  as the pipeline ends
        """Pass a clip through the transforms.

        Args:
            state: A clip of which nothing was chosen yet.

        Returns:
            What the last transform returns.
        """
        passed: Any = state
        for transform in self.pipeline.transforms:
            passed = transform(passed)
        return passed

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:  # noqa: ANN401  as the pipeline ends
        """Load a clip.

        Args:
            idx: An int, an :class:`EpochIndex` or a pair ``(epoch, index)``.

        Returns:
            What the pipeline makes of it, a ``ClipSample``.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If too many clips are bad.
        """
        index = self._index(idx)
        clip, retries = int(index) % len(self), 0
        for draw in range(MAX_DRAWS):
            name = self.video_name(clip)
            self.bad_clips.attempt(clip)
            try:
                sample = self._draw(index, clip, draw)
            except ClipDataError as error:
                if isinstance(error, ClipDrawError) and retries < MAX_RETRIES:
                    retries += 1
                    continue
                self.bad_clips.reject(clip, name, error)
            else:
                self.bad_clips.accept(clip, name)
                return sample
            retries = 0
            *_, replacing = self._seeds(index, draw)
            clip = int(np.random.default_rng(replacing).integers(len(self)))
        raise ClipDataError(self.bad_clips.summary())

    def load_clip(self, idx: int | tuple[int, int]) -> Any:  # noqa: ANN401  as the pipeline ends
        """Load a clip as training does, but never another in its place.

        Args:
            idx: As of ``dataset[idx]``.

        Returns:
            What the pipeline makes of it, a ``ClipSample``.

        Raises:
            IndexError: If the index is out of range.
            ClipDataError: If training cannot use the clip.
        """
        index = self._index(idx)
        clip = int(index) % len(self)
        for draw in range(MAX_RETRIES):
            with suppress(ClipDrawError):
                return self._draw(index, clip, draw)
        return self._draw(index, clip, MAX_RETRIES)

    def _index(self, idx: int | tuple[int, int]) -> EpochIndex:
        """The index with its epoch, checked."""
        index = EpochIndex.of(idx, int(self._epoch))
        if not -len(self) <= index < len(self):
            msg = f'index {int(index)} is out of range for {len(self)} clips'
            raise IndexError(msg)
        return index

    @staticmethod
    def _seeds(index: EpochIndex, draw: int) -> list[np.random.SeedSequence]:
        """Seeds of a draw: for the transforms, the clicks, and the replacing clip."""
        entropy = (index.seed, index.epoch, index.position % 2**32, draw)
        return np.random.SeedSequence(entropy).spawn(3)

    def _draw(self, index: EpochIndex, clip: int, draw: int) -> Any:  # noqa: ANN401  as the pipeline ends
        """Pass a clip through the pipeline with the random numbers of a draw."""
        drawing, clicking, _ = self._seeds(index, draw)
        return self.run_pipeline(
            ClipState(
                source=self.open_video(self.video_name(clip)),
                sample_index=clip,
                seed=int(clicking.generate_state(1)[0]),
                rng=np.random.default_rng(drawing),
                epoch=index.epoch,
            )
        )
