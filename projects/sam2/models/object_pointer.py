"""Object pointers: a token for each object on each frame (Ravi et al., section 4)."""

from typing import Literal, get_args

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from .layers import MLP, sine_encoding_1d
from .memory_bank import MemorySelection

TimeEncoding = Literal['none', 'signed', 'unsigned']
TIME_ENCODINGS: tuple[str, ...] = get_args(TimeEncoding)


@MODELS.register_module()
class SAM2ObjectPointer(nn.Module):
    """Makes object pointers, and the memory tokens that they are attended as.

    Args:
        embed_dims: C, channels of the decoder's tokens.
        memory_dims: Cm, channels of a memory; divides C.
        time_encoding: How a pointer's distance in time is told: ``'none'`` (SAM 2),
            ``'signed'`` (SAM 2.1) or ``'unsigned'``.

    Raises:
        ValueError: If ``memory_dims`` does not divide ``embed_dims``, or the time
            encoding is unknown.
    """

    def __init__(
        self,
        *,
        embed_dims: int = 256,
        memory_dims: int = 64,
        time_encoding: TimeEncoding = 'signed',
    ) -> None:
        super().__init__()
        if embed_dims % memory_dims:
            msg = f'memory_dims {memory_dims} must divide embed_dims {embed_dims}'
            raise ValueError(msg)
        if time_encoding not in TIME_ENCODINGS:
            msg = f'time_encoding is {time_encoding!r}; give one of {TIME_ENCODINGS}'
            raise ValueError(msg)
        self.embed_dims = embed_dims
        self.memory_dims = memory_dims
        self.time_encoding = time_encoding
        self.projection = MLP(
            in_dims=embed_dims,
            hidden_dims=embed_dims,
            out_dims=embed_dims,
            num_layers=3,
        )
        self.no_object_pointer = nn.Parameter(torch.zeros(1, embed_dims))
        nn.init.trunc_normal_(self.no_object_pointer, std=0.02)
        self.time_projection = (
            None if time_encoding == 'none' else nn.Linear(embed_dims, memory_dims)
        )

    def forward(self, mask_token: Tensor, present: Tensor) -> Tensor:
        """Turn the decoder's mask tokens into object pointers.

        Args:
            mask_token: (O, C).
            present: Is the object in the frame?, (O, 1), bool.

        Returns:
            (O, C); an absent object gets the learned no-object pointer.
        """
        return self.blend(self.projection(mask_token), present)

    def blend(self, pointer: Tensor, present: Tensor) -> Tensor:
        """Replace the pointers of absent objects by the no-object pointer.

        Args:
            pointer: (O, C).
            present: (O, 1), bool.

        Returns:
            (O, C).
        """
        weight = present.to(pointer.dtype)
        return weight * pointer + (1 - weight) * self.no_object_pointer

    def tokens(self, selection: MemorySelection) -> tuple[Tensor, Tensor]:
        """Pointers as tokens of the memory, each split into C / Cm tokens.

        Returns:
            Tokens (O, N, Cm) and their position encoding, (1, N, Cm) where the
            objects' pointers are as old as each other's, else (O, N, Cm).
        """
        pointers = torch.stack([p.pointer for p in selection.pointers], dim=1)
        num_objects, num_pointers, _ = pointers.shape
        parts = self.embed_dims // self.memory_dims
        tokens = pointers.reshape(num_objects, num_pointers * parts, self.memory_dims)
        if self.time_projection is None:
            return tokens, tokens.new_zeros(1, tokens.shape[1], self.memory_dims)
        shared = all(isinstance(p.time_offset, int) for p in selection.pointers)
        columns = [p.offsets(1 if shared else num_objects) for p in selection.pointers]
        offsets = torch.tensor(columns, dtype=torch.float32).T
        offsets = offsets.to(tokens.device, non_blocking=True)
        if self.time_encoding == 'unsigned':
            offsets = offsets.abs()
        # A horizon of one pointer has no distance to scale by.
        moments = offsets / max(selection.max_pointers - 1, 1)
        encoding = sine_encoding_1d(moments.flatten(), self.embed_dims)
        position = self.time_projection(encoding.to(tokens.dtype))
        rows = position.unflatten(0, moments.shape)  # (1 | O, pointers, Cm)
        return tokens, rows.repeat_interleave(parts, dim=1)
