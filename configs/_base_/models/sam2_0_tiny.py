"""SAM 2 tiny: SAM 2.1 without no-object embedding and temporal pointer encoding."""

_base_ = './sam2_1_tiny.py'

model = dict(
    tracker=dict(
        object_pointer=dict(time_encoding='none'),
        no_object_embedding=False,
    )
)
