"""SAM 2's image encoder as backbone and neck of mmdetection and mmsegmentation.

``HieraBackbone`` takes the place of a ``SwinTransformer`` or ``ResNet``, and
``HieraPyramid`` that of an ``FPN``. Neither package has to be installed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.registry import MODELS, TASK_UTILS
from torch import Tensor, nn
from torch.nn import functional

from ..models.adaptation import frozen_modules
from ..models.hiera import PATCH_STRIDE, Hiera
from ..models.image_encoder import HieraFPN
from ..models.layers import checkpoint

# Arguments of Hiera for the released sizes, and for the small model of this project.
TINY = {
    'embed_dims': 96,
    'num_heads': 1,
    'stages': (1, 2, 7, 2),
    'global_attention_blocks': (5, 7, 9),
    'window_sizes': (8, 4, 14, 7),
    'position_embedding_size': (7, 7),
}
ARCHS: dict[str, dict[str, Any]] = {
    'mini': {
        'embed_dims': 16,
        'num_heads': 1,
        'stages': (1, 2, 3, 1),
        'global_attention_blocks': (5,),
        'window_sizes': (8, 4, 8, 4),
        'position_embedding_size': (8, 8),
    },
    'tiny': TINY,
    'small': TINY | {'stages': (1, 2, 11, 2), 'global_attention_blocks': (7, 10, 13)},
    'bplus': TINY
    | {
        'embed_dims': 112,
        'num_heads': 2,
        'stages': (2, 3, 16, 3),
        'global_attention_blocks': (12, 16, 20),
        'position_embedding_size': (14, 14),
    },
    'large': TINY
    | {
        'embed_dims': 144,
        'num_heads': 2,
        'stages': (2, 6, 36, 4),
        'global_attention_blocks': (23, 33, 43),
        'window_sizes': (8, 4, 16, 8),
    },
}


@MODELS.register_module()
class HieraBackbone(Hiera):
    """Hiera for images of any size, with the options of OpenMMLab's backbones.

    Images are padded with zeros at the right and at the bottom to whole windows, and
    the maps are cropped to the cells of the image. The weights have the names of
    SAM 2's ``image_encoder.backbone``.

    Args:
        arch: ``'tiny'``, ``'small'``, ``'bplus'`` or ``'large'``, the released sizes;
            ``'mini'``, that of ``configs/_base_/models/sam2_1_mini.py``; or the
            arguments of :class:`Hiera`.
        out_indices: Stages whose maps are returned, 0 being the finest, in increasing
            order. Stages after the last of them are not computed.
        frozen_stages: Stages that are not trained, counted from the first: -1 for
            none, 0 for patch and position embedding, 4 for the whole backbone.
        norm_eval: Keep norms in eval mode, as in ``ResNet``. Hiera's layer norms have
            no running statistics, so that this changes no result.
        with_cp: Recompute each block in the backward pass, which takes less memory.
        drop_path_rate: Stochastic depth of the last block; it grows linearly.
        adaptations: Configs of :class:`SAM2Freezing` and :class:`SAM2LowRankAdapters`,
            applied in this order after ``frozen_stages``. Their names are those of the
            backbone, such as ``blocks.*.attention``.
        init_cfg: MMEngine's initialisation. ``dict(type='Pretrained', checkpoint=…)``
            takes a file of the release, a folder of transformers or a checkpoint of
            this project; see :class:`PretrainedModule`.

    Attributes:
        out_channels: Channels of the maps that are returned, for ``in_channels`` of a
            neck or head.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> backbone = HieraBackbone(arch='mini', out_indices=(1, 3))
        >>> [tuple(maps.shape) for maps in backbone(torch.rand(1, 3, 50, 75))]
        [(1, 32, 7, 10), (1, 128, 2, 3)]
    """

    def __init__(
        self,
        *,
        arch: str | Mapping[str, Any] = 'tiny',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        drop_path_rate: float = 0.1,
        adaptations: Sequence[dict[str, Any]] = (),
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(
            **_arguments_of(arch), drop_path_rate=drop_path_rate, init_cfg=init_cfg
        )
        num_stages = len(self.stage_ends)
        self.out_indices = _checked_indices(out_indices, num_stages)
        if not -1 <= frozen_stages <= num_stages:
            msg = (
                f'frozen_stages is {frozen_stages}; give a number from -1 (nothing is '
                f'frozen) to {num_stages} (everything is)'
            )
            raise ValueError(msg)
        self.norm_eval = norm_eval
        self.with_cp = with_cp
        embed_dims = self.position_embedding.shape[1]
        self.out_channels = tuple(embed_dims * 2**index for index in self.out_indices)
        self._freeze(frozen_stages)
        for config in adaptations:
            TASK_UTILS.build(config).adapt(self)
        self.train()  # frozen stages stay in eval mode

    def _freeze(self, num_stages: int) -> None:
        frozen: list[nn.Parameter] = []
        if num_stages >= 0:
            frozen += [self.position_embedding, self.window_position_embedding]
            frozen += self.patch_embedding.parameters()
        if num_stages >= 1:
            frozen += self.blocks[: self.stage_ends[num_stages - 1] + 1].parameters()
        # Without this, DDP would wait for the gradients of blocks that are not used.
        frozen += self.blocks[self.stage_ends[self.out_indices[-1]] + 1 :].parameters()
        for parameter in frozen:
            parameter.requires_grad = False

    def train(self, mode: bool = True) -> 'HieraBackbone':
        """Set training mode, except for frozen modules, which stay in eval mode."""
        super().train(mode)
        for module in frozen_modules(self):
            # Not `eval`, which calls this method if the whole backbone is frozen.
            nn.Module.train(module, mode=False)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of the stages in ``out_indices``.

        Args:
            images: (B, 3, H, W), normalised, of any size.

        Returns:
            Maps, finest first, each (B, C, ceil(H / stride), ceil(W / stride)).
        """
        height, width = images.shape[-2:]
        multiple = self.image_multiple
        padded = functional.pad(images, (0, -width % multiple, 0, -height % multiple))
        maps = self.patch_embedding(padded)
        maps = maps + self._position(maps.shape[1], maps.shape[2])
        outputs = []
        for index in range(self.stage_ends[self.out_indices[-1]] + 1):
            maps = checkpoint(self.blocks[index], maps, enabled=self.with_cp)
            if index not in self.stage_ends:
                continue
            stage = self.stage_ends.index(index)
            if stage in self.out_indices:
                stride = PATCH_STRIDE * 2**stage
                cells = maps[:, : -(-height // stride), : -(-width // stride)]
                # (B, h, w, C) -> (B, C, h, w)
                outputs.append(cells.permute(0, 3, 1, 2))
        return tuple(outputs)


def _arguments_of(arch: str | Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Hiera for a size."""
    if isinstance(arch, Mapping):
        return dict(arch)
    if arch not in ARCHS:
        msg = (
            f'arch is {arch!r}; choose among {", ".join(ARCHS)}, or give the arguments '
            f'of Hiera as a dict'
        )
        raise ValueError(msg)
    return ARCHS[arch]


def _checked_indices(indices: Sequence[int], num_stages: int) -> tuple[int, ...]:
    """Stages in increasing order, each once."""
    if not indices or list(indices) != sorted(set(indices) & set(range(num_stages))):
        msg = (
            f'out_indices is {tuple(indices)}; give stages from 0 to {num_stages - 1} '
            f'in increasing order'
        )
        raise ValueError(msg)
    return tuple(indices)


ExtraConvs = Literal[False, 'on_input', 'on_output']


@MODELS.register_module()
class HieraPyramid(HieraFPN):
    """SAM 2's feature pyramid with the options of mmdetection's ``FPN``.

    A 1 x 1 convolution per level, and a top-down path for the coarse levels only. It
    has the names and weights of SAM 2's ``image_encoder.neck``, and takes maps of any
    size.

    Args:
        in_channels: Channels of the backbone's maps, finest first.
        out_channels: C, channels of the outputs. The released weights have 256.
        start_level: First map that is used; the finer ones are ignored.
        num_outs: Number of outputs; None for one per level. Further levels, each of
            half the size, are added after the coarsest one.
        add_extra_convs: How further levels are computed: by 3 x 3 convolutions of
            stride 2 on the coarsest map of the backbone (``'on_input'``) or of the
            pyramid (``'on_output'``), or by subsampling the coarsest output (False).
        top_down_levels: Levels, counted as ``in_channels``, to which the next coarser
            output is added. In the release only stride 16, level 2, gets one.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`. Weights of
            levels that are not used are left out, and extra convolutions stay as they
            are.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> neck = HieraPyramid(in_channels=(16, 32), out_channels=8, num_outs=3)
        >>> outputs = neck([torch.rand(1, 16, 25, 19), torch.rand(1, 32, 13, 10)])
        >>> [tuple(maps.shape) for maps in outputs]
        [(1, 8, 25, 19), (1, 8, 13, 10), (1, 8, 7, 5)]
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        out_channels: int = 256,
        start_level: int = 0,
        num_outs: int | None = None,
        add_extra_convs: ExtraConvs = False,
        top_down_levels: Sequence[int] = (2, 3),
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        num_maps = len(in_channels)
        if not 0 <= start_level < num_maps:
            msg = f'start_level is {start_level}; give a level from 0 to {num_maps - 1}'
            raise ValueError(msg)
        num_levels = num_maps - start_level
        if num_outs is not None and num_outs < num_levels:
            msg = (
                f'num_outs is {num_outs}, but {num_levels} levels begin at start_level='
                f'{start_level}; give at least {num_levels}, or fewer in_channels'
            )
            raise ValueError(msg)
        if add_extra_convs not in {False, 'on_input', 'on_output'}:
            msg = (
                f"add_extra_convs is {add_extra_convs!r}; give 'on_input', 'on_output' "
                f'or False'
            )
            raise ValueError(msg)
        super().__init__(
            in_channels=in_channels[start_level:],
            out_channels=out_channels,
            top_down_levels=[
                level - start_level for level in top_down_levels if level >= start_level
            ],
            init_cfg=init_cfg,
        )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.start_level = start_level
        self.num_extra_levels = (num_outs or num_levels) - num_levels
        self.add_extra_convs = add_extra_convs
        first = in_channels[-1] if add_extra_convs == 'on_input' else out_channels
        self.extra_convs = nn.ModuleList(
            nn.Conv2d(
                out_channels if index else first,
                out_channels,
                kernel_size=3,
                stride=2,
                padding=1,
            )
            for index in range(self.num_extra_levels if add_extra_convs else 0)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute the pyramid.

        Args:
            maps: Of the backbone, finest first, each (B, C_i, H_i, W_i).

        Returns:
            ``num_outs`` maps, finest first, each (B, C, H_i, W_i).

        Raises:
            ValueError: If there is not one map for each entry of ``in_channels``.
        """
        if len(maps) != len(self.in_channels):
            msg = (
                f'Expected {len(self.in_channels)} maps, one for each of in_channels, '
                f'but got {len(maps)}; set out_indices of the backbone'
            )
            raise ValueError(msg)
        outputs = super().forward(maps[self.start_level :])
        coarsest = maps[-1] if self.add_extra_convs == 'on_input' else outputs[-1]
        for index in range(self.num_extra_levels):
            if self.add_extra_convs:
                coarsest = self.extra_convs[index](coarsest)
            else:
                coarsest = coarsest[:, :, ::2, ::2]
            outputs = (*outputs, coarsest)
        return outputs

    def checkpoint_state(self) -> dict[str, Tensor]:
        """Names and shapes of the released pyramid, which has all levels."""
        with torch.device('meta'):
            whole = HieraFPN(
                in_channels=self.in_channels,
                out_channels=self.out_channels,
                top_down_levels=(),
            )
        state: dict[str, Tensor] = whole.state_dict()
        return state
