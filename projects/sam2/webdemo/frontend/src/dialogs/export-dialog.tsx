// Annotations as files, and films and stills with the effect of the page.
import { useState } from 'preact/hooks';

import * as commands from '../commands';
import { EffectControls } from '../panels/effects-panel';
import { JobRow } from '../panels/banners';
import * as store from '../store';
import { Button, Check, NumberInput, Segmented } from '../ui/controls';
import { Dialog } from '../ui/dialog';

type What = 'annotations' | 'film' | 'still';

export function ExportDialog({ onClose }: { onClose: () => void }) {
  const [what, setWhat] = useState<What>('annotations');
  const options = [
    { value: 'annotations', label: 'Annotations', icon: 'file' },
    { value: 'film', label: 'Film', icon: 'film' },
    { value: 'still', label: 'This frame', icon: 'still' },
  ] as const;
  return (
    <Dialog title="Export" testId="export-dialog" onClose={onClose}>
      <Segmented
        label="What to export"
        testId="export-what"
        value={what}
        options={store.isVideo.value ? options : options.filter((option) => option.value !== 'film')}
        onChange={setWhat}
      />
      {what === 'annotations' && <Annotations />}
      {what === 'film' && <Film />}
      {what === 'still' && <Still />}
      {store.jobs.value.length > 0 && (
        <div class="surface" data-testid="export-jobs">
          {store.jobs.value.map((job) => (
            <JobRow key={job.id} job={job} />
          ))}
        </div>
      )}
    </Dialog>
  );
}

function Annotations() {
  const formats = store.info.value?.export_formats ?? [];
  const [chosen, setChosen] = useState(formats[0]?.name ?? '');
  const [withFrames, setWithFrames] = useState(true);
  return (
    <>
      <fieldset class="choice-list">
        <legend class="visually-hidden">Format</legend>
        {formats.map((format) => (
          <label key={format.name} class="choice">
            <input
              type="radio"
              name="format"
              checked={chosen === format.name}
              data-testid={`export-format-${format.name}`}
              onChange={() => setChosen(format.name)}
            />
            {format.title}
          </label>
        ))}
      </fieldset>
      <Check
        label="With the frames (where the format has them; without, the file is much smaller)"
        checked={withFrames}
        testId="export-with-frames"
        onChange={setWithFrames}
      />
      <div class="row-line">
        <p class="muted grow">Masks have the size of your own frames, and their frame numbers.</p>
        <Button kind="primary" icon="export" disabled={!chosen} testId="export-start" onClick={() => void commands.startExport(chosen, withFrames)}>
          Export
        </Button>
      </div>
    </>
  );
}

function Film() {
  const [kind, setKind] = useState<'mp4' | 'gif'>('mp4');
  const last = store.numFrames.value - 1;
  const range = store.rangeSelection.value;
  const [start, setStart] = useState(range?.[0] ?? 0);
  const [end, setEnd] = useState(range ? range[1] - 1 : last);
  return (
    <>
      <EffectControls />
      <div class="columns">
        <label class="field">
          <span>First frame</span>
          <NumberInput value={start} min={0} max={end} testId="film-start" onChange={setStart} />
        </label>
        <label class="field">
          <span>Last frame</span>
          <NumberInput value={end} min={start} max={last} testId="film-end" onChange={setEnd} />
        </label>
        <div class="field">
          <span>Format</span>
          <Segmented
            label="Format of the film"
            testId="film-kind"
            value={kind}
            options={[
              { value: 'mp4', label: 'MP4' },
              { value: 'gif', label: 'GIF' },
            ]}
            onChange={setKind}
          />
        </div>
      </div>
      <div class="row-line">
        <p class="muted grow">
          {end - start + 1} frames at the rate of your video{kind === 'mp4' ? ', H.264' : ''}.
        </p>
        <Button
          kind="primary"
          icon="film"
          testId="film-start-render"
          onClick={() => void commands.startRender(kind, store.effect.value, start, end + 1)}
        >
          Render
        </Button>
      </div>
    </>
  );
}

function Still() {
  return (
    <>
      <EffectControls />
      <div class="row-line">
        <p class="muted grow">
          Frame {store.currentFrame.value} as a PNG of its own size; a cut-out is transparent.
        </p>
        <Button kind="primary" icon="still" testId="still-save" onClick={() => void commands.downloadStill(store.effect.value)}>
          Save PNG
        </Button>
      </div>
    </>
  );
}
