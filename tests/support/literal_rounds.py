"""Simulated users written as the paper reads, on the public predictors: slow, plain."""

import math

import numpy as np
from numpy.typing import NDArray

from memory_videos import MemoryVideo
from projects.sam2.apis import SAM2ImagePredictor, SAM2VideoPredictor
from projects.sam2.apis.video_predictor import VideoState
from projects.sam2.models import SAM2

Mask = NDArray[np.bool_]
Click = tuple[int, int, int]


def depth_of(region: Mask) -> tuple[int, tuple[int, int]]:
    """Squared distance from its border of the pixel that lies deepest, and where."""
    framed = np.pad(region, 1)
    outside = np.argwhere(~framed)
    best, at = 0, (0, 0)
    for row, column in np.argwhere(framed):
        distance = int(((outside - (row, column)) ** 2).sum(axis=1).min())
        if distance > best:
            best, at = distance, (int(column) - 1, int(row) - 1)
    return best, at


def literal_click(truth: Mask, shown: Mask) -> Click:
    """In the middle of the largest error: x, y, and 1 for a missing part."""
    missing, surplus = depth_of(truth & ~shown), depth_of(shown & ~truth)
    if missing[0] > surplus[0]:
        return (*missing[1], 1)
    return (*surplus[1], 0)


def literal_iou(first: Mask, second: Mask) -> float:
    """Shared pixels over all pixels; 1 of two empty masks."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def image_ious(
    model: SAM2, image: NDArray[np.uint8], truth: Mask, num_clicks: int
) -> list[float]:
    """IoU after the box, and after each click."""
    predictor = SAM2ImagePredictor(model)
    predictor.set_image(image)
    rows, columns = np.nonzero(truth)
    box = [columns.min(), rows.min(), columns.max(), rows.max()]
    masks, _, _ = predictor.predict(box=box, multimask_output=False)
    found = [literal_iou(masks[0], truth)]
    clicks: list[Click] = []
    shown, fed_back = np.zeros_like(truth), None
    for number in range(num_clicks):
        clicks.append(literal_click(truth, shown))
        masks, ious, low_res = predictor.predict(
            [click[:2] for click in clicks],
            [click[2] for click in clicks],
            mask_input=fed_back,
            multimask_output=number == 0,
        )
        best = int(ious.argmax())
        shown, fed_back = masks[best], low_res[best : best + 1]
        found.append(literal_iou(shown, truth))
    return found


class OneUser:
    """Annotates one object of a video through the video predictor."""

    def __init__(
        self,
        predictor: SAM2VideoPredictor,
        video: MemoryVideo,
        number: int,
        clicks: int,
    ) -> None:
        self.predictor = predictor
        self.video = video
        self.number = number
        self.clicks = clicks
        frames = [video.read_frame(index) for index in range(video.length)]
        self.state: VideoState = predictor.init_state(frames)
        self.annotated: list[int] = []

    def truth(self, frame: int) -> Mask:
        """Of the object."""
        mask: Mask = self.video.masks(frame)[self.number - 1]
        return mask

    def annotate(self, frame: int, shown: Mask | None = None) -> Mask:
        """Click on a frame."""
        shown = np.zeros_like(self.truth(frame)) if shown is None else shown
        for number in range(self.clicks):
            x, y, label = literal_click(self.truth(frame), shown)
            result = self.predictor.add_new_points_or_box(
                self.state,
                frame,
                self.number,
                [[x, y]],
                [label],
                clear_old_points=number == 0,
            )
            shown = (result.mask_logits[0, 0] > 0).numpy()
        self.annotated.append(frame)
        return shown

    def offline(self, num_rounds: int) -> list[dict[int, Mask]]:
        """Masks of each round, by frame."""
        first = self.video.first_frames[self.number - 1]
        self.annotate(first)
        rounds: list[dict[int, Mask]] = []
        while True:
            passes = self.predictor.propagate_in_video(self.state, first)
            rounds.append(
                {one.frame_index: (one.mask_logits[0, 0] > 0).numpy() for one in passes}
            )
            if len(rounds) == num_rounds:
                return rounds
            worst, lowest = -1, math.inf
            for frame, mask in rounds[-1].items():
                iou = literal_iou(mask, self.truth(frame))
                if frame not in self.annotated and iou < lowest:
                    worst, lowest = frame, iou
            self.annotate(worst, rounds[-1][worst])

    def online(self, num_frames: int, min_iou: float) -> dict[int, Mask]:
        """Masks of a single pass, by frame."""
        first = self.video.first_frames[self.number - 1]
        shown = {first: self.annotate(first)}
        for frame in range(first + 1, self.video.length):
            (result,) = self.predictor.propagate_in_video(
                self.state, frame, max_frame_num_to_track=0
            )
            shown[frame] = (result.mask_logits[0, 0] > 0).numpy()
            bad = literal_iou(shown[frame], self.truth(frame)) < min_iou
            if bad and len(self.annotated) < num_frames:
                shown[frame] = self.annotate(frame, shown[frame])
        return shown
