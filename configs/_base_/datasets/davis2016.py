"""DAVIS 2016 at 480p: one object a clip, written as 255."""

_base_ = '../pipelines/clips.py'

data_root = 'data/DAVIS2016'
# The lists of 2016 name pairs of files: all clips, but for those of the other set.
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
