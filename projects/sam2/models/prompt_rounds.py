"""Prompts of validation that come in rounds, each round with a score of its own."""

from abc import abstractmethod
from collections.abc import Iterator

from projects.sam2.models.prompt_simulator import SAM2PromptSimulator
from projects.sam2.models.prompted_model import PromptedModel
from projects.sam2.structures import FramePrediction, VideoSource

__all__ = ['SAM2PromptRounds', 'count_name']


class SAM2PromptRounds(SAM2PromptSimulator):
    """A simulated user who says more from round to round.

    Clips are prompted, where they are, by a click in the centre of each object.

    Args:
        num_clicks: On each frame.

    Raises:
        ValueError: If there is no click.
    """

    def __init__(self, *, num_clicks: int) -> None:
        if num_clicks < 1:
            msg = f'num_clicks is {num_clicks}; give at least one click'
            raise ValueError(msg)
        super().__init__(
            point_probability=1.0,
            box_probability=0.0,
            num_conditioning_frames=(1, 1),
            num_correction_frames=(1, 1),
            num_corrections=num_clicks - 1,
            click_method='center',
        )
        self.num_clicks = num_clicks

    @abstractmethod
    def run(
        self, model: PromptedModel, source: VideoSource
    ) -> Iterator[FramePrediction]:
        """Prompt the objects of a video, round by round.

        Args:
            model: The model.
            source: The video.

        Yields:
            Predictions of all rounds, each with its round; those of one round in
            ascending order, and as many in every round.
        """


def count_name(number: int, unit: str) -> str:
    """Name a round.

    Args:
        number: How many of it.
        unit: In the singular.

    Returns:
        Such as ``1_click`` or ``3_clicks``.
    """
    return f'{number}_{unit}' + ('' if number == 1 else 's')
