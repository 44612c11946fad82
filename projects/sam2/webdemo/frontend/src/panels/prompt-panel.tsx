// What the active object has on the shown frame: points, box, mask; each can be removed.
import * as commands from '../commands';
import { SCORE_DRAWN, SCORE_NONE } from '../protocol';
import * as store from '../store';
import { Button, IconButton } from '../ui/controls';
import { Icon } from '../ui/icons';

/** The presence score of an object on a frame in words. */
export function scoreText(score: number): string {
  if (score === SCORE_NONE) return 'no mask';
  if (score === SCORE_DRAWN) return 'drawn';
  return `score ${score} %`;
}

export function PromptPanel() {
  const id = store.activeObject.value;
  const object = id === null ? undefined : store.objects.value.get(id);
  if (!object) return null;
  const frame = store.currentFrame.value;
  const prompt = store.promptOf(frame, object.id);
  const score = store.scoresOf(object.id)[frame] ?? SCORE_NONE;
  const locked = store.isFrameLocked(object, frame);
  const empty = !prompt || (!prompt.points.length && !prompt.box && !prompt.mask);
  return (
    <section class="prompt-panel" aria-label="Prompts of this frame" data-testid="prompt-panel">
      <div class="panel-head">
        <h3 class="truncate">{object.name}</h3>
        <span class={store.isLowScore(score) ? 'badge badge-warning' : 'badge'} data-testid="frame-score">
          {scoreText(score)}
        </span>
        <IconButton
          icon={locked ? 'lock' : 'unlock'}
          label={locked ? 'Unlock this frame' : 'Lock this frame: its mask cannot change, and tracking stops here'}
          shortcut="X"
          pressed={locked}
          testId="lock-frame"
          onClick={() => void commands.lockFrames(object.id, frame, frame + 1, !locked)}
        />
        <Button kind="quiet" title="Remove all prompts of this frame (C)" disabled={empty} testId="clear-prompts" onClick={() => void commands.clearPrompts(frame, object.id)}>
          Clear
        </Button>
      </div>
      <ul class="prompt-list" data-testid="prompt-list">
        {empty && <li class="muted">No prompts on this frame.</li>}
        {prompt?.points.map(([x, y, label], index) => (
          <li key={index} data-testid="prompt-point">
            <span class={label ? 'positive' : 'negative'}>
              <Icon name={label ? 'plus' : 'minus'} />
            </span>
            <span class="grow number">
              {label ? 'On' : 'Off'} at {Math.round(x)}, {Math.round(y)}
            </span>
            <IconButton icon="close" label={`Remove point ${index + 1}`} testId="prompt-remove" onClick={() => void commands.removePoint(frame, object.id, index)} />
          </li>
        ))}
        {prompt?.box && (
          <li data-testid="prompt-box">
            <Icon name="box" />
            <span class="grow number">
              Box {Math.round(prompt.box[2] - prompt.box[0])} × {Math.round(prompt.box[3] - prompt.box[1])}
            </span>
            <IconButton icon="close" label="Remove the box" testId="prompt-remove" onClick={() => void commands.removeBox(frame, object.id)} />
          </li>
        )}
        {prompt?.mask && (
          <li data-testid="prompt-mask">
            <Icon name="brush" />
            <span class="grow">Mask</span>
            <IconButton icon="close" label="Remove the mask" testId="prompt-remove" onClick={() => void commands.clearPrompts(frame, object.id)} />
          </li>
        )}
      </ul>
    </section>
  );
}
