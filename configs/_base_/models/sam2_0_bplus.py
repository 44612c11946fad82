"""SAM 2 base+: without what 2.1 adds, the no-object memory and the time of pointers."""

_base_ = './sam2_1_bplus.py'

model = dict(
    tracker=dict(
        object_pointer=dict(time_encoding='none'),
        no_object_embedding=False,
    )
)
