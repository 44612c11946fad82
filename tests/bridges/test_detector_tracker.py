"""Detect and track as a model of mmdetection, on its video datasets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from projects.sam2.checkpoints import CheckpointMismatchError
from projects.sam2.datasets.processing.shapes_export import write_shapes
from projects.sam2.datasets.sources.shapes import CLASSES
from projects.sam2.installation import WEIGHTS
from text_detectors import write_rtmdet

pytest.importorskip('mmdet', reason='mmdet is not installed')
pytestmark = pytest.mark.filterwarnings('ignore')  # of the other packages

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / 'mmdet'
SAM2_MINI: dict[str, Any] = {
    'sam2': str(WEIGHTS / 'sam2_mini_cells.py'),
    'sam2_checkpoint': str(WEIGHTS / 'sam2_mini.pth'),
}
NUM_FRAMES = 12


@pytest.fixture(autouse=True)
def mmdet_scope() -> Iterator[None]:
    """The default scope of configs of mmdetection."""
    from projects.sam2.bridges import mmdet  # noqa: F401, PLC0415  registers all parts

    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture(scope='module')
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two clips of shapes."""
    root = tmp_path_factory.mktemp('shapes')
    write_shapes(
        root,
        {'train': 1, 'val': 2},
        num_frames=NUM_FRAMES,
        side=64,
        seed=0,
        advance=lambda *_: None,
    )
    return root


def videos_of(root: Path, **changes: Any) -> Any:
    """The validation videos, as ``track_videos.py`` loads them."""
    cfg = Config.fromfile(CONFIGS.parent / '_base_' / 'mmdet' / 'track_videos.py')
    return DATASETS.build(
        {
            **cfg.test_dataloader.dataset,
            'type': 'BaseVideoDataset',
            'data_root': str(root),
            'ann_file': 'instances_val.json',
            'data_prefix': {'img_path': 'images'},
            'metainfo': {'classes': CLASSES},
            **changes,
        }
    )


def tracker_of(**options: Any) -> Any:
    """A tracker of the ground truth, or of a detector."""
    torch.manual_seed(0)  # whether an untrained SAM 2 sees an object is left to chance
    settings = {'detector': None, 'oracle': 'masks', 'classes': CLASSES, **SAM2_MINI}
    model: Any = MODELS.build({'type': 'SAM2DetectorTracker', **settings, **options})
    return model.eval()


def predict(model: Any, item: Any) -> Any:
    """Predict an item of a dataset as mmdetection's test loop does."""
    (sample,) = model.test_step(pseudo_collate([item]))
    return sample.video_data_samples


def test_frames_one_by_one_give_the_tracks_of_whole_videos(shapes: Path) -> None:
    videos = videos_of(shapes)
    # Only a detector's classes are mapped.
    model = tracker_of(
        prompts='masks', rules={'match_iou': 0.2}, class_map={'person': 'disk'}
    )
    for video in range(2):
        whole = predict(model, videos[video])
        assert len(whole) == NUM_FRAMES
        for frame_index, expected in enumerate(whole):
            (frame,) = predict(model, videos[video, frame_index])
            tracks, truth = frame.pred_track_instances, expected.pred_track_instances
            for name in ('instances_id', 'bboxes', 'scores', 'labels', 'masks'):
                assert torch.equal(tracks[name], truth[name])
        first = whole[0].pred_track_instances
        annotated = whole[0].gt_instances
        assert sorted(first.labels.tolist()) == sorted(annotated.labels.tolist())
        assert first.masks.shape[1:] == whole[0].ori_shape


def test_boxes_of_the_truth_prompt_sam2_on_frames_of_rgb(shapes: Path) -> None:
    videos = videos_of(shapes)
    (frame,) = predict(tracker_of(oracle='boxes'), videos[0, 0])
    from_bgr = frame.pred_track_instances
    assert 0 < len(from_bgr) <= len(frame.gt_instances.labels)

    item = videos[0, 0]
    item['inputs'] = item['inputs'].flip(1)
    (frame,) = predict(tracker_of(oracle='boxes', bgr_to_rgb=False), item)
    assert torch.equal(from_bgr.masks, frame.pred_track_instances.masks)


def test_a_detector_of_another_dataset_is_mapped_to_the_classes(
    shapes: Path, tmp_path: Path
) -> None:
    detector = write_rtmdet(tmp_path, classes=('blob', 'square', 'thing'))
    model = tracker_of(
        detector=detector,
        oracle=None,
        class_map={'blob': 'disk'},
        score_thr=0.0,
        rules={'start_score': 0.0, 'max_objects': 4},
    )
    assert model.labels == [0, 1, -1]
    (frame,) = predict(model, videos_of(shapes)[0, 0])
    tracks = frame.pred_track_instances
    assert 0 < len(tracks) <= 4
    assert set(tracks.labels.tolist()) <= {0, 1}


