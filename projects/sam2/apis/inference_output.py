"""Keeps, draws and writes what is found in an input, frame by frame."""

from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log

from projects.sam2.apis.inference_files import ResultFiles
from projects.sam2.apis.inference_results import (
    FrameResult,
    InferenceResult,
    InferredFrame,
)
from projects.sam2.apis.inference_sources import FileSource, ImageInput, StreamInput
from projects.sam2.visualization.text import Picture

__all__ = ['FrameDrawer', 'Output']


# Makes a picture of a frame of the input of a name.
FrameDrawer = Callable[[InferredFrame, str], Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What is done with the frames of inputs.

    Attributes:
        folder: Pictures and masks are written here; None writes nothing.
        formats: Files of masks.
        draw: None draws nothing.
        keep_pictures: Pictures are returned.
    """

    folder: Path | None
    formats: Collection[str]
    draw: FrameDrawer | None
    keep_pictures: bool

    def take(
        self, frames: Iterator[InferredFrame], source: FileSource, name: str
    ) -> tuple[InferenceResult, list[Picture]]:
        """Take all frames of an input; Ctrl-C ends a stream, and keeps what came.

        Args:
            frames: With their masks.
            source: What they are of.
            name: Of the files.

        Returns:
            The masks, and the pictures if they are to be kept.
        """
        kept: list[FrameResult] = []
        pictures: list[Picture] = []
        size = (0, 0)
        with self._files(source, name) or nullcontext() as files:
            try:
                for frame in frames:
                    size = (frame.pixels.shape[0], frame.pixels.shape[1])
                    self._take_one(frame, files, name, pictures)
                    kept.append(frame.packed())
            except KeyboardInterrupt:
                if not isinstance(source, StreamInput):
                    raise
                print_log(f'{name}: stopped', logger='current')
            result = InferenceResult(name=name, size=size, frames=tuple(kept))
            if files is not None:
                files.finish(result)
        return result, pictures

    def _take_one(
        self,
        frame: InferredFrame,
        files: ResultFiles | None,
        name: str,
        pictures: list[Picture],
    ) -> None:
        """Draw and write a frame."""
        if files is not None:
            files.add_masks(frame)
        if self.draw is None:
            return
        picture = self.draw(frame, name)
        if files is not None:
            files.add_picture(picture)
        if self.keep_pictures:
            pictures.append(picture)

    def _files(self, source: FileSource, name: str) -> ResultFiles | None:
        """Files of an input."""
        if self.folder is None:
            return None
        rate = None if isinstance(source, ImageInput) else source.frames_per_second
        return ResultFiles(
            folder=self.folder,
            name=name,
            formats=self.formats,
            frames_per_second=rate,
        )
