"""The base of all sources whose clips are files below one folder."""

from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any

from projects.sam2.datasets.clip_dataset import ClipDataset
from projects.sam2.datasets.limits import ReadLimits
from projects.sam2.datasets.listing import FindNames, find_videos, list_names
from projects.sam2.datasets.reading import checked_intensity_range


@dataclass(kw_only=True, eq=False, repr=False)
class ListedDataset(ClipDataset):
    """Clips below a folder: all that are found, or those of a list.

    A source declares its own options as fields beside these; ``dataclass`` makes the
    constructor, whose arguments have to be named.

    Attributes:
        data_root: Folder of the data.
        file_list: Text file with one clip a line, or a ``meta.json``, relative to
            ``data_root``; without it, all clips that are found.
        exclude_list: List of clips to leave out, likewise.
        limits: What a file may ask for, see :class:`ReadLimits`.
        intensity_range: Values ``(low, high)`` of pictures of more than 8 bits that
            become black and white, see :func:`scale_intensities`; without it such a
            picture is refused.
        pipeline: Transforms, see :class:`ClipDataset`.
        max_bad_share: Largest share of bad clips, see :class:`ClipDataset`.
        root: ``data_root`` as a path.
        read_limits: ``limits``, checked.
        read_range: ``intensity_range``, checked.

    Raises:
        FileNotFoundError: If ``data_root``, a folder in it or a list is missing.
        ValueError: If no clip is left, ``exclude_list`` names one that is not there, a
            limit is not positive, or the range is none.
        TypeError: If a list is no path.
    """

    data_root: str
    file_list: str | None = None
    exclude_list: str | None = None
    limits: Mapping[str, int] | None = None
    intensity_range: Sequence[float] | None = None
    pipeline: InitVar[Sequence[dict[str, Any]]] = ()
    max_bad_share: float = 0.1

    def __post_init__(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """List the clips."""
        for key in ('file_list', 'exclude_list'):
            path = getattr(self, key)
            if not isinstance(path, str | Path | None):
                msg = (
                    f'{key} is {path!r}; write the names into a text file, a clip a '
                    f'line, and give its path relative to data_root'
                )
                raise TypeError(msg)
        self.root = Path(self.data_root)
        self.read_limits = ReadLimits.of(self.limits)
        self.read_range = checked_intensity_range(self.intensity_range)
        super().__init__(
            data_root=self.data_root,
            pipeline=pipeline,
            max_bad_share=self.max_bad_share,
        )

    def names_in(
        self,
        folder: str,
        find: FindNames = find_videos,
        beside: Sequence[tuple[str, FindNames]] = (),
    ) -> list[str]:
        """Name the clips of a folder that the lists leave.

        Args:
            folder: Relative to ``data_root``.
            find: Names what the folder holds; by default sub-folders and mp4 files.
            beside: Other folders of the clips, and what names their content. A list may
                name what is there alone, such as an image without annotation.

        Returns:
            The names, those of a list in its order.

        Raises:
            FileNotFoundError: If the folder or a list is missing.
            ValueError: If no clip is left, or ``exclude_list`` names one that is not
                there, or all of ``file_list`` are not there.
        """
        return list_names(
            data_root=self.root,
            folder=self.root / folder,
            file_list=self.file_list,
            exclude_list=self.exclude_list,
            find=find,
            beside=[(self.root / place, find_in) for place, find_in in beside],
        )
