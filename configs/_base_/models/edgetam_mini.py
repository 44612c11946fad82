"""A small EdgeTAM at 128 px, to be trained from random weights on a CPU.

It has every part of the released model; the choices for training are those of
``sam2_1_mini.py``.
"""

_base_ = './sam2_1_mini.py'

embed_dims = 64
memory_dims = 16
# Tokens of a memory: 16 for the whole map, and 4 x 4 for its windows of 2 x 2 cells.
num_global = 16
grid_size = 4

model = dict(
    image_encoder=dict(
        backbone=dict(
            _delete_=True,
            type='EdgeTAMRepViT',
            embed_dims=(16, 32, 64, 128),
            depths=(1, 1, 2, 1),
        ),
    ),
    tracker=dict(
        type='EdgeTAMTracker',
        perceiver=dict(
            type='EdgeTAMPerceiver',
            memory_dims=memory_dims,
            feedforward_dims=4 * memory_dims,
            num_global=num_global,
            grid_size=grid_size,
        ),
        memory_attention=dict(
            cross_attention=dict(
                type='EdgeTAMCrossAttention',
                num_global=num_global,
                grid_size=grid_size,
            )
        ),
        object_pointer=dict(time_encoding='none'),
        no_object_embedding=False,
    ),
)
