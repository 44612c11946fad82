"""EfficientTAM-Ti at 512 pixels."""

_base_ = './efficienttam_ti.py'

image_size = (512, 512)
model = dict(data_preprocessor=dict(image_size=image_size))
