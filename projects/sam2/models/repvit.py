"""RepViT: the convolutional backbone of EdgeTAM (Wang et al., 2024).

Each block mixes neighbouring cells by depthwise convolutions and then the channels of
each cell. ``EdgeTAMRepViT`` is trained with a BatchNorm after each convolution;
:meth:`EdgeTAMRepViT.fuse` merges them for prediction.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from typing_extensions import Self

from .layers import checkpoint
from .pretrained import PretrainedModule

IMAGE_MULTIPLE = 32  # stride of the coarsest map
BatchNorm = nn.modules.batchnorm._BatchNorm  # noqa: SLF001  SyncBatchNorm as well
EXPANSION = 2  # of the channels within a channel mixer
GATE_REDUCTION = 4
GATE_MULTIPLE = 8  # of the channels within a gate


@MODELS.register_module()
class EdgeTAMRepViT(PretrainedModule):
    """Convolutional backbone, RepViT-M1 by default.

    Args:
        embed_dims: Channels of each stage.
        depths: Number of blocks of each stage.
        norm_eval: Keep the statistics of all BatchNorms in training, as MM's backbones
            do: for batches whose frames are few or alike, such as those of one clip.
        init_cfg: MMEngine's initialisation; see :class:`PretrainedModule`.

    Raises:
        ValueError: If there is not one depth for each stage.
    """

    checkpoint_part = 'image_encoder.backbone.'

    def __init__(
        self,
        *,
        embed_dims: Sequence[int] = (48, 96, 192, 384),
        depths: Sequence[int] = (2, 2, 14, 2),
        norm_eval: bool = False,
        init_cfg: dict[str, object] | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if len(embed_dims) != len(depths):
            msg = (
                f'embed_dims {tuple(embed_dims)} and depths {tuple(depths)} differ in '
                f'length; give one of each for each stage'
            )
            raise ValueError(msg)
        self.with_cp = False  # recompute each block in the backward pass
        self.norm_eval = norm_eval
        self.stem = nn.Sequential(
            ConvNorm(3, embed_dims[0] // 2, kernel_size=3, stride=2),
            nn.GELU(),
            ConvNorm(embed_dims[0] // 2, embed_dims[0], kernel_size=3, stride=2),
        )
        self.stages: Sequence[RepViTStage] = nn.ModuleList(  # type: ignore[assignment]
            RepViTStage(
                in_dims=embed_dims[max(stage - 1, 0)],
                embed_dims=embed_dims[stage],
                depth=depth,
                downsamples=stage > 0,
            )
            for stage, depth in enumerate(depths)
        )

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return sum(len(stage.blocks) for stage in self.stages)

    def layer_of(self, parameter_name: str) -> int:
        """Depth of a parameter, for learning rates that decay with depth.

        Returns:
            0 for the stem, ``i + 1`` for block ``i``, counted through all stages; a
            downsampling block belongs to the block after it.
        """
        names = parameter_name.split('.')
        if names[0] != 'stages':
            return 0
        before = sum(len(stage.blocks) for stage in self.stages[: int(names[1])])
        return before + (int(names[3]) if names[2] == 'blocks' else 0) + 1

    def train(self, mode: bool = True) -> Self:
        """Set training mode, except for the norms if they keep their statistics."""
        super().train(mode)
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, BatchNorm):
                    module.eval()
        return self

    def fuse(self) -> Self:
        """Merge convolutions with their norms, and the branches of token mixers.

        For prediction: outputs stay the same up to rounding, with half of the layers.
        The weights then have other names, so load and save checkpoints before.

        Returns:
            The backbone itself, changed in place.

        Raises:
            RuntimeError: If the backbone is in training mode.
        """
        norms = [module for module in self.modules() if isinstance(module, BatchNorm)]
        if any(norm.training for norm in norms):
            msg = 'A backbone in training mode cannot be fused; call eval() first'
            raise RuntimeError(msg)
        for module in self.modules():
            if isinstance(module, TokenMixer):
                module.fuse()
        for module in self.modules():
            if isinstance(module, ConvNorm):
                module.fuse()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps of all stages.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            The map of each stage, finest first: (B, 48, H4, W4), (B, 96, H8, W8),
            (B, 192, H16, W16), (B, 384, H32, W32).

        Raises:
            ValueError: If the sides of the images are no multiples of 32.
        """
        height, width = images.shape[-2:]
        if height % IMAGE_MULTIPLE or width % IMAGE_MULTIPLE:
            msg = (
                f'Expected images in a multiple of {IMAGE_MULTIPLE} pixels, but got '
                f'{height} x {width}; resize or pad them'
            )
            raise ValueError(msg)
        maps: Tensor = self.stem(images)
        outputs = []
        for stage in self.stages:
            for block in (stage.downsample, *stage.blocks):
                maps = _run(block, maps, recompute=self.with_cp)
            outputs.append(maps)
        return tuple(outputs)


def _run(block: nn.Module, maps: Tensor, *, recompute: bool) -> Tensor:
    """Run a block; the backward pass recomputes it if it is to."""
    num_calls = 0

    def call(maps: Tensor) -> Tensor:
        nonlocal num_calls
        num_calls += 1
        # The second call must not move the running statistics again.
        with _kept_statistics(block, enabled=num_calls > 1):
            output: Tensor = block(maps)
            return output

    return checkpoint(call, maps, enabled=recompute)


