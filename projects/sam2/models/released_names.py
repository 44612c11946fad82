"""Names and calls of the released model, for scripts that reach inside it.

They are views of the model's own parts: nothing here owns a weight.
"""

from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoints import (
    UnknownKeyError,
    from_released,
    map_from_released,
    map_to_released,
)
from ..structures import PointLabel, PointPrompt
from .layers import sine_encoding_2d
from .mask_decoder import SAM2MaskDecoder
from .prompt_encoder import (
    EMBEDDING_STRIDE,
    PromptEmbeddings,
    SAM2PromptEncoder,
)

if TYPE_CHECKING:
    from .data_preprocessor import ClipDataPreprocessor

__all__ = ['ReleasedMaskDecoder', 'ReleasedNames', 'ReleasedPromptEncoder']

# Prefixes of weights that only released checkpoints have.
RELEASED_SIGNS = (
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


PREDICTOR_CALLS = (
    'use init_state, add_new_points_or_box, add_new_mask, propagate_in_video, '
    'remove_object and reset_state of SAM2VideoPredictor'
)
STREAM = 'for frames that come one at a time use SAM2Stream'
# Released names that are views of parts of ours: what is set on them would be lost.
VIEWS = {
    'sam_mask_decoder': 'model.mask_decoder',
    'sam_prompt_encoder': 'model.prompt_encoder',
}
# Released names of parts that are called alike, and where ours are.
PARTS = {
    'memory_attention': 'tracker.memory_attention',
    'memory_encoder': 'tracker.memory_encoder',
    'obj_ptr_proj': 'tracker.object_pointer.projection',
    'no_mem_embed': 'tracker.no_memory_embedding',
    'maskmem_tpos_enc': 'tracker.temporal_embedding',
}
# Names that can only be read, and what to do in place of setting them.
READ_ONLY = {
    'num_maskmem': (
        "call build_sam2 with hydra_overrides_extra=['++model.num_maskmem={value!r}']"
    ),
    'image_size': 'call build_sam2(image_size={value!r})',
    'hidden_dim': 'set the channels of all parts in the config',
    'mem_dim': 'set the channels of the memory in the config',
    'device': 'call .to({value!r})',
}
# Options of the release that are constants here, whatever the config.
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
    'compile_image_encoder': False,  # vos_optimized compiles
    'clear_non_cond_mem_for_multi_obj': False,
}
# Alternatives to released names without a counterpart.
INSTEAD = {
    '_consolidate_temp_output_across_obj': PREDICTOR_CALLS,
    '_encode_new_memory': 'use model.tracker.encode_memory',
    '_forward_sam_heads': 'use model.heads.decode',
    '_get_image_feature': 'use state.embeddings.get(frame_idx)',
    '_get_orig_video_res_output': 'results hold masks at the size of the video',
    '_prepare_memory_conditioned_features': 'use model.tracker.recall',
    '_reset_tracking_results': 'use reset_state of SAM2VideoPredictor',
    '_run_memory_encoder': PREDICTOR_CALLS,
    '_run_single_frame_inference': PREDICTOR_CALLS,
    '_track_step': PREDICTOR_CALLS,
    '_use_mask_as_output': 'use model.heads.adopt',
    'load_first_frame': STREAM,
    'track_step': PREDICTOR_CALLS,
}


def instead_of(name: str) -> str:
    """Name the alternative to a released name without a counterpart."""
    return INSTEAD.get(name, 'docs/prediction.md lists the released names that work')


