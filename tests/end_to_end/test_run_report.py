"""What a run shows on the screen, and the page that it leaves."""

import base64
import csv
import io
import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from end_to_end_runs import IN_PROCESS, small_config, written_config
from projects.sam2.apis.run_report import write_run_report
from projects.sam2.engine.launching import launched_runner
from projects.sam2.engine.screen import ScreenHook
from tool_modules import failing_exit_code, load_tool

EPOCHS = 2
SETTINGS: dict[str, Any] = {
    'train_cfg.max_epochs': EPOCHS,
    'train_cfg.val_interval': 1,
    'optim_wrapper.optimizer.lr': 0.003,
    'model.loss.dice_weight': 5.0,  # masks that are not empty after few steps
}
VOID_ELEMENTS = {'meta', 'img', 'br', 'hr', 'link', 'input'}


class Finished(NamedTuple):
    """A run, and what it showed."""

    cfg: Config
    work_dir: Path
    screen: list[str]

    def log_dir(self) -> Path:
        """The one time-stamped folder."""
        (path,) = self.work_dir.glob('*_*/run.json')
        return path.parent

    def records(self) -> list[dict[str, Any]]:
        """The records of scalars.json."""
        text = (self.log_dir() / 'vis_data' / 'scalars.json').read_text()
        return [json.loads(line) for line in text.splitlines()]


class Page(HTMLParser):
    """Collects what a page contains, and checks that its tags are balanced."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding='utf-8')
        self.open_tags: list[str] = []
        self.references: list[str] = []
        self.images: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.by_id: dict[str, str] = {}
        self._table = self._id = ''
        self.feed(self.text)
        self.close()
        assert not self.open_tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note references, tables and ids."""
        attributes = dict(attrs)
        if tag not in VOID_ELEMENTS:
            self.open_tags.append(tag)
        for name in ('src', 'href', 'xlink:href', 'data', 'srcset'):
            if attributes.get(name):
                self.references.append(str(attributes[name]))
        if tag == 'img':
            self.images.append(str(attributes['src']))
        if tag == 'table' and 'id' in attributes:
            self._table = str(attributes['id'])
            self.tables[self._table] = []
        if tag == 'tr' and self._table:
            self.tables[self._table].append([])
        if tag in {'td', 'th'} and self._table:
            self.tables[self._table][-1].append('')
        self._id = attributes.get('id') or self._id

    def handle_endtag(self, tag: str) -> None:
        """Check that the innermost element ends."""
        assert tag == self.open_tags.pop(), self.getpos()
        self._table = '' if tag == 'table' else self._table
        self._id = ''

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Elements of SVG that close themselves."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID_ELEMENTS:
            self.handle_endtag(tag)

    def handle_data(self, data: str) -> None:
        """Note the text of cells and of elements with an id."""
        if self._table and {'td', 'th'} & set(self.open_tags):
            self.tables[self._table][-1][-1] += data.strip()
        if self._id:
            self.by_id[self._id] = self.by_id.get(self._id, '') + data


@pytest.fixture(scope='module')
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    work_dir = tmp_path_factory.mktemp('report') / 'run'
    cfg = small_config(clips, work_dir, IN_PROCESS, SETTINGS)
    words, screen = [written_config(cfg)], io.StringIO()
    command = ['tools/train.py', *words]
    with redirect_stdout(screen), mock.patch.object(sys, 'argv', command):
        load_tool('train').main(words)
    return Finished(cfg, work_dir, screen.getvalue().splitlines())


@pytest.fixture(scope='module')
def page(run: Finished) -> Page:
    out = run.work_dir.parent / 'page.html'
    return Page(write_run_report(run.work_dir, num_clips=1, out=out))


@pytest.fixture
def copied(run: Finished, tmp_path: Path) -> Path:
    """The run in another place."""
    return Path(shutil.copytree(run.work_dir, tmp_path / 'moved'))


# ------------------------------------------------------------------------ The screen


def test_a_run_is_summed_up_in_few_lines_before_its_first_step(run: Finished) -> None:
    first = next(i for i, line in enumerate(run.screen) if 'loss' in line)
    assert first <= 20
    summary = '\n'.join(run.screen[:first])
    model = MODELS.build(run.cfg.model)
    millions = sum(part.numel() for part in model.parameters()) / 1e6
    for text in (
        f'SAM2, {millions:.3g} million parameters, all trained, images of 64 x 64',
        'random',
        '6 clips',
        '3 clips',
        f'{EPOCHS} epochs of 3 steps; 2 clips a step; AdamW, learning rate 0.003',
        'float32',
        str(run.log_dir()),
    ):
        assert text in summary
    # The log file has all the rest, as MMEngine writes it.
    (log,) = run.log_dir().glob('*.log')
    for text in ('System environment:', 'Config:\n', 'Hooks will be executed', summary):
        assert text in log.read_text()


