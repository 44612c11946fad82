// The buttons of the time line: tracking, the chosen range, jumps and the zoom of the axis.
import { useSignal, type Signal } from '@preact/signals';

import * as commands from '../commands';
import type { Direction } from '../protocol';
import * as store from '../store';
import { Button, IconButton } from '../ui/controls';
import { type Axis, fullAxis, zoomAxis } from './geometry';

type Scope = 'all' | 'selected';

interface BarProps {
  axis: Signal<Axis>;
  choosingRange: Signal<boolean>;
}

export function TimelineBar({ axis, choosingRange }: BarProps) {
  const zoom = (factor: number) => {
    const x = ((store.currentFrame.value + 0.5 - axis.value.start) / axis.value.span) * axis.value.width;
    axis.value = zoomAxis(axis.value, factor, Math.max(0, Math.min(axis.value.width, x)));
  };
  return (
    <div class="timeline-bar" role="toolbar" aria-label="Time line">
      {store.isVideo.value && <Tracking />}
      <RangeActions choosingRange={choosingRange} />
      <span class="spacer" />
      <IconButton icon="back" label="Previous prompt" shortcut="," testId="previous-prompt" onClick={() => commands.jumpToPrompt(-1)} />
      <IconButton icon="next" label="Next prompt" shortcut="." testId="next-prompt" onClick={() => commands.jumpToPrompt(1)} />
      <span class="divider" />
      <IconButton class="low-score" icon="previousLow" label="Previous low score" shortcut="B" testId="previous-low" onClick={() => commands.jumpToLowScore(-1)} />
      <IconButton class="low-score" icon="nextLow" label="Next low score" shortcut="N" testId="next-low" onClick={() => commands.jumpToLowScore(1)} />
      <label class="row-line" title="Scores below this are low">
        <span class="visually-hidden">Scores below this are low, in percent</span>
        <select
          class="input"
          value={store.lowScore.value}
          data-testid="low-score"
          onChange={(event) => (store.lowScore.value = Number(event.currentTarget.value))}
        >
          {[25, 50, 75, 90, 95].map((percent) => (
            <option key={percent} value={percent}>
              &lt; {percent} %
            </option>
          ))}
        </select>
      </label>
      <span class="divider" />
      <IconButton icon="zoomOut" label="Less detail on the time line" testId="timeline-zoom-out" onClick={() => zoom(1 / 1.6)} />
      <IconButton icon="zoomIn" label="More detail on the time line" testId="timeline-zoom-in" onClick={() => zoom(1.6)} />
      <IconButton
        icon="fit"
        label="Show all frames"
        testId="timeline-fit"
        onClick={() => (axis.value = fullAxis(axis.value.width, axis.value.numFrames))}
      />
    </div>
  );
}

function Tracking() {
  const scope = useSignal<Scope>('all');
  const selected = [...store.selection.value];
  const frame = store.currentFrame.value;
  const onlySelected = scope.value === 'selected' && selected.length > 0;
  const objects = onlySelected ? selected : null;
  const disabled = store.passRunning.value || !store.objects.value.size;
  const whose = onlySelected ? (selected.length === 1 ? 'this object' : `${selected.length} objects`) : 'all objects';
  const track = (direction: Direction) => void commands.propagate(objects, frame, null, direction);
  return (
    <>
      <IconButton icon="backward" label={`Track ${whose} backwards`} shortcut="Shift+T" disabled={disabled} testId="track-backward" onClick={() => track('backward')} />
      <IconButton icon="both" label={`Track ${whose} in both directions`} disabled={disabled} testId="track-both" onClick={() => track('both')} />
      <Button icon="forward" kind="primary" title={`Track ${whose} forwards (T)`} disabled={disabled} testId="track-forward" onClick={() => track('forward')}>
        Track
      </Button>
      <Button
        icon="refine"
        kind="quiet"
        title={`Track ${whose} again from this frame, both ways up to locked frames (G)`}
        disabled={disabled}
        testId="refine"
        onClick={() => void commands.refine(objects, frame)}
      >
        Refine
      </Button>
      <select
        class="input"
        aria-label="Which objects are tracked"
        title="Which objects are tracked"
        data-testid="track-scope"
        value={scope.value}
        onChange={(event) => (scope.value = event.currentTarget.value as Scope)}
      >
        <option value="all">all objects</option>
        <option value="selected">selected</option>
      </select>
      <span class="divider" />
    </>
  );
}

/** What can be done with a range of frames, for the selected objects or all. */
function RangeActions({ choosingRange }: { choosingRange: Signal<boolean> }) {
  const range = store.rangeSelection.value;
  if (!range) {
    return (
      <Button
        kind="quiet"
        icon="range"
        title="Choose a range of frames: press, then drag on the time line (or drag with Shift)"
        testId="range-choose"
        onClick={() => (choosingRange.value = !choosingRange.value)}
      >
        {choosingRange.value ? 'Drag on the time line …' : 'Range'}
      </Button>
    );
  }
  const [start, stop] = range;
  const selected = [...store.selection.value];
  const ids = selected.length ? selected : [...store.objects.value.keys()];
  const whose = selected.length ? 'of the selected objects' : 'of all objects';
  const frames = `frames ${start} to ${stop - 1}`;
  const lock = (locked: boolean) => {
    for (const id of ids) void commands.lockFrames(id, start, stop, locked);
  };
  return (
    <div class="button-group" role="group" aria-label={`Frames ${start} to ${stop - 1}`} data-testid="range-actions">
      <span class="badge badge-accent number" data-testid="range">
        {start} – {stop - 1}
      </span>
      {store.isVideo.value && (
        <Button
          kind="quiet"
          title={`Track ${frames} ${whose}`}
          disabled={store.passRunning.value || !ids.length}
          testId="range-track"
          onClick={() => void commands.propagate(selected.length ? selected : null, start, stop, 'forward')}
        >
          Track
        </Button>
      )}
      <IconButton icon="lock" label={`Lock ${frames} ${whose}`} disabled={!ids.length} testId="range-lock" onClick={() => lock(true)} />
      <IconButton icon="unlock" label={`Unlock ${frames} ${whose}`} disabled={!ids.length} testId="range-unlock" onClick={() => lock(false)} />
      <IconButton
        icon="trash"
        label={`Delete the masks of ${frames} ${whose}`}
        disabled={!ids.length}
        testId="range-delete"
        onClick={() => {
          for (const id of ids) void commands.deleteMasks(id, start, stop);
        }}
      />
      <IconButton icon="close" label="No range" testId="range-clear" onClick={() => (store.rangeSelection.value = null)} />
    </div>
  );
}
