// Masks that the model suggests for the shown frame: of everything, or of what a text names.
import { useState } from 'preact/hooks';

import * as commands from '../commands';
import * as store from '../store';
import { Button, Check, Field, Slider } from '../ui/controls';
import { formatCount } from '../ui/format';

export function ProposalsPanel({ onAccepted }: { onAccepted: () => void }) {
  return (
    <div class="side-scroll">
      <Proposals onAccepted={onAccepted} />
      <Everything />
      {store.info.value?.features.text && <ByText />}
    </div>
  );
}

const SMALL_MODEL = 256; // pixels of its input; its masks are coarse, so fewer are stable

function Everything() {
  const inputSize = [store.info.value?.model.image_size ?? []].flat();
  const isSmall = inputSize.length > 0 && Math.max(...inputSize) <= SMALL_MODEL;
  const [pointsPerSide, setPointsPerSide] = useState(16);
  const [quality, setQuality] = useState(isSmall ? 0.5 : 0.7);
  const [stability, setStability] = useState(isSmall ? 0.5 : 0.9);
  const [waiting, setWaiting] = useState(false);
  const find = async () => {
    setWaiting(true);
    await commands.propose(store.currentFrame.value, {
      points_per_side: pointsPerSide,
      pred_iou_thresh: quality,
      stability_score_thresh: stability,
    });
    setWaiting(false);
  };
  return (
    <section class="field" aria-label="Automatic masks">
      <h2>Everything on this frame</h2>
      <Slider label="Clicks per side" min={4} max={48} step={4} value={pointsPerSide} testId="propose-points" onInput={setPointsPerSide} />
      <Slider
        label="Least quality"
        min={0}
        max={1}
        step={0.05}
        value={quality}
        format={(value) => `${Math.round(100 * value)} %`}
        testId="propose-quality"
        onInput={setQuality}
      />
      <Slider
        label="Least stability"
        min={0}
        max={1}
        step={0.05}
        value={stability}
        format={(value) => `${Math.round(100 * value)} %`}
        testId="propose-stability"
        onInput={setStability}
      />
      <Button icon="wand" kind="primary" disabled={waiting} testId="propose" onClick={() => void find()}>
        {waiting ? 'Looking …' : 'Suggest masks'}
      </Button>
    </section>
  );
}

function ByText() {
  const [text, setText] = useState('');
  const [threshold, setThreshold] = useState(0.3);
  const [waiting, setWaiting] = useState(false);
  const find = async () => {
    if (!text.trim() || waiting) return;
    setWaiting(true);
    await commands.proposeText(store.currentFrame.value, text.trim(), threshold);
    setWaiting(false);
  };
  return (
    <form
      class="field"
      aria-label="By text"
      onSubmit={(event) => {
        event.preventDefault();
        void find();
      }}
    >
      <h2>By text or class</h2>
      <Field label="What to find" hint="Several things: dog. red car.">
        <input
          class="input"
          value={text}
          maxLength={500}
          placeholder="dog"
          data-testid="propose-text"
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </Field>
      <Slider
        label="Least score"
        min={0.05}
        max={0.95}
        step={0.05}
        value={threshold}
        format={(value) => `${Math.round(100 * value)} %`}
        testId="propose-threshold"
        onInput={setThreshold}
      />
      <Button icon="text" type="submit" disabled={waiting || !text.trim()} testId="propose-text-submit">
        {waiting ? 'Looking …' : 'Find'}
      </Button>
    </form>
  );
}

function Proposals({ onAccepted }: { onAccepted: () => void }) {
  const proposals = store.proposals.value;
  const [category, setCategory] = useState('');
  if (!proposals) return null;
  const selected = store.selectedProposals.value;
  const all = proposals.items.map((item) => item.index);
  const accept = async (indices: readonly number[]) => {
    await commands.acceptProposals(indices, category.trim() || undefined);
    if (!store.proposals.value) onAccepted();
  };
  return (
    <section class="field" aria-label="Suggestions">
      <h2>
        {formatCount(all.length, 'suggestion')} on frame {proposals.frame}
      </h2>
      {all.length > 0 && (
        <>
          <Check
            label={selected.size ? `${selected.size} selected` : 'Select all'}
            checked={selected.size === all.length}
            testId="proposals-all"
            onChange={(checked) => (store.selectedProposals.value = new Set(checked ? all : []))}
          />
          <ul class="proposal-list" data-testid="proposal-list">
            {proposals.items.map((item) => (
              <li key={item.index}>
                <label
                  class={`proposal-row${store.hoveredProposal.value === item.index ? ' hovered' : ''}`}
                  data-testid="proposal"
                  data-proposal={item.index}
                  onPointerEnter={() => (store.hoveredProposal.value = item.index)}
                  onPointerLeave={() => (store.hoveredProposal.value = null)}
                >
                  <input
                    type="checkbox"
                    class="checkbox"
                    checked={selected.has(item.index)}
                    onChange={() => commands.toggleProposal(item.index)}
                    onFocus={() => (store.hoveredProposal.value = item.index)}
                  />
                  <span class="grow truncate">{item.label || `Mask ${item.index + 1}`}</span>
                  <span class="muted number">{Math.round(100 * item.score)} %</span>
                </label>
              </li>
            ))}
          </ul>
          <Field label="Class of the new objects" hint="Empty: the class that was found, if any.">
            <input
              class="input"
              value={category}
              maxLength={200}
              list="category-list"
              data-testid="proposals-category"
              onInput={(event) => setCategory(event.currentTarget.value)}
            />
          </Field>
        </>
      )}
      <div class="row-line wrap">
        <Button kind="primary" icon="check" disabled={!selected.size} testId="accept-selected" onClick={() => void accept([...selected])}>
          Accept {selected.size || ''}
        </Button>
        <Button disabled={!all.length} testId="accept-all" onClick={() => void accept(all)}>
          Accept all
        </Button>
        <Button kind="quiet" testId="discard-proposals" onClick={() => commands.discardProposals()}>
          Discard
        </Button>
      </div>
    </section>
  );
}
