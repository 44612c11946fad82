# ruff: noqa: E501  pieces of code stand as they are
"""Breaks the code in small ways, one at a time, and asks whether a test notices.

    python tests/mutants.py                  # all mutants, about half an hour
    python tests/mutants.py MemoryBank loss  # those whose function contains a word
    python tests/mutants.py --check          # only whether each still finds its code

Each mutant names a function and replaces a piece of its source, in a copy of the
repository. First the test files that mention what the mutant is about run, then all
tests of the mutated package. A mutant that survives both is a claim without a test.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path('projects/sam2')
NOT_COPIED = ('.git', '.venv', 'work_dirs', '.mypy_cache', '.ruff_cache', '__pycache__')
TIME_LIMIT = 900  # seconds for the tests of a mutant


@dataclass(frozen=True)
class Mutant:
    """A small break.

    Attributes:
        function: Qualified name of what is broken, ``Class.method`` or ``function``.
        old: A piece of its source; white space does not count.
        new: What replaces it.
        mentions: Words whose test files run first, besides those of ``function``.
    """

    function: str
    old: str
    new: str
    mentions: tuple[str, ...] = ()


MUTANTS = (
    # memory: what a frame attends to, and what is kept
    Mutant(
        'MemoryBank.select',
        'self._nearest(tuple(store.conditioning), query.frame_index)',
        'tuple(store.conditioning)[: self.max_conditioning_frames]',
    ),
    Mutant('MemoryBank.tracked_frames', '(now - 2) // stride * stride', '(now - 2)'),
    Mutant(
        'MemoryBank.tracked_frames',
        '1 if query.mode is TrackingMode.TRAINING else self.stride',
        'self.stride',
    ),
    Mutant(
        'MemoryBank.evict_unreachable',
        'max(spatial_reach, self.max_pointers - 1)',
        'spatial_reach - 1',
    ),
    Mutant('MemoryBank._conditioning_pointers', 'offset >= 0', 'offset > 0'),
    Mutant(
        '_tracked_pointers',
        'range(1, max_pointers)',
        'range(1, max_pointers + 1)',
        ('MemoryBank',),
    ),
    Mutant('MemoryQuery.direction', '-1 if self.reverse else 1', '1', ('MemoryBank',)),
    Mutant(
        'MemoryBank.select',
        'min(query.num_video_frames, self.max_pointers)',
        'self.max_pointers',
    ),
    # the frame: memory attention, heads, memory encoder
    Mutant(
        'SAM2Tracker.condition_on_memory',
        'self.temporal_embedding[memory.age - 1]',
        'self.temporal_embedding[memory.age]',
    ),
    Mutant(
        'SAM2Tracker.encode_mask_memory',
        'mask_probs * MEMORY_MASK_SCALE + MEMORY_MASK_BIAS',
        'mask_probs * MEMORY_MASK_SCALE',
    ),
    Mutant(
        'SAM2Tracker.encode_mask_memory',
        '1 - present.to(memory.dtype)',
        'present.to(memory.dtype)',
    ),
    Mutant(
        'MaskDecoderOutput.best', 'self.ious.argmax(dim=1)', 'self.ious.argmin(dim=1)'
    ),
    Mutant(
        'is_ambiguous',
        'points.num_points <= MAX_AMBIGUOUS_POINTS',
        'points.num_points < MAX_AMBIGUOUS_POINTS',
    ),
    Mutant('SAMHeads.mask_pointer', 'pointers.blend(pointer, present)', 'pointer'),
    Mutant(
        'decode_frame',
        'steps[-1].mask_logits.detach()',
        'steps[0].mask_logits.detach()',
        ('track_frame', 'track_clip', 'golden'),
    ),
    Mutant(
        'encode_frame_memory',
        'task.query.mode is TrackingMode.EVALUATION',
        'True',
        ('track_frame', 'track_clip', 'golden'),
    ),
    Mutant(
        'track_clip',
        'frame in plan.conditioning_frames',
        'frame in plan.prompts',
        ('golden',),
    ),
    # the network
    Mutant(
        'rotary_table',
        '[x[:, None] / series, y[:, None] / series]',
        '[y[:, None] / series, x[:, None] / series]',
        ('RotaryAttention',),
    ),
    Mutant('rotate', '[second, first]', '[first, second]', ('RotaryAttention',)),
    Mutant('LayerNorm2d._normalise', 'variance + self.eps', 'variance'),
    Mutant('DropPath.forward', '.div_(keep_prob)', ''),
    Mutant(
        'DropoutMasks.draw',
        '>= self._threshold',
        '< self._threshold',
        ('Dropout', 'row_attention'),
    ),
    Mutant('mask_stability', 'threshold - offset', 'threshold', ('stability_scores',)),
    Mutant('FourierPositionEncoding.forward', '2 * positions - 1', 'positions'),
    Mutant('SAM2PromptEncoder.embed_points', 'coords + 0.5', 'coords'),
    Mutant(
        'HieraFPN.forward',
        'level in self.top_down_levels',
        'level not in self.top_down_levels',
    ),
    Mutant('Hiera._position', "mode='bicubic'", "mode='bilinear'"),
    Mutant('_bands', 'length % side', '0', ('Hiera', 'window')),
    Mutant(
        'MemorySelection.stacked_pointers',
        'self.max_pointers - 1',
        'self.max_pointers',
    ),
    Mutant('SAM2ObjectPointer.blend', '(1 - weight)', 'weight'),
    Mutant(
        'ClipDataPreprocessor.normalise',
        '(frames.float() - mean) / std',
        '(frames.float() - mean) * std',
    ),
    Mutant('SAM2Freezing.adapt', '- trained', '', ('SAM2Freezing',)),
    Mutant(
        '_pack',
        'result.version == tensor._version',
        'True',
        ('recompute_cheap_results',),
    ),
    # prompts and the loss
    Mutant(
        'SAM2PromptSimulator.plan',
        'rng.random() < self.box_probability',
        'rng.random() > self.box_probability',
    ),
    Mutant('SAM2PromptSimulator.plan', 'or num_frames == 1', ''),
    Mutant('_draw_count', 'endpoint=True', 'endpoint=False', ('SAM2PromptSimulator',)),
    Mutant(
        'focal_elements',
        '(2 * shape.alpha - 1) * positive',
        '(1 - 2 * shape.alpha) * positive',
        ('loss',),
    ),
    Mutant('dice_loss', '(2 * overlap + 1)', '(2 * overlap)', ('loss',)),
    Mutant(
        'SAM2MultiStepLoss._step_losses',
        'mask_loss.argmin(dim=1)',
        'mask_loss.argmax(dim=1)',
    ),
    Mutant('SAM2MultiStepLoss._step_losses', 'annotated & present', 'annotated'),
    Mutant('jitter_boxes', '.clamp(max=BOX_NOISE_LIMIT)', ''),
    Mutant(
        'sample_error_points',
        'up_to_row <= rank[:, None]',
        'up_to_row < rank[:, None]',
        ('sample_error_points', 'click'),
    ),
    Mutant(
        'center_error_points',
        'positive_depth > negative_depth',
        'positive_depth < negative_depth',
    ),
    # exported and fast models
    Mutant('ExportedTracker.condition_on_memory', '[m.age for m in', '[0 for m in'),
    Mutant('ExportedTracker.encode_memory', 'binary=binary)', 'binary=False)'),
    Mutant(
        'ExportedHeads.decode',
        'gate_masks(decoded.mask_logits, present)',
        'decoded.mask_logits',
    ),
    Mutant('ExportedHeads._decode', "'multi_ious' if multimask else 'iou'", "'iou'"),
    Mutant('_pooled_positions', 'ceil_mode=True', 'ceil_mode=False', ('key_pooling',)),
    # masks
    Mutant(
        'suppress_boxes',
        'areas[rest] + areas[best] - overlap',
        'areas[rest] + areas[best]',
    ),
    Mutant('non_overlapping', 'argmax', 'argmin'),
    Mutant(
        '_small_components',
        'areas <= max_area',
        'areas < max_area',
        ('small_components', 'fill_holes'),
    ),
    Mutant(
        'crops_of_image',
        'overlap * (per_side - 1) + width',
        'overlap + width',
        ('crops', 'automatic'),
    ),
    # data
    Mutant('ClipSampleFrames._sample', 'start if step > 0 else start + span', 'start'),
    Mutant(
        'ClipSampleFrames._sample',
        'min(len(visible), self.max_num_objects)',
        'len(visible)',
    ),
    Mutant(
        'ClipRandomAffine.draw',
        'keeps_all_objects(state.masklets[0], matrix, state.size)',
        'True',
    ),
    Mutant(
        'ClipMosaic.__call__', 'not np.array_equal(state.matrix, np.eye(3))', 'False'
    ),
    Mutant(
        'ClipPack.__call__',
        'or (first is not None and first.masks[index].any())',
        'or True',
    ),
    Mutant('ClipDataset._seeds', 'index.epoch, ', ''),
    Mutant(
        'CorruptClips._max_rejected',
        'if self.max_share == 0: return 0',
        '',
        ('max_bad_share',),
    ),
    Mutant(
        'split_labels',
        '{0, *void_labels}',
        '{0}',
        ('ClipPaletteDataset', 'read_labels'),
    ),
    Mutant(
        'ReadLimits.check_pixels',
        'height * width > self.max_pixels',
        'height * width < 0',
        ('max_pixels',),
    ),
    Mutant(
        'frame_key', '_number(token) if i % 2 else token', 'token', ('order_frames',)
    ),
    Mutant(
        'StridedVideoSource.annotated_frames',
        'if index in kept',
        'if index < len(kept)',
        ('ClipStrideDataset',),
    ),
    # the engine
    Mutant(
        'balance_videos',
        'key=lambda i: -lengths[i]',
        'key=lambda i: lengths[i]',
        ('ClipVideoSampler',),
    ),
    Mutant(
        'ClipSampler.__iter__',
        'self.seed * SEED_STRIDE + self.epoch',
        'self.seed',
        ('ClipSampler',),
    ),
    Mutant(
        'MixedDataset.batch',
        'phase * self.num_batches + batch_index',
        'batch_index',
        ('ClipMixBatchSampler',),
    ),
    Mutant(
        'SAM2OptimWrapperConstructor._layer_scale',
        'module.num_layers + 1 - module.layer_of(parameter_name)',
        'module.num_layers - module.layer_of(parameter_name)',
    ),
    Mutant('SAM2OptimWrapperConstructor.parameter_groups', "'bias' in name or", ''),
    Mutant(
        'FiniteGuard._step',
        'self._check_gradient(self._clip())',
        'self._clip()',
        ('ClipNonFiniteHook',),
    ),
    Mutant(
        'restore_random_state',
        "np.random.set_state(state['numpy'])",
        '',
        ('random_state',),
    ),
    Mutant(
        'SAM2CheckpointHook._save_checkpoint_with_step',
        '< len(self.kept_steps)',
        '<= len(self.kept_steps)',
    ),
    Mutant('ClipTrainLoop.run_epoch', 'and self._stop_requested()', 'and False'),
    Mutant('apply_data_root', "node['data_root'] in replaced", 'False'),
    # scores
    Mutant('boundary_radius', 'math.ceil(', 'int(', ('score_labels', 'golden')),
    Mutant('_f_measure', 'float(num_pred == num_truth)', '0.0', ('score_labels',)),
    Mutant('region_similarity', 'else 1.0', 'else 0.0'),
    Mutant('JFDavisProtocol.objects', '(is_last and self.skip_last)', 'False'),
    Mutant(
        'JFAppearanceProtocol.objects',
        'before if self.skip_first else self._reported',
        'self._reported',
    ),
    Mutant(
        'JFSAVProtocol.objects',
        'self._shown.update(truth_ids, pred_ids)',
        'self._shown.update(truth_ids)',
    ),
    Mutant(
        'score_decay',
        'np.mean(first) - np.mean(last)',
        'np.mean(last) - np.mean(first)',
        ('summarise',),
    ),
    # checkpoints
    Mutant(
        'check_values',
        'if not_floats or not_finite:',
        'if not_floats:',
        ('check_weights',),
    ),
    Mutant(
        '_differences',
        'if given[key].shape != expected[key].shape',
        'if False',
        ('check_weights',),
    ),
    Mutant(
        'find_weights', 'if own_name in weights:', 'if False:', ('read_checkpoint',)
    ),
    # pictures
    Mutant('choose_frames', '.round()', '.clip(0, 1)'),
    Mutant('object_color', '_PALETTE[object_id - 1]', '_PALETTE[0]'),
    Mutant('encode_gif', 'index % stride == 0', 'index == 0'),
    # what users call
    Mutant(
        '_check_type',
        'isinstance(value, bool) and kind is not bool',
        'False',
        ('hydra_overrides_extra', 'read_overrides'),
    ),
    Mutant(
        'SAM2Transforms.transform_coords',
        '[orig_hw[1], orig_hw[0]]',
        '[orig_hw[0], orig_hw[1]]',
    ),
    Mutant(
        'SAM2AutomaticMaskGenerator._keep_stable',
        'stabilities >= self.stability_score_thresh',
        'stabilities >= 0',
        ('stability_score_thresh',),
    ),
    Mutant(
        'ClipDataPreprocessor.point_prompt',
        '[width, height]',
        '[height, width]',
        ('SAM2ImagePredictor',),
    ),
    Mutant(
        'VideoSession._clear_around', 'obj.erase(frame)', 'pass', ('clear_non_cond',)
    ),
    Mutant(
        'TrackedObject.clear_prompts',
        'self.pending.pop(frame_index, None)',
        '',
        ('clear_all_prompts',),
    ),
    Mutant(
        'VideoSession.remove_object',
        'self.objects.pop(object_id, None)',
        'self.objects.get(object_id)',
        ('remove_object',),
    ),
    Mutant('fill_small_holes', 'max_area=max_area', 'max_area=0', ('fill_hole_area',)),
    # inside mmdetection and mmsegmentation
    Mutant('_overlap', 'ious > torch', 'ious >= 0.1 + torch', ('ensure_operators',)),
    Mutant('_ious', '(right - left + offset)', '(right - left)', ('operator_cases',)),
    Mutant('Regions.of', '0.5 if aligned else 0.0', '0.0', ('operator_cases',)),
    Mutant('HieraBackbone._freeze', '[num_stages - 1] + 1', '[num_stages - 1]'),
    Mutant('HieraBackbone.forward', '-(-height // stride)', 'height // stride'),
    Mutant('HieraPyramid.forward', 'maps[self.start_level :]', 'maps'),
    Mutant('SAM2SegLoss.forward', 'seg_label == ignore_index', 'seg_label < 0'),
    Mutant(
        'SAM2SemanticHead.forward',
        'stride_16 + self.image_embedding',
        'stride_16',
        ('sam2_semantic_',),
    ),
    Mutant('SAM2PromptMaskHead.forward', 'shift * size', 'shift', ('sam2_prompt_',)),
    Mutant('clean_boxes', 'corners.clamp(min=0)', 'corners', ('segment_boxes',)),
    Mutant(
        'decode_boxes',
        'start : start + boxes_per_batch',
        'start : start + 1',
        ('segment_boxes',),
    ),
    Mutant(
        'SAM2MaskDetector.add_masks',
        'instances.scores * segmented.ious',
        'segmented.ious',
    ),
    Mutant(
        'Detector.detect', 'detections.scores >= least', 'detections.scores > least'
    ),
    Mutant('split_phrases', r'\.(?!\d)', r'\.'),
    Mutant('seg_sample', '.flip(0)', ''),
    Mutant('associate', 'ious >= rules.match_iou', 'ious > 2', ('TrackRules',)),
    Mutant('associate', '< rules.correct_iou', '< 0', ('TrackRules',)),
    Mutant('Track.seen', '0 if visible else', '1 if visible else', ('TrackRules',)),
    Mutant('find_intruders', '-moved[row]', 'moved[row]', ('TrackRules',)),
    Mutant('make_room', '-track.num_absent', 'track.num_absent', ('TrackRules',)),
    Mutant(
        'DetectAndTrack._end_tracks',
        'self._state.remove_object(key)',
        'pass',
        ('TrackRules',),
    ),
    Mutant('match_tracks', 'np.maximum(union, 1)', '1', ('JFTrackMetric',)),
    Mutant('_read_frame', 'if not i.get', 'if i.get', ('JFTrackMetric',)),
)


def pattern(source: str) -> re.Pattern[str]:
    """Match a piece of source whatever its white space, trailing commas and quotes."""
    tokens = re.findall(r'\w+|[^\w\s]', source)
    return re.compile(r',?\s*'.join(map(re.escape, tokens)))


def functions(root: Path) -> Iterator[tuple[Path, str, int, int]]:
    """All functions of the package: file, qualified name, first and last line."""

    def below(
        node: ast.AST, path: Path, prefix: str
    ) -> Iterator[tuple[Path, str, int, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = prefix + child.name
                if isinstance(child, ast.FunctionDef):
                    yield path, name, child.lineno, child.end_lineno or child.lineno
                yield from below(child, path, f'{name}.')

    for path in sorted((root / PACKAGE).rglob('*.py')):
        yield from below(ast.parse(path.read_text('utf-8')), path, '')


def mutate(mutant: Mutant, root: Path) -> tuple[Path, str]:
    """Find the code of a mutant: its file and the whole text with the break.

    Raises:
        LookupError: If the function or the piece is not there exactly once.
    """
    matches = [entry for entry in functions(root) if entry[1] == mutant.function]
    texts = []
    for path, _, first, last in matches:
        lines = path.read_text('utf-8').splitlines(keepends=True)
        body = ''.join(lines[first - 1 : last])
        changed, count = pattern(mutant.old).subn(lambda _: mutant.new, body, count=1)
        if count:
            texts.append(
                (path, ''.join(lines[: first - 1]) + changed + ''.join(lines[last:]))
            )
    if len(texts) != 1:
        msg = f'{mutant.function}: {mutant.old!r} stands in {len(texts)} of {len(matches)} functions of this name'
        raise LookupError(msg)
    compile(texts[0][1], str(texts[0][0]), 'exec')
    return texts[0]


def test_files(mutant: Mutant, root: Path, path: Path) -> tuple[list[str], str | None]:
    """Test files that mention what a mutant breaks, and the folder of its package."""
    package = path.relative_to(root / PACKAGE).parts[0]
    words = {*mutant.mentions, *mutant.function.split('.')[:1]}
    word = re.compile('|'.join(map(re.escape, sorted(words))))
    folder = root / 'tests' / package
    near = [
        file
        for file in sorted((root / 'tests').rglob('test_*.py'))
        if word.search(file.read_text('utf-8'))
    ]
    near.sort(key=lambda file: (folder not in file.parents, file.stat().st_size))
    kept = [
        str(file.relative_to(root))
        for file in near
        if 'end_to_end' not in file.parts and 'tools' not in file.parts
    ]
    return kept[:8], str(folder.relative_to(root)) if folder.is_dir() else None


def run(mutant: Mutant, root: Path) -> tuple[str, float]:
    """Run tests against a mutant: how it ended, and the seconds that it took."""
    start = time.perf_counter()
    path, text = mutate(mutant, root)
    original = path.read_text('utf-8')
    path.write_text(text, encoding='utf-8')
    verdict = 'survived'
    near, folder = test_files(mutant, root, path)
    environment = os.environ | {'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    try:
        for tests in (near, [folder] if folder else []):
            if not tests:
                continue
            ended = subprocess.run(
                [
                    sys.executable,
                    '-m',
                    'pytest',
                    '-x',
                    '-q',
                    '-n0',
                    '-p',
                    'no:cacheprovider',
                    *tests,
                ],
                cwd=root,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIME_LIMIT,
            )
            if ended.returncode == 1:
                killer = re.search(
                    r'^(?:FAILED|ERROR) (\S+)', ended.stdout, re.MULTILINE
                )
                verdict = f'killed by {killer[1] if killer else "a test"}'
                break
            if ended.returncode != 0:
                verdict = 'killed at collection'
                break
    except subprocess.TimeoutExpired:
        verdict = 'killed by the time limit'
    finally:
        path.write_text(original, encoding='utf-8')
    return verdict, time.perf_counter() - start


def main() -> int:
    """Run the mutants that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('words', nargs='*', help='parts of the names of functions')
    parser.add_argument('--check', action='store_true', help='only find the code')
    parser.add_argument('--jobs', type=int, default=1, help='mutants side by side')
    parser.add_argument('--root', type=Path, default=ROOT, help='the repository')
    options = parser.parse_args()
    chosen = [
        m
        for m in MUTANTS
        if not options.words or any(w in m.function for w in options.words)
    ]
    lost = 0
    for mutant in chosen:
        try:
            mutate(mutant, options.root)
        except (LookupError, SyntaxError) as error:
            print('LOST', error, flush=True)
            lost += 1
    if options.check or lost:
        print(f'{len(chosen)} mutants, {lost} lost')
        return int(lost > 0)
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / str(i) for i in range(options.jobs)]
        for copy in copies:
            shutil.copytree(
                options.root, copy, ignore=shutil.ignore_patterns(*NOT_COPIED)
            )
        idle = list(copies)

        def is_killed(mutant: Mutant) -> bool:
            copy = idle.pop()
            verdict, seconds = run(mutant, copy)
            idle.append(copy)
            print(
                f'{seconds:6.1f} s  {mutant.function}: {mutant.old!r} -> {mutant.new!r}: {verdict}',
                flush=True,
            )
            return verdict != 'survived'

        with ThreadPoolExecutor(options.jobs) as pool:
            killed = sum(pool.map(is_killed, chosen))
    print(f'{killed} of {len(chosen)} mutants killed')
    return int(killed < len(chosen))


if __name__ == '__main__':
    raise SystemExit(main())
