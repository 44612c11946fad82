"""What a user may choose for a project, and its files; imports nothing heavy."""

from collections.abc import Mapping

CONFIG, TRAIN_LIST, VAL_LIST = 'config.py', 'train.txt', 'val.txt'
LEFT_OUT_LIST = 'left_out.txt'

# Name of each layout of data: what it looks like.
LAYOUTS: Mapping[str, str] = {
    'davis': 'JPEGImages/<clip>/*.jpg (or <clip>.mp4) and Annotations/<clip>/*.png',
    'object-folders': 'as davis, with Annotations/<clip>/<object>/*.png',
    'video': 'one video (an mp4, or a folder of frames) and a folder of its masks',
    'sav': '<clip>.mp4 with <clip>_manual.json or <clip>_auto.json',
    'youtube-vis': 'a JSON file with "videos" and "annotations", and their frames',
    'coco': 'a JSON file with "images" and "annotations", and the images',
    'labelme': '<image>.jpg with <image>.json that holds "shapes"',
    'sa1b': '<image>.jpg with <image>.json that holds "annotations" and "image"',
    'label-images': 'images/<name>.jpg and labels/<name>.png',
}
VIDEO_LAYOUTS = ('davis', 'object-folders', 'video', 'sav', 'youtube-vis')

# Sizes of the model: part of the name of its config, and name of the released weights.
SIZES: Mapping[str, tuple[str, str | None]] = {
    'mini': ('mini', None),
    'tiny': ('tiny', 'sam2.1_hiera_tiny'),
    'small': ('small', 'sam2.1_hiera_small'),
    'base+': ('bplus', 'sam2.1_hiera_base_plus'),
    'large': ('large', 'sam2.1_hiera_large'),
}
OTHER_SIZE_NAMES = {
    'bplus': 'base+',
    'base_plus': 'base+',
    'base-plus': 'base+',
    'b+': 'base+',
    'base': 'base+',
    't': 'tiny',
    's': 'small',
    'l': 'large',
}