@contextmanager
def _kept_statistics(block: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Normalise with the statistics of the batch without recording them."""
    norms = [
        module
        for module in block.modules()
        if enabled and isinstance(module, BatchNorm) and module.training
    ]
    before = [
        (norm.momentum, norm.get_buffer('num_batches_tracked').clone())
        for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.get_buffer('num_batches_tracked').copy_(count)


class RepViTStage(nn.Module):
    """Blocks of one resolution, and the one before them that halves the map.

    Args:
        in_dims: Channels of the stage before.
        embed_dims: Channels of this stage.
        depth: Number of blocks.
        downsamples: Halve the map; in all stages but the first.
    """

    def __init__(
        self, *, in_dims: int, embed_dims: int, depth: int, downsamples: bool
    ) -> None:
        super().__init__()
        self.downsample: nn.Module = (
            RepViTDownsample(in_dims=in_dims, embed_dims=embed_dims)
            if downsamples
            else nn.Identity()
        )
        self.blocks = nn.ModuleList(
            # Every second block gates its channels.
            RepViTBlock(embed_dims=embed_dims, has_gate=index % 2 == 0)
            for index in range(depth)
        )


class RepViTDownsample(nn.Module):
    """Halves the map and changes its channels, between two channel mixers.

    Args:
        in_dims: Channels of the input.
        embed_dims: Channels of the output.
    """

    def __init__(self, *, in_dims: int, embed_dims: int) -> None:
        super().__init__()
        self.block = RepViTBlock(embed_dims=in_dims, has_gate=False)
        self.depthwise = ConvNorm(
            in_dims, in_dims, kernel_size=3, stride=2, groups=in_dims
        )
        self.pointwise = ConvNorm(in_dims, embed_dims)
        self.channel_mixer = ChannelMixer(embed_dims)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, Cin, h, w) -> (B, C, h / 2, w / 2)."""
        maps = self.pointwise(self.depthwise(self.block(maps)))
        mixed: Tensor = self.channel_mixer(maps)
        return maps + mixed


class RepViTBlock(nn.Module):
    """Mixes neighbouring cells, then the channels of each cell.

    Args:
        embed_dims: C.
        has_gate: Scale the channels between the two by a gate.
    """

    def __init__(self, *, embed_dims: int, has_gate: bool) -> None:
        super().__init__()
        self.token_mixer = TokenMixer(embed_dims)
        self.gate: nn.Module = ChannelGate(embed_dims) if has_gate else nn.Identity()
        self.channel_mixer = ChannelMixer(embed_dims)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        maps = self.gate(self.token_mixer(maps))
        mixed: Tensor = self.channel_mixer(maps)
        return maps + mixed


class TokenMixer(nn.Module):
    """Two depthwise convolutions and a shortcut, which fuse to one (Ding et al., 2021).

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.conv3x3 = ConvNorm(
            embed_dims, embed_dims, kernel_size=3, groups=embed_dims
        )
        self.conv1x1: ConvNorm | None = ConvNorm(
            embed_dims, embed_dims, groups=embed_dims
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mixed: Tensor = self.conv3x3(maps)
        if self.conv1x1 is None:  # fused
            return mixed
        pointwise: Tensor = self.conv1x1(maps)
        return mixed + pointwise + maps

    @torch.no_grad()
    def fuse(self) -> None:
        """Merge both branches and the shortcut into the larger convolution."""
        if self.conv1x1 is None:
            return
        self.conv3x3.fuse()
        self.conv1x1.fuse()
        conv, pointwise = self.conv3x3.conv, self.conv1x1.conv
        centre = pointwise.weight + 1  # the shortcut is a convolution by 1
        conv.weight += functional.pad(centre, (1, 1, 1, 1))
        conv.bias += pointwise.bias  # type: ignore[operator]  # fused ones have a bias
        self.conv1x1 = None


class ChannelGate(nn.Module):
    """Scales channels by what their means over the map say (squeeze and excitation).

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        # The nearest multiple, halves rounded up.
        multiple = (embed_dims // GATE_REDUCTION + GATE_MULTIPLE // 2) // GATE_MULTIPLE
        hidden_dims = GATE_MULTIPLE * max(multiple, 1)
        self.reduce = nn.Conv2d(embed_dims, hidden_dims, kernel_size=1)
        self.expand = nn.Conv2d(hidden_dims, embed_dims, kernel_size=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        means = maps.mean(dim=(2, 3), keepdim=True)
        gates: Tensor = self.expand(self.reduce(means).relu())
        return maps * gates.sigmoid()


class ChannelMixer(nn.Module):
    """A feed-forward network on the channels of each cell.

    Args:
        embed_dims: C.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.expand = ConvNorm(embed_dims, EXPANSION * embed_dims)
        self.activation = nn.GELU()
        self.reduce = ConvNorm(EXPANSION * embed_dims, embed_dims)
        # Blocks begin as the identity.
        nn.init.zeros_(self.reduce.norm.get_parameter('weight'))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        mixed: Tensor = self.reduce(self.activation(self.expand(maps)))
        return mixed


class ConvNorm(nn.Module):
    """A convolution without bias, and BatchNorm.

    Args:
        in_dims: Channels of the input.
        out_dims: Channels of the output.
        kernel_size: Odd; the map keeps its size where ``stride`` is 1.
        stride: Of the convolution.
        groups: Of the convolution.
    """

    def __init__(
        self,
        in_dims: int,
        out_dims: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_dims,
            out_dims,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norm: nn.BatchNorm2d | nn.Identity = nn.BatchNorm2d(out_dims)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, Cin, h, w) -> (B, Cout, h / stride, w / stride)."""
        normed: Tensor = self.norm(self.conv(maps))
        return normed

    def fuse(self) -> None:
        """Merge the norm into the convolution."""
        if not isinstance(self.norm, nn.Identity):
            self.conv = fuse_conv_bn_eval(self.conv, self.norm)
            self.norm = nn.Identity()
