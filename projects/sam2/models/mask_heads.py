"""From features and a prompt to masks, object score and object pointer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from projects.sam2.models.mask_decoder import MaskDecoderOutput, SAM2MaskDecoder
from projects.sam2.models.prompt_encoder import PromptEmbeddings, SAM2PromptEncoder
from projects.sam2.models.tracker import SAM2Tracker
from projects.sam2.ops import at_least_float32, downsample_logits
from projects.sam2.structures import (
    DecoderStep,
    ImageFeatures,
    PointLabel,
    PointPrompt,
    TrackingMode,
)

# Logits of an object judged absent; far below anything the decoder gives.
NO_OBJECT_LOGIT = -1024.0
# A mask prompt becomes logits of +-10, and so does its object score.
GIVEN_MASK_SCALE = 20.0
GIVEN_MASK_BIAS = -10.0
# Several candidates are decoded while the prompt is ambiguous: at most one point.
MAX_AMBIGUOUS_POINTS = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskHeads:
    """The prompt encoder and the mask decoder, working together.

    It owns no parameters: the model does.

    Attributes:
        prompt_encoder: Embeds points and earlier masks.
        mask_decoder: Decodes masks.
        tracker: Owns the object pointers and the way to read mask prompts.
    """

    prompt_encoder: SAM2PromptEncoder
    mask_decoder: SAM2MaskDecoder
    tracker: SAM2Tracker

    def decode(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        mode: TrackingMode,
        points: PointPrompt | None = None,
        earlier_logits: Tensor | None = None,
    ) -> DecoderStep:
        """Decode the masks of a frame.

        Args:
            embedding: Features conditioned on memory, (O, C, H16, W16).
            features: Of the frame, one for each object.
            mode: Training or evaluation.
            points: All points given on the frame so far, or None.
            earlier_logits: Masks of the previous step, (O, 1, H4, W4), or None.

        Returns:
            Candidates, the chosen mask, the object score and the object pointer.
        """
        multimask = points is None or points.num_points <= MAX_AMBIGUOUS_POINTS
        decoded = self._run(
            embedding=embedding,
            features=features,
            points=points,
            earlier_logits=earlier_logits,
            multimask=multimask,
            mode=mode,
        )
        present = decoded.object_score_logits > 0
        # Also under autocast: what is enlarged, remembered and fed back stays fine.
        logits = at_least_float32(decoded.mask_logits)
        if mode is TrackingMode.EVALUATION or self.tracker.gate_training_masks:
            logits = torch.where(present[..., None, None], logits, NO_OBJECT_LOGIT)
        best = decoded.ious.argmax(dim=1)
        objects = torch.arange(len(best), device=best.device)
        # One candidate alone comes with one token; so best is 0 for both.
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=decoded.ious,
            mask_logits=logits[objects, best][:, None],
            object_pointer=self.tracker.object_pointer(
                decoded.mask_tokens[objects, best], present
            ),
            object_score_logits=decoded.object_score_logits,
            points=points,
        )

    def propose(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        points: PointPrompt,
        earlier_logits: Tensor | None = None,
    ) -> Tensor:
        """Decode the masks of an image; whether objects are there is not asked.

        Args:
            embedding: Features of a frame without memory, (O, C, H16, W16).
            features: Of the frame, one for each object.
            points: All points given so far.
            earlier_logits: Masks of the previous answer, (O, 1, H4, W4), or None.

        Returns:
            The mask with the highest estimate of its IoU, (O, 1, H4, W4), logits.
        """
        decoded = self._run(
            embedding=embedding,
            features=features,
            points=points,
            earlier_logits=earlier_logits,
            multimask=points.num_points <= MAX_AMBIGUOUS_POINTS,
            mode=TrackingMode.EVALUATION,
        )
        best = decoded.ious.argmax(dim=1)
        objects = torch.arange(len(best), device=best.device)
        return at_least_float32(decoded.mask_logits)[objects, best][:, None]

    def adopt(self, *, mask: Tensor, features: ImageFeatures) -> DecoderStep:
        """Take a mask prompt as the mask of the frame.

        Args:
            mask: (O, 1, H, W), bool.
            features: Of the frame, one for each object.

        Returns:
            The mask as logits; the decoder gives the object pointer alone.
        """
        given = mask.to(features.embedding.dtype)
        full_logits = at_least_float32(given) * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS
        height, width = mask.shape[-2:]
        logits = downsample_logits(full_logits, (height // 4, width // 4))
        embedding = features.embedding
        token, object_score = self.mask_decoder.read(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(
                embedding, None, self.tracker.mask_prompt_downsample(given)
            ),
        )
        pointers = self.tracker.object_pointer
        pointer = pointers(token, object_score > 0)
        present = mask.flatten(1).any(dim=1, keepdim=True)
        return DecoderStep(
            candidate_logits=logits,
            candidate_ious=torch.ones_like(object_score),
            mask_logits=logits,
            # Both judgements count: the decoder's above, and the mask's own.
            object_pointer=pointers.blend(pointer, present),
            object_score_logits=present * GIVEN_MASK_SCALE + GIVEN_MASK_BIAS,
            full_logits=full_logits,
        )

    def _run(
        self,
        *,
        embedding: Tensor,
        features: ImageFeatures,
        points: PointPrompt | None,
        earlier_logits: Tensor | None,
        multimask: bool,
        mode: TrackingMode,
    ) -> MaskDecoderOutput:
        """Encode the prompt and decode."""
        output: MaskDecoderOutput = self.mask_decoder(
            embedding=embedding,
            position=self._position(embedding),
            prompts=self._prompts(embedding, points, earlier_logits),
            high_res=(features.high_res_8, features.high_res_4),
            multimask=multimask,
            select_by_stability=mode is TrackingMode.EVALUATION,
        )
        return output

    def _position(self, embedding: Tensor) -> Tensor:
        """Position encoding of an embedding, (1, C, H16, W16)."""
        size = (embedding.shape[-2], embedding.shape[-1])
        return self.prompt_encoder.dense_position(size)

    def _prompts(
        self,
        embedding: Tensor,
        points: PointPrompt | None,
        earlier_logits: Tensor | None,
    ) -> PromptEmbeddings:
        """Encode the prompts of all objects."""
        prompts: PromptEmbeddings = self.prompt_encoder(
            points=_no_point(embedding) if points is None else points,
            mask_logits=earlier_logits,
            embedding_size=(embedding.shape[-2], embedding.shape[-1]),
            num_objects=embedding.shape[0],
        )
        return prompts


def _no_point(embedding: Tensor) -> PointPrompt:
    """One padding point for each object: the model was trained to expect a point."""
    num_objects = embedding.shape[0]
    return PointPrompt(
        coords=embedding.new_zeros(num_objects, 1, 2, dtype=torch.float32),
        labels=torch.full(
            (num_objects, 1),
            PointLabel.PADDING,
            dtype=torch.int32,
            device=embedding.device,
        ),
    )