def check_settable(name: str, value: object) -> None:
    """Refuse to set a released name where the value would change nothing.

    Raises:
        AttributeError: If the model has no use for the value.
    """
    if name in READ_ONLY:
        remedy = READ_ONLY[name].format(value=value)
        msg = f'{name} of a built model can only be read; {remedy}'
        raise AttributeError(msg)
    if name in FIXED_OPTIONS and value != FIXED_OPTIONS[name]:
        msg = f'{name} is always {FIXED_OPTIONS[name]} here and cannot be {value!r}'
        raise AttributeError(msg)


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
        """Is the part set to training?"""
        return self.part.training

    @training.setter
    def training(self, mode: bool) -> None:
        """Ignore the value: torch sets it on the part, too."""

    def state_dict(  # type: ignore[override]  # without torch's outdated arguments
        self, *, prefix: str = '', keep_vars: bool = False
    ) -> dict[str, Tensor]:
        """Weights of the part by their released names.

        Returns:
            Those that a released file has below the part's name.
        """
        own = self.part.state_dict(prefix=self._ours, keep_vars=keep_vars)
        released = map_to_released(own)
        return {prefix + k.removeprefix(self._prefix): v for k, v in released.items()}

    def load_state_dict(  # type: ignore[override]  # torch's signature, with our result
        self,
        state_dict: dict[str, Tensor],
        strict: bool = True,
        assign: bool = False,
    ) -> Any:
        """Load weights by their released names.

        Args:
            state_dict: As :meth:`state_dict` gives it.
            strict: Names must be those of the part, all of them.
        """
        full = {f'{self._prefix}{key}': value for key, value in state_dict.items()}
        ours = map_from_released(full)
        own = {key.removeprefix(self._ours): value for key, value in ours.items()}
        return self.part.load_state_dict(own, strict=strict, assign=assign)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse what would be lost: the next look at the model makes a new view."""
        if name == 'forward':
            raise TypeError(self._refusal('its forward cannot be replaced'))
        super().__setattr__(name, value)

    def __getattribute__(self, name: str) -> Any:
        """Refuse to register hooks, which would never be called."""
        if name.startswith('register_') and name.endswith('_hook'):
            raise TypeError(self._refusal('hooks on it are never called'))
        return super().__getattribute__(name)

    def _refusal(self, problem: str) -> str:
        """What an error says."""
        ours = f'model.{self._ours.rstrip(".")}'
        return (
            f'{self._prefix.rstrip(".")} is a view of {ours}, and {problem}; use '
            f'{ours}, which is called as {type(self.part).__name__} says'
        )

    def __getattr__(self, name: str) -> Any:
        """Attributes of the part."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__.get('_modules', {}).get('part'), name)


