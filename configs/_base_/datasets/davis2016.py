"""DAVIS 2016 at 480p: one object per clip, whose label is 255."""

_base_ = '../pipelines/clips.py'

data_root = 'data/DAVIS2016'
# The split lists of 2016 contain pairs of files, not clips: train on all clips that are
# not in val.txt.
source = dict(
    type='ClipPaletteDataset',
    data_root=data_root,
    frame_folder='JPEGImages/480p',
    mask_folder='Annotations/480p',
    void_label=None,
)
train_dataloader = dict(
    dataset=dict(exclude_list='val.txt', pipeline={{_base_.train_pipeline}}, **source)
)
val_dataloader = dict(dataset=dict(dataset=dict(file_list='val.txt', **source)))
test_dataloader = val_dataloader
