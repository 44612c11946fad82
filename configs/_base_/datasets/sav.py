"""SA-V: trains on the mp4 files, validates on extracted frames."""

_base_ = '../pipelines/clips.py'

data_root = 'data/sav'
train_dataloader = dict(
    dataset=dict(
        type='ClipSAVDataset',
        data_root=data_root,
        frame_folder='sav_train',
        annotation_folder='sav_train',
        kinds=('manual', 'auto'),
        pipeline={{_base_.train_pipeline}},
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset=dict(
            type='ClipObjectFolderDataset',
            data_root=data_root,
            frame_folder='sav_val/JPEGImages_24fps',
            mask_folder='sav_val/Annotations_6fps',
            file_list='sav_val/sav_val.txt',
        ),
    ),
)
test_dataloader = val_dataloader
