"""The names and calls of the released SAM 2 model, as views of our own parts.

Scripts written for the release reach inside the model: ``model.num_maskmem``,
``model.sam_mask_decoder(...)``. :class:`ReleasedNames` gives :class:`SAM2` these names.
Nothing here owns a weight, and no forward pass of ours runs through this file.
"""

from collections.abc import Callable
from operator import attrgetter, not_
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoints import (
    UnknownKeyError,
    from_released,
    map_from_released,
    map_to_released,
)
from ..structures import PointLabel, PointPrompt, low_res_size_at
from .layers import sine_encoding_2d
from .mask_decoder import SAM2MaskDecoder
from .prompt_encoder import PromptEmbeddings, SAM2PromptEncoder

__all__ = ['ReleasedMaskDecoder', 'ReleasedNames', 'ReleasedPromptEncoder']

# Options of the released configs that are constants here.
FIXED_OPTIONS = {
    'multimask_output_in_sam': True,
    'multimask_output_for_tracking': True,
    'multimask_min_pt_num': 0,
    'multimask_max_pt_num': 1,
    'use_multimask_token_for_obj_ptr': True,
    'use_mask_input_as_output_without_sam': True,
    'iou_prediction_use_sigmoid': True,
    'sigmoid_scale_for_mem_enc': 20.0,
    'sigmoid_bias_for_mem_enc': -10.0,
    'directly_add_no_mem_embed': True,
    'use_high_res_features_in_sam': True,
    'use_obj_ptrs_in_encoder': True,
    'pred_obj_scores': True,
    'fixed_no_obj_ptr': True,
    'soft_no_obj_ptr': False,
    'backbone_stride': 16,
    'compile_image_encoder': False,  # vos_optimized compiles it
    'clear_non_cond_mem_for_multi_obj': False,
}
_PREDICTOR_METHODS = (
    'use init_state, add_new_points_or_box, add_new_mask, propagate_in_video, '
    'remove_object and reset_state of SAM2VideoPredictor'
)
# What to use instead of released names that do not exist here.
INSTEAD = {
    '_consolidate_temp_output_across_obj': _PREDICTOR_METHODS,
    '_encode_new_memory': 'use model.tracker.encode_memory',
    '_forward_sam_heads': 'use model.heads.decode',
    '_get_image_feature': 'use state.features(frame_idx)',
    '_get_orig_video_res_output': 'results hold masks at the size of the video',
    '_prepare_memory_conditioned_features': 'use model.tracker.condition_on_memory',
    '_reset_tracking_results': 'use reset_state of SAM2VideoPredictor',
    '_run_memory_encoder': _PREDICTOR_METHODS,
    '_run_single_frame_inference': _PREDICTOR_METHODS,
    '_track_step': _PREDICTOR_METHODS,
    '_use_mask_as_output': 'use model.heads.use_mask_as_output',
    'load_first_frame': 'for frames that arrive one at a time use SAM2Stream',
    'track_step': _PREDICTOR_METHODS,
}
# Prefixes that occur only in released checkpoints.
RELEASED_PREFIXES = (
    'image_encoder.trunk.',
    'image_encoder.neck.convs.',
    'sam_mask_decoder.',
    'sam_prompt_encoder.',
    'memory_attention.',
    'memory_encoder.',
    'maskmem_tpos_enc',
    'obj_ptr_',
    'no_mem_',
    'no_obj_',
)


def instead_of(name: str) -> str:
    """What to use instead of a released name that does not exist here."""
    return INSTEAD.get(
        name, 'docs/tutorials/from_the_release.md lists the names that work'
    )


def check_settable(name: str, value: object) -> None:
    """Refuse to set a released name where the value would have no effect.

    Raises:
        AttributeError: If the name is read-only, or an option with another fixed value.
    """
    alias = vars(ReleasedNames).get(name)
    if isinstance(alias, Alias) and alias.read_only:
        remedy = alias.read_only.format(value=value)
        msg = f'{name} of a built model can only be read; {remedy}'
        raise AttributeError(msg)
    if name in FIXED_OPTIONS and value != FIXED_OPTIONS[name]:
        msg = f'{name} is always {FIXED_OPTIONS[name]} here and cannot be {value!r}'
        raise AttributeError(msg)


def _unchanged(value: Any) -> Any:
    return value


