"""EdgeTAM, stage 2: 8 frames of SA-V, and SA-1B, with both features of the teacher.

Second-hand (see ``_base_/distillation/edgetam.py``): 130,000 steps of 256 clips, a
tenth of them images, both losses, and the augmentation, which is that of SAM 2's
fine-tuning. Of the data, one table names SA-V, SA-1B, DAVIS, MOSE and YouTube-VOS, one
paragraph SA-V and SA-1B only, as here. Proportions are counted in batches, of 8 images
or a clip for each process; an epoch is about a thousand steps of 256 processes.
"""

_base_ = [
    './_base_/distillation/edgetam.py',
    './_base_/mixtures/sa1b_sav.py',
    './_base_/schedules/edgetam.py',
    './_base_/default_runtime.py',
]

# SA-V is shown 248 times while SA-1B is shown once: a tenth of the batches are images.
train_dataloader = dict(batch_sampler=dict(repeats=(1, 248), num_phases=55))
train_cfg = dict(max_epochs=130, val_interval=10)

load_from = 'work_dirs/edgetam_sa1b_distill/epoch_2.pth'
