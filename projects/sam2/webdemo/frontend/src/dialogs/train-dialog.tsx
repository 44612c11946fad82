// Trains the model on annotated sessions, shows how it goes, and offers the result.
import { useEffect, useState } from 'preact/hooks';

import * as commands from '../commands';
import type { TrainingRun } from '../protocol';
import * as store from '../store';
import { Button, Field, NumberInput } from '../ui/controls';
import { Dialog } from '../ui/dialog';
import { formatCount } from '../ui/format';
import { CurvePlot } from './curves';

const POLL_MS = 2_000;
const SIZES = ['mini', 'tiny', 'small', 'base_plus', 'large'];
const ACTIVE: readonly TrainingRun['state'][] = ['preparing', 'running'];

export function TrainDialog({ onClose }: { onClose: () => void }) {
  useEffect(() => {
    void commands.refreshSessions();
    void commands.refreshTraining();
    const timer = setInterval(() => void commands.refreshTraining(), POLL_MS);
    return () => clearInterval(timer);
  }, []);
  const runs = store.training.value;
  const busy = runs.some((run) => ACTIVE.includes(run.state));
  return (
    <Dialog title="Train on this" wide testId="train-dialog" onClose={onClose}>
      {store.info.value?.features.training === false ? (
        <p>This server does not train.</p>
      ) : (
        <NewRun busy={busy} />
      )}
      <div class="card-list" data-testid="training-runs">
        {runs.map((run) => (
          <Run key={run.run} run={run} />
        ))}
      </div>
    </Dialog>
  );
}

function NewRun({ busy }: { busy: boolean }) {
  const current = store.session.value?.id;
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set(current ? [current] : []));
  const [name, setName] = useState(store.session.value?.name ?? '');
  const [epochs, setEpochs] = useState(20);
  const [size, setSize] = useState('');
  const [waiting, setWaiting] = useState(false);
  const toggle = (id: string) => {
    const next = new Set(chosen);
    if (!next.delete(id)) next.add(id);
    setChosen(next);
  };
  const start = async () => {
    setWaiting(true);
    await commands.startTraining({ sessions: [...chosen], name: name.trim(), epochs, ...(size && { size }) });
    setWaiting(false);
  };
  return (
    <form
      class="card"
      onSubmit={(event) => {
        event.preventDefault();
        void start();
      }}
    >
      <p class="muted">
        Frames with masks become a data set, and a new model is trained on it from the running one.
        You can go on annotating meanwhile.
      </p>
      <fieldset class="choice-list" data-testid="train-sessions">
        <legend class="visually-hidden">Sessions to train on</legend>
        {store.sessions.value?.map((session) => (
          <label key={session.id} class="choice">
            <input
              type="checkbox"
              class="checkbox"
              checked={chosen.has(session.id)}
              disabled={session.state === 'missing video' || session.state === 'damaged'}
              data-testid="train-session"
              data-session={session.id}
              onChange={() => toggle(session.id)}
            />
            <span class="grow truncate">{session.name}</span>
            <span class="muted number">
              {formatCount(session.num_objects, 'object')} · {formatCount(session.num_frames, 'frame')}
            </span>
          </label>
        ))}
      </fieldset>
      <div class="columns">
        <Field label="Name">
          <input class="input" required maxLength={100} value={name} data-testid="train-name" onInput={(event) => setName(event.currentTarget.value)} />
        </Field>
        <Field label="Epochs">
          <NumberInput value={epochs} min={1} max={10000} testId="train-epochs" onChange={setEpochs} />
        </Field>
        <Field label="Size of the model">
          <select class="input" value={size} data-testid="train-size" onChange={(event) => setSize(event.currentTarget.value)}>
            <option value="">As the running model</option>
            {SIZES.map((item) => (
              <option key={item} value={item}>
                {item}
              </option>
            ))}
          </select>
        </Field>
      </div>
      <div class="row-line">
        <p class="muted grow">{busy ? 'One run at a time: wait for the running one, or stop it.' : ''}</p>
        <Button kind="primary" icon="train" type="submit" disabled={busy || waiting || !chosen.size || !name.trim()} testId="train-start">
          {waiting ? 'Starting …' : 'Start training'}
        </Button>
      </div>
    </form>
  );
}

const STATE_BADGES: Readonly<Record<TrainingRun['state'], string>> = {
  preparing: 'badge badge-accent',
  running: 'badge badge-accent',
  done: 'badge badge-success',
  failed: 'badge badge-danger',
  stopped: 'badge badge-warning',
};

function Run({ run }: { run: TrainingRun }) {
  const [waiting, setWaiting] = useState(false);
  const active = ACTIVE.includes(run.state);
  const use = async (name: string) => {
    setWaiting(true);
    await commands.useModel(`run:${run.run}/${name}`);
    setWaiting(false);
  };
  return (
    <article class="card" data-testid="training-run" data-state={run.state} aria-label={`Training ${run.name}`}>
      <header class="row-line">
        <h3 class="grow truncate">{run.name}</h3>
        <span class={STATE_BADGES[run.state]} data-testid="training-state">
          {run.state}
        </span>
        {active && (
          <Button icon="stop" testId="training-stop" onClick={() => void commands.stopTraining(run.run)}>
            Stop
          </Button>
        )}
      </header>
      {active && <progress max={1} value={run.progress} aria-label={`Progress of ${run.name}`} />}
      {run.message && (
        <p class={run.state === 'failed' ? 'error-text log-text' : 'muted'} data-testid="training-message">
          {run.message}
        </p>
      )}
      <div class="curves">
        {Object.entries(run.curves).map(([title, curve]) => (
          <CurvePlot key={title} title={title} curve={curve} />
        ))}
      </div>
      {run.checkpoints.length > 0 && (
        <div class="row-line wrap">
          {run.checkpoints.map((name) => (
            <Button
              key={name}
              kind={name === run.best ? 'primary' : 'plain'}
              icon="model"
              disabled={waiting}
              testId={name === run.best ? 'use-best' : 'use-checkpoint'}
              onClick={() => void use(name)}
            >
              Use {name}
              {name === run.best ? ' (best)' : ''}
            </Button>
          ))}
        </div>
      )}
    </article>
  );
}