def test_a_checkpoint_must_fill_every_part_that_has_no_weights(tmp_path: Path) -> None:
    detector = write_rtmdet(tmp_path, classes=CLASSES)
    with pytest.raises(ValueError, match='predicts 4 classes, but 2 are named'):
        tracker_of(detector=detector, oracle=None, detector_classes=CLASSES[:2])
    model = tracker_of(detector=detector, oracle=None)
    weights = {k: v + 1 for k, v in model.detector.state_dict().items()}
    sam2 = {key: value.clone() for key, value in model.sam2.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match='detector'):
        model.load_state_dict(model.sam2.state_dict(), strict=False)
    model.load_state_dict(dict(weights), strict=False)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[f'detector.{k}'], v) for k, v in weights.items())
    assert all(torch.equal(loaded[f'sam2.{k}'], v) for k, v in sam2.items())


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((('a', 'b'), ('c',), {}), 'knows none of the classes c, but a, b'),
        ((('a',), ('a',), {'x': 'a'}), "names 'x', which is not a class"),
        ((('a',), ('a',), {'a': 'z'}), "names 'z', which is not a class"),
    ],
)
def test_class_lists_that_do_not_match_are_named(arguments: Any, message: str) -> None:
    from projects.sam2.bridges.tracking import detector_tracker  # noqa: PLC0415

    with pytest.raises(ValueError, match=message):
        detector_tracker.map_classes(*arguments)


def test_a_class_that_means_something_else_is_dropped() -> None:
    from projects.sam2.bridges.tracking.detector_tracker import (  # noqa: PLC0415
        map_classes,
    )

    assert map_classes(('cat', 'mouse'), ('mouse', 'cat'), {'mouse': None}) == [1, -1]
    assert map_classes((), ('cat',), {}) is None


def test_bad_frames_are_refused_and_the_model_stays_usable(shapes: Path) -> None:
    videos = videos_of(shapes)
    model = tracker_of()
    predict(model, videos[0, 0])
    with pytest.raises(ValueError, match='Frame 3 came where frame 1'):
        predict(model, videos[0, 3])
    item = videos[0, 1]
    item['inputs'] = item['inputs'].float() / 255
    with pytest.raises(ValueError, match='normalised; leave mean and std out'):
        predict(model, item)
    item = videos[0, 1]
    item['data_samples'].video_data_samples[0].set_metainfo({'img_shape': (32, 32)})
    with pytest.raises(ValueError, match='leave Resize out of the pipeline'):
        predict(model, item)
    with pytest.raises(ValueError, match='set batch_size=1'):
        model.test_step(pseudo_collate([videos[0, 1], videos[0, 1]]))
    (frame,) = predict(model, videos[0, 1])
    assert frame.frame_id == 1
    assert 'pred_track_instances' in frame


def test_an_oracle_needs_annotations(shapes: Path) -> None:
    load = {
        'type': 'TransformBroadcaster',
        'transforms': [{'type': 'LoadImageFromFile'}],
    }
    videos = videos_of(shapes, pipeline=[load, {'type': 'PackTrackInputs'}])
    with pytest.raises(ValueError, match='LoadTrackAnnotations'):
        predict(tracker_of(), videos[0, 0])
    with pytest.raises(ValueError, match='neither a detector nor an oracle'):
        tracker_of(oracle=None)


def test_training_names_what_to_train_instead(shapes: Path) -> None:
    model = tracker_of()
    with pytest.raises(NotImplementedError, match='train the detector by its own'):
        model.forward(torch.zeros(1, 1, 3, 64, 64), [], mode='loss')


@pytest.mark.parametrize(
    'path', sorted(CONFIGS.glob('sam2_track_*.py')), ids=lambda path: path.stem
)
def test_configs_are_complete(path: Path) -> None:
    cfg = Config.fromfile(path)
    if 'test_dataloader' in cfg and cfg.model.type == 'SAM2DetectorTracker':
        classes = cfg.model.classes
        dataset = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True})
        assert tuple(dataset.metainfo['classes']) == tuple(classes)
        assert set(filter(None, cfg.model.get('class_map', {}).values())) <= {*classes}
        assert cfg.model.sam2.startswith('sam2') or Path(cfg.model.sam2).suffix