def test_lines_of_progress_are_short_and_agree_with_the_log(run: Finished) -> None:
    lines = [line for line in run.screen if ' left' in line]
    trained = [record for record in run.records() if 'lr' in record]
    assert len(lines) == len(trained) == EPOCHS * 3
    for line, record in zip(lines, trained, strict=True):
        assert len(line) <= 100
        assert f'epoch {record["epoch"]}/{EPOCHS}' in line
        assert f'loss {record["loss"]:.4f}' in line
        assert f'lr {record["lr"]:.2e}' in line


def test_each_validation_shows_one_table(run: Finished) -> None:
    assert sum('objects' in line and 'J&F' in line for line in run.screen) == EPOCHS
    validated = [record for record in run.records() if 'J&F' in record]
    shown = [line for line in run.screen if 'validation after' in line]
    assert len(shown) == EPOCHS
    for line, record in zip(shown, validated, strict=True):
        assert f'J&F {record["J&F"]:.4g}' in line
    assert run.screen[-1] == f'report: python tools/report.py {run.work_dir}'


def test_closed_screen_does_not_end_the_run(
    run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = (tmp_path / 'screen').open('w')
    closed.close()
    monkeypatch.setattr(sys, 'stdout', closed)
    hook = ScreenHook(run.screen[0])
    hub = mock.Mock(get_info=mock.Mock(return_value=None))
    folders = {'work_dir': 'w', 'log_dir': str(tmp_path)}
    runner = mock.Mock(iter=3, max_iters=3, message_hub=hub, **folders)
    hook.after_train(runner)
    assert json.loads((tmp_path / 'run.json').read_text())['finished']


def test_warnings_pass_and_verbose_shows_everything(
    run: Finished,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def screen_of(name: str, *words: str) -> str:
        cfg = Config(run.cfg.to_dict())
        cfg.work_dir, cfg.experiment_name = str(tmp_path), name
        options = load_tool('train').parse_arguments(['config.py', *words])
        with launched_runner(cfg, options) as runner:
            runner.logger.info('a detail')
            runner.logger.warning('beware')
        return capsys.readouterr().out

    quiet = screen_of('quiet')
    assert 'beware' in quiet
    assert 'a detail' not in quiet
    assert len(quiet.splitlines()) == 1
    monkeypatch.setenv('SAM2_VERBOSE', '1')
    for loud in (screen_of('variable'), screen_of('option', '--verbose')):
        assert 'a detail' in loud
        assert 'Hooks will be executed' in loud


# -------------------------------------------------------------------------- The page


def test_page_refers_to_nothing_outside(page: Page) -> None:
    assert page.references
    assert all(reference.startswith(('data:', '#')) for reference in page.references)
    for word in ('http:', 'https:', 'file:', 'url(', '@import', 'src=//', 'xmlns'):
        assert word not in page.text.replace('url(#', '')
    assert len(page.text) < 3_000_000


def test_numbers_are_those_of_the_log_and_of_the_scores(
    run: Finished, page: Page
) -> None:
    best = max(record['J&F'] for record in run.records() if 'J&F' in record)
    assert page.by_id['best-score'] == f'{best:.1f}'
    folder = run.log_dir() / 'scores' / 'best'
    for table, file, names in (
        ('videos', 'jf_videos.csv', ('video', 'objects', 'frames')),
        ('objects', 'jf_objects.csv', ('video', 'object', 'frames')),
    ):
        with (folder / file).open() as lines:
            expected = [
                [row[name] for name in (*names, 'J&F', 'J', 'F')]
                for row in csv.DictReader(lines)
            ]
        head, *rows = page.tables[table]
        assert head[0] == 'Video'
        assert [list(filter(None, row)) for row in rows] == expected


def test_worst_and_best_clip_are_drawn_once_each(page: Page) -> None:
    assert len(page.images) == 2
    for image in page.images:
        data = base64.b64decode(image.removeprefix('data:image/webp;base64,'))
        width, height = Image.open(io.BytesIO(data)).size
        assert width > 6 * 64
        assert height > 3 * 64


def test_page_says_how_to_repeat_the_run_and_what_it_changed(
    run: Finished, page: Page
) -> None:
    config = run.work_dir / 'config.py'
    assert page.by_id['command'] == f'python tools/train.py {config}'
    assert f'finished: {EPOCHS} epochs' in page.text
    assert 'PyTorch: ' in page.text


def test_moved_run_has_the_same_page(page: Page, copied: Path) -> None:
    moved = Page(write_run_report(copied, num_clips=1))
    assert moved.tables == page.tables
    assert moved.images == page.images


def test_without_the_data_the_page_says_so(copied: Path) -> None:
    words = [str(copied), '--cfg-options', 'data_root=/gone']
    shown = Page(load_tool('report').main(words))
    assert not shown.images
    assert 'data_root /gone is no folder' in shown.text
    assert len(shown.tables['videos']) == 4


def test_interrupted_run_without_validation_has_a_page(copied: Path) -> None:
    (log,) = copied.glob('*_*/vis_data/scalars.json')
    lines = log.read_text().splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if '"J&F"' in line)
    log.write_text(''.join(lines[:end]) + '{"loss": 1.2, "it')  # killed while writing
    shutil.rmtree(log.parents[1] / 'scores')
    for path in (*copied.glob('*.pth'), *copied.glob('*_*/run.json')):
        path.unlink()
    shown = Page(write_run_report(copied))
    assert f'unfinished: in epoch 1 of {EPOCHS}' in shown.text
    assert 'never validated' in shown.text
    assert not shown.images


def test_page_of_a_long_run_of_many_objects_stays_small(copied: Path) -> None:
    (log,) = copied.glob('*_*/vis_data/scalars.json')
    lines = [line for line in log.read_text().splitlines() if '"lr"' in line]
    record = json.loads(lines[-1])
    records = [record | {'iter': step, 'loss': step % 7} for step in range(1, 6001)]
    log.write_text(''.join(json.dumps(record) + '\n' for record in records))
    (scores,) = copied.glob('*_*/scores/best/jf_frames.json')
    content = json.loads(scores.read_text())
    video = content['videos'][0]
    obj = {
        'object_id': 1,
        'frames': [*range(1000)],
        'frame_j': [0.5] * 1000,
        'frame_f': [0.25] * 1000,
    }
    content['videos'] = [
        video | {'video_name': f'<i>{i}', 'objects': [obj]} for i in range(300)
    ]
    scores.write_text(json.dumps(content))
    shown = Page(write_run_report(copied, num_clips=0))
    assert len(shown.text) < 1_500_000
    assert shown.tables['objects'][300][:6] == [
        '<i>299',
        '1',
        '1000',
        '37.5',
        '50.0',
        '25.0',
    ]


def test_baselines_are_shown_beside_the_run(run: Finished, tmp_path: Path) -> None:
    rows = [
        {'label': 'copy of the <first> masks', 'j': 1.0, 'f': 2.0, 'j_and_f': 1.5},
        {'label': 'after training', 'j': 31.0, 'f': 41.0, 'j_and_f': 36.0},
    ]
    (tmp_path / 'scores.json').write_text(json.dumps(rows))
    words = [str(run.work_dir), '--clips', '0', '--out', str(tmp_path / 'page.html')]
    shown = load_tool('report').main(
        [*words, '--baselines', str(tmp_path / 'scores.json')]
    )
    text = shown.read_text()
    assert 'copy of the &lt;first&gt; masks' in text
    assert '<b>36.0</b> J&amp;F' in text
    Page(shown)


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        ('missing', 'is not a folder; give the work_dir of a run'),
        ('empty', 'contains no run'),
        ('above', 'give one of the runs below it: .*moved'),
        ('scalars', 'nothing in it can be read'),
        ('scores', 'jf_frames.json is damaged'),
        ('baselines', 'is not a file of baselines'),
        ('clips', 'num_clips is -1'),
        ('device', "'tpu9' is no device"),
    ],
)
def test_bad_input_gives_one_line_and_no_page(
    damage: str, message: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, words = copied, []
    if damage == 'missing':
        folder = copied / 'nowhere'
    elif damage == 'empty':
        folder = copied / 'empty'
        folder.mkdir()
    elif damage == 'above':
        folder = copied.parent
    elif damage == 'scalars':
        (log,) = copied.glob('*_*/vis_data/scalars.json')
        log.write_bytes(b'\x00\xff{[' * 100)
    elif damage == 'scores':
        (scores,) = copied.glob('*_*/scores/best/jf_frames.json')
        scores.write_text('{"videos": [{"objects": 3}]}')
    elif damage == 'baselines':
        (copied / 'b.json').write_text('{"label": 1}')
        words = ['--baselines', str(copied / 'b.json')]
    elif damage == 'device':
        words = ['--device', 'tpu9']
    else:
        words = ['--clips', '-1']
    assert failing_exit_code(load_tool('report'), [str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(message, error)
    assert not list(copied.parent.glob('**/*report*.html'))