class Alias:
    """A released attribute of the model that stands for one of ours.

    Args:
        path: Our attribute below the model, which is also its key in the config.
        kind: Type of its value, if it is an option of the released configs.
        read_only: What to do instead of setting it; empty if it can be set.
        to_released: Converts our value to the released one.
        from_released: Converts a released value to ours.
    """

    def __init__(
        self,
        path: str,
        kind: type | None = None,
        *,
        read_only: str = '',
        to_released: Callable[[Any], Any] = _unchanged,
        from_released: Callable[[Any], Any] = _unchanged,
    ) -> None:
        self.path, self.kind, self.read_only = path, kind, read_only
        self.to_released, self.from_released = to_released, from_released

    def __get__(self, model: object, owner: type | None = None) -> Any:
        if model is None:
            return self
        return self.to_released(attrgetter(self.path)(model))

    def __set__(self, model: object, value: object) -> None:
        parent, _, name = self.path.rpartition('.')
        setattr(attrgetter(parent)(model), name, self.from_released(value))


class ReleasedNames:
    """Gives a model the attributes and methods of the released one."""

    if TYPE_CHECKING:
        data_preprocessor: Any
        prompt_encoder: Any
        mask_decoder: Any
        encode: Any

    memory_attention = Alias('tracker.memory_attention')
    memory_encoder = Alias('tracker.memory_encoder')
    obj_ptr_proj = Alias('tracker.object_pointer.projection')
    no_mem_embed = Alias('tracker.no_memory_embedding')  # (1, 1, C)
    maskmem_tpos_enc = Alias('tracker.temporal_embedding')  # (frames, 1, 1, Cm)

    device = Alias(
        'tracker.no_memory_embedding.device', read_only='call .to({value!r})'
    )
    image_size = Alias(
        'data_preprocessor.image_size',
        int,
        read_only='call build_sam2(image_size={value!r})',
        to_released=lambda size: size[0] if size[0] == size[1] else size,
        from_released=lambda side: (side, side),
    )
    hidden_dim = Alias(
        'tracker.object_pointer.embed_dims',
        read_only='set the channels of all parts in the config',
    )
    mem_dim = Alias(
        'tracker.object_pointer.memory_dims',
        read_only='set the channels of the memory in the config',
    )
    num_maskmem = Alias(
        'tracker.memory_bank.num_frames',
        int,
        read_only=(
            'call build_sam2 with '
            "hydra_overrides_extra=['++model.num_maskmem={value!r}']"
        ),
    )
    max_cond_frames_in_attn = Alias(
        'tracker.memory_bank.max_conditioning_frames',
        int,
        to_released=lambda limit: -1 if limit is None else limit,
        from_released=lambda limit: None if limit == -1 else limit,
    )
    memory_temporal_stride_for_eval = Alias('tracker.memory_bank.stride', int)
    max_obj_ptrs_in_encoder = Alias('tracker.memory_bank.max_pointers', int)
    only_obj_ptrs_in_the_past_for_eval = Alias(
        'tracker.memory_bank.future_pointers',
        bool,
        to_released=not_,
        from_released=not_,
    )
    binarize_mask_from_pts_for_mem_enc = Alias('tracker.binary_clicked_memories', bool)
    non_overlap_masks_for_mem_enc = Alias('tracker.non_overlapping_memories', bool)

    @property
    def sam_prompt_encoder(self) -> 'ReleasedPromptEncoder':
        """The prompt encoder, called as in the release."""
        size = self.data_preprocessor.image_size
        return ReleasedPromptEncoder(self.prompt_encoder, input_size=size)

    @property
    def sam_mask_decoder(self) -> 'ReleasedMaskDecoder':
        """The mask decoder, called as in the release."""
        return ReleasedMaskDecoder(self.mask_decoder)

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Encode images, (B, 3, H, W), normalised.

        Returns:
            ``vision_features`` (B, C, H16, W16); ``backbone_fpn``, the projected
            features of stride 4 and 8, if the model has any, and those of stride 16;
            ``vision_pos_enc``, their position encodings.
        """
        features = self.encode(img_batch)
        high_res = features.high_res or ()
        levels = [*reversed(high_res), features.embedding]
        channels = features.embedding.shape[1]
        positions = [
            sine_encoding_2d(
                channels=channels,
                size=(level.shape[-2], level.shape[-1]),
                device=level.device,
            ).expand(len(level), -1, -1, -1)
            for level in levels
        ]
        return {
            'vision_features': features.embedding,
            'backbone_fpn': levels,
            'vision_pos_enc': positions,
        }

    def _prepare_backbone_features(
        self, backbone_out: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """Flatten the result of :meth:`forward_image` to (H * W, B, C)."""
        positions = backbone_out['vision_pos_enc']
        flat_features, flat_positions = (
            [level.flatten(2).permute(2, 0, 1) for level in levels]
            for levels in (backbone_out['backbone_fpn'], positions)
        )
        sizes = [(level.shape[-2], level.shape[-1]) for level in positions]
        return backbone_out, flat_features, flat_positions, sizes

    def __setattr__(self, name: str, value: object) -> None:
        """Set the attribute behind an alias; refuse values without an effect."""
        check_settable(name, value)
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, Alias):  # else nn.Module would register the part
            attribute.__set__(self, value)
        elif name in {'sam_mask_decoder', 'sam_prompt_encoder'}:
            msg = (
                f'{name} is a view and cannot be replaced; set '
                f'model.{name.removeprefix("sam_")}, which is what the model calls'
            )
            raise TypeError(msg)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *others: object
    ) -> None:
        """Load weights by our or by released names; called by ``load_state_dict``."""
        names = [k.removeprefix(prefix) for k in state_dict if k.startswith(prefix)]
        if any(name.startswith(RELEASED_PREFIXES) for name in names):
            for name in names:
                try:
                    ours = from_released(name)
                except UnknownKeyError:
                    continue  # our name already, or torch reports it as unexpected
                state_dict[prefix + ours] = state_dict.pop(prefix + name)
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[misc]  # of nn.Module


class ReleasedPart(nn.Module):
    """A view of a part of the model with the names and calls of the release.

    The view shares the weights of the part: ``parameters``, ``train``, ``to`` and
    ``requires_grad_`` act on the model itself.

    Args:
        part: The part.
        prefix: Prefix of its weights in released checkpoints.
        ours: Prefix of its weights in our checkpoints.
    """

    def __init__(self, part: nn.Module, *, prefix: str, ours: str) -> None:
        super().__init__()
        self.part = part
        self._prefix, self._ours = prefix, ours

    @property
    def training(self) -> bool:
        """Whether the part is in training mode."""
        return self.part.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Ignore the value: torch sets it on the part as well."""

    def state_dict(  # type: ignore[override]  # without torch's outdated arguments
        self, *, prefix: str = '', keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Weights of the part by their released names, without the part's prefix."""
        weights = self.part.state_dict(prefix=self._ours, keep_vars=keep_vars)
        released = map_to_released(weights)
        return {prefix + k.removeprefix(self._prefix): v for k, v in released.items()}

    def load_state_dict(  # type: ignore[override]  # torch's signature, with our result
        self,
        state_dict: dict[str, Tensor],
        strict: bool = True,
        assign: bool = False,
    ) -> Any:
        """Load weights named as :meth:`state_dict` names them."""
        released = {f'{self._prefix}{key}': value for key, value in state_dict.items()}
        weights = {
            key.removeprefix(self._ours): value
            for key, value in map_from_released(released).items()
        }
        return self.part.load_state_dict(weights, strict=strict, assign=assign)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a new forward: it would be lost, since each access creates a view."""
        if name == 'forward':
            raise TypeError(self._refusal('its forward cannot be replaced'))
        super().__setattr__(name, value)

    def __getattribute__(self, name: str) -> Any:
        """Refuse to register hooks, which would never be called."""
        if name.startswith('register_') and name.endswith('_hook'):
            raise TypeError(self._refusal('hooks on it are never called'))
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        """Look up other attributes in the part."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__.get('_modules', {}).get('part'), name)

    def _refusal(self, problem: str) -> str:
        ours = f'model.{self._ours.rstrip(".")}'
        return (
            f'{self._prefix.rstrip(".")} is a view of {ours}, and {problem}; use '
            f'{ours}, which is called as {type(self.part).__name__} says'
        )


class ReleasedPromptEncoder(ReleasedPart):
    """The prompt encoder under its released signature.

    Args:
        part: Prompt encoder of the model.
        input_size: Height and width of the model's images.
    """

    part: SAM2PromptEncoder

    def __init__(self, part: SAM2PromptEncoder, *, input_size: tuple[int, int]) -> None:
        super().__init__(part, prefix='sam_prompt_encoder.', ours='prompt_encoder.')
        height, width = input_size
        self.input_image_size = input_size
        self.image_embedding_size = (
            height // part.stride,
            width // part.stride,
        )
        self.mask_input_size = low_res_size_at(input_size, part.stride)
        self.embed_dim = part.embed_dims

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts.

        Args:
            points: Coordinates (O, P, 2) in pixels of the model's image, and labels
                (O, P).
            boxes: (O, 4) or (O, 2, 2), in pixels of the model's image.
            masks: (O, 1, H4, W4), logits.

        Returns:
            Sparse embeddings, (O, N, C), where a padding point follows points without
            a box; and dense embeddings, (O, C, H16, W16).
        """
        given = [value for value in (masks, boxes) if value is not None]
        num_objects = len(points[0]) if points else len(given[-1]) if given else 1
        dense = self.part(
            points=None,
            mask_logits=masks,
            embedding_size=self.image_embedding_size,
            num_objects=num_objects,
        )
        prompts = []
        if points is not None:
            coords, labels = points
            prompts.append(PointPrompt(coords=coords, labels=labels))
            if boxes is None:
                padding = labels.new_full((len(labels), 1), PointLabel.PADDING)
                origin = coords.new_zeros(len(coords), 1, 2)
                prompts.append(PointPrompt(coords=origin, labels=padding))
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            corner_labels = torch.tensor(
                [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT],
                dtype=torch.int32,
                device=corners.device,
            ).expand(len(corners), -1)
            prompts.append(PointPrompt(coords=corners, labels=corner_labels))
        tokens = [
            self.part.embed_points(prompt, self.image_embedding_size)
            for prompt in prompts
        ]
        return torch.cat([dense.sparse, *tokens], dim=1), dense.dense

    def get_dense_pe(self) -> Tensor:
        """Position encoding of the image embedding, (1, C, H16, W16)."""
        return self.part.dense_position(self.image_embedding_size)


class ReleasedMaskDecoder(ReleasedPart):
    """The mask decoder under its released signature.

    Args:
        part: Mask decoder of the model.
    """

    part: SAM2MaskDecoder
    dynamic_multimask_via_stability = Alias('part.stability_selection')
    conv_s0 = Alias('part.high_res_projections.0')  # of the features of stride 4
    conv_s1 = Alias('part.high_res_projections.1')  # of the features of stride 8

    def __init__(self, part: SAM2MaskDecoder) -> None:
        super().__init__(part, prefix='sam_mask_decoder.', ours='mask_decoder.')

    def forward(
        self,
        image_embeddings: Tensor,
        image_pe: Tensor,
        sparse_prompt_embeddings: Tensor,
        dense_prompt_embeddings: Tensor,
        multimask_output: bool,
        repeat_image: bool,
        high_res_features: list[Tensor] | tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decode masks.

        Args:
            image_embeddings: (1, C, H16, W16), or one for each object.
            image_pe: Its position encoding, (1, C, H16, W16).
            sparse_prompt_embeddings: (O, N, C).
            dense_prompt_embeddings: (O, C, H16, W16).
            multimask_output: Return three masks for an ambiguous prompt, not one.
            repeat_image: All objects are on the same image.
            high_res_features: Projected features of stride 4, then of stride 8.

        Returns:
            Logits (O, M, H4, W4), estimated IoU (O, M), mask tokens (O, M, C) and
            object score logits (O, 1).

        Raises:
            ValueError: If the numbers of embeddings and of prompts differ.
        """
        num_objects = len(sparse_prompt_embeddings)
        if not repeat_image and len(image_embeddings) != num_objects:
            msg = (
                f'{len(image_embeddings)} image embeddings do not fit prompts of '
                f'{num_objects} objects; set repeat_image=True for one image'
            )
            raise ValueError(msg)
        high_res = None
        if high_res_features is not None:
            stride_4, stride_8 = high_res_features
            high_res = (stride_8, stride_4)
        decoded = self.part(
            embedding=image_embeddings,
            position=image_pe,
            prompts=PromptEmbeddings(
                sparse=sparse_prompt_embeddings, dense=dense_prompt_embeddings
            ),
            high_res=high_res,
            multimask=multimask_output,
            select_by_stability=not self.part.training,
        )
        return (
            decoded.mask_logits,
            decoded.ious,
            decoded.mask_tokens,
            decoded.object_score_logits,
        )