class ReleasedPromptEncoder(ReleasedPart):
    """The prompt encoder under its released signature.

    Args:
        part: Of the model.
        input_size: Height and width of the images that the model sees.
    """

    part: SAM2PromptEncoder

    def __init__(self, part: SAM2PromptEncoder, *, input_size: tuple[int, int]) -> None:
        super().__init__(part, prefix='sam_prompt_encoder.', ours='prompt_encoder.')
        height, width = input_size
        self.input_image_size = input_size
        self.image_embedding_size = (
            height // EMBEDDING_STRIDE,
            width // EMBEDDING_STRIDE,
        )
        self.mask_input_size = (height // 4, width // 4)
        self.embed_dim = part.embed_dims

    def forward(
        self,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Embed prompts.

        Args:
            points: Coordinates (O, P, 2) in pixels of the image that the model sees,
                and their labels (O, P).
            boxes: (O, 4) or (O, 2, 2), likewise.
            masks: (O, 1, H4, W4), logits.

        Returns:
            Tokens (O, N, C), where points without a box are followed by a padding
            point, and what is added to the image embedding, (O, C, H16, W16).
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
                nowhere = coords.new_zeros(len(coords), 1, 2)
                prompts.append(PointPrompt(coords=nowhere, labels=padding))
        if boxes is not None:
            corners = boxes.reshape(-1, 2, 2)
            kinds = [PointLabel.BOX_TOP_LEFT, PointLabel.BOX_BOTTOM_RIGHT]
            labels = torch.tensor(kinds, dtype=torch.int32, device=corners.device)
            prompts.append(
                PointPrompt(coords=corners, labels=labels.expand(len(corners), -1))
            )
        tokens = [
            self.part.embed_points(prompt, self.image_embedding_size)
            for prompt in prompts
        ]
        return torch.cat([dense.sparse, *tokens], dim=1), dense.dense

    def get_dense_pe(self) -> Tensor:
        """Position encoding of the image embedding.

        Returns:
            (1, C, H16, W16).
        """
        return self.part.dense_position(self.image_embedding_size)


class ReleasedMaskDecoder(ReleasedPart):
    """The mask decoder under its released signature.

    Args:
        part: Of the model.
    """

    part: SAM2MaskDecoder

    def __init__(self, part: SAM2MaskDecoder) -> None:
        super().__init__(part, prefix='sam_mask_decoder.', ours='mask_decoder.')

    @property
    def dynamic_multimask_via_stability(self) -> bool:
        """``stability_selection``."""
        return self.part.stability_selection

    @dynamic_multimask_via_stability.setter
    def dynamic_multimask_via_stability(self, value: bool) -> None:
        self.part.stability_selection = value

    @property
    def conv_s0(self) -> nn.Module:
        """Projects features of stride 4."""
        return self._projections()[0]

    @property
    def conv_s1(self) -> nn.Module:
        """Projects features of stride 8."""
        return self._projections()[1]

    def _projections(self) -> nn.ModuleList:
        """Projections of stride 4 and 8."""
        projections = self.part.high_res_projections
        if projections is None:
            msg = 'This decoder takes no high-resolution features'
            raise AttributeError(msg)
        return projections

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
            high_res_features: Projected features of stride 4, then of stride 8.

        Returns:
            Logits (O, M, H4, W4), estimated IoU (O, M), mask tokens (O, M, C) and
            object scores (O, 1).

        Raises:
            ValueError: If there are embeddings of another number of objects.
        """
        count = len(sparse_prompt_embeddings)
        if not repeat_image and len(image_embeddings) != count:
            msg = (
                f'{len(image_embeddings)} image embeddings do not fit prompts of '
                f'{count} objects; set repeat_image=True for one image'
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


def _option(path: str, *, negated: bool = False) -> Any:
    """Make a property for an option of the release that has another name here."""
    *parents, name = path.split('.')

    def owner(model: Any) -> Any:
        for parent in parents:
            model = getattr(model, parent)
        return model

    def read(model: 'ReleasedNames') -> object:
        value: object = getattr(owner(model), name)
        return not value if negated else value

    def write(model: 'ReleasedNames', value: object) -> None:
        setattr(owner(model), name, not value if negated else value)

    return property(read, write, doc=f'``{path}``.')


class ReleasedNames:
    """What the released model calls its parts, beside our own names for them."""

    if TYPE_CHECKING:
        data_preprocessor: ClipDataPreprocessor
        tracker: Any
        prompt_encoder: Any
        mask_decoder: Any
        encode: Any

    def __setattr__(self, name: str, value: object) -> None:
        """Replace a part under its released name, or refuse what would be lost."""
        check_settable(name, value)
        if name in PARTS:
            *parents, own = PARTS[name].split('.')
            setattr(reduce(getattr, parents, self), own, value)
        elif name in VIEWS:
            msg = (
                f'{name} is a view and cannot be replaced; set {VIEWS[name]}, which is '
                f'what the model calls'
            )
            raise TypeError(msg)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *others: object
    ) -> None:
        """Load weights by our or by released names; called by ``load_state_dict``."""
        _rename_released(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[misc]  # of nn.Module

    @property
    def image_size(self) -> int | tuple[int, int]:
        """Side of the square images that the model sees, else (height, width)."""
        height, width = self.data_preprocessor.image_size
        return height if height == width else (height, width)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        place: torch.device = self.tracker.no_memory_embedding.device
        return place

    @property
    def sam_prompt_encoder(self) -> ReleasedPromptEncoder:
        """The prompt encoder, called as in the release."""
        size = self.data_preprocessor.image_size
        return ReleasedPromptEncoder(self.prompt_encoder, input_size=size)

    @property
    def sam_mask_decoder(self) -> ReleasedMaskDecoder:
        """The mask decoder, called as in the release."""
        return ReleasedMaskDecoder(self.mask_decoder)

    @property
    def memory_attention(self) -> nn.Module:
        """Ours of ``tracker``."""
        part: nn.Module = self.tracker.memory_attention
        return part

    @property
    def memory_encoder(self) -> nn.Module:
        """Ours of ``tracker``."""
        part: nn.Module = self.tracker.memory_encoder
        return part

    @property
    def obj_ptr_proj(self) -> nn.Module:
        """``tracker.object_pointer.projection``."""
        part: nn.Module = self.tracker.object_pointer.projection
        return part

    @property
    def no_mem_embed(self) -> nn.Parameter:
        """``tracker.no_memory_embedding``, (1, 1, C)."""
        weight: nn.Parameter = self.tracker.no_memory_embedding
        return weight

    @property
    def maskmem_tpos_enc(self) -> nn.Parameter:
        """``tracker.temporal_embedding``, (frames, 1, 1, Cm)."""
        weight: nn.Parameter = self.tracker.temporal_embedding
        return weight

    @property
    def num_maskmem(self) -> int:
        """Frames in the memory, the current one included."""
        count: int = self.tracker.memory_bank.num_frames
        return count

    max_obj_ptrs_in_encoder = _option('tracker.memory_bank.max_pointers')
    memory_temporal_stride_for_eval = _option('tracker.memory_bank.stride')
    only_obj_ptrs_in_the_past_for_eval = _option(
        'tracker.memory_bank.future_pointers', negated=True
    )
    binarize_mask_from_pts_for_mem_enc = _option('tracker.binary_clicked_memories')
    non_overlap_masks_for_mem_enc = _option('tracker.non_overlapping_memories')

    @property
    def max_cond_frames_in_attn(self) -> int:
        """``tracker.memory_bank.max_conditioning_frames``, -1 for None."""
        limit: int | None = self.tracker.memory_bank.max_conditioning_frames
        return -1 if limit is None else limit

    @max_cond_frames_in_attn.setter
    def max_cond_frames_in_attn(self, limit: int) -> None:
        self.tracker.memory_bank.max_conditioning_frames = (
            None if limit == -1 else limit
        )

    @property
    def hidden_dim(self) -> int:
        """C."""
        channels: int = self.tracker.object_pointer.embed_dims
        return channels

    @property
    def mem_dim(self) -> int:
        """Cm."""
        channels: int = self.tracker.object_pointer.memory_dims
        return channels

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            """Raise an error that names an alternative to a missing name."""
            try:
                return super().__getattr__(name)
            except AttributeError as error:
                msg = f'{type(self).__name__} has no {name!r}; {instead_of(name)}'
                raise AttributeError(msg) from error

    def forward_image(self, img_batch: Tensor) -> dict[str, Any]:
        """Encode images, as the release hands it on.

        Args:
            img_batch: (B, 3, H, W), normalised.

        Returns:
            ``vision_features``, (B, C, H16, W16); ``backbone_fpn``, projected features
            of stride 4 and 8, and those of stride 16; ``vision_pos_enc``, their
            position encodings.
        """
        features = self.encode(img_batch)
        maps = [features.high_res_4, features.high_res_8, features.embedding]
        channels = features.embedding.shape[1]
        positions = [
            sine_encoding_2d(
                channels=channels, size=(m.shape[-2], m.shape[-1]), device=m.device
            ).expand(len(m), -1, -1, -1)
            for m in maps
        ]
        return {
            'vision_features': features.embedding,
            'backbone_fpn': maps,
            'vision_pos_enc': positions,
        }

    def _prepare_backbone_features(
        self, backbone_out: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Tensor], list[Tensor], list[tuple[int, int]]]:
        """What :meth:`forward_image` gives, flattened to (H * W, B, C)."""
        maps, positions = backbone_out['backbone_fpn'], backbone_out['vision_pos_enc']
        flat, flat_positions = (
            [level.flatten(2).permute(2, 0, 1) for level in levels]
            for levels in (maps, positions)
        )
        sizes = [(m.shape[-2], m.shape[-1]) for m in positions]
        return backbone_out, flat, flat_positions, sizes


def _rename_released(state_dict: dict[str, Tensor], prefix: str) -> None:
    """Rename released weights below a prefix to our names, in place."""
    names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
    if not any(name.startswith(RELEASED_SIGNS) for name in names):
        return
    for name in names:
        try:
            ours = from_released(name)
        except UnknownKeyError:
            continue  # ours already, or told as unexpected
        if ours != name:
            state_dict[prefix + ours] = state_dict.pop(prefix + name)
