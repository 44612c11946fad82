// Effects: previewed on the canvas, and rendered the same by the server.
import * as commands from '../commands';
import type { EffectName } from '../protocol';
import * as store from '../store';
import { Button, Check, Segmented, Slider } from '../ui/controls';
import { Icon, type IconName } from '../ui/icons';

const EFFECTS: readonly { name: EffectName; label: string; icon: IconName }[] = [
  { name: 'overlay', label: 'Overlay', icon: 'flicker' },
  { name: 'outline', label: 'Outline', icon: 'lasso' },
  { name: 'cutout', label: 'Cut-out', icon: 'still' },
  { name: 'blur', label: 'Blur', icon: 'blur' },
  { name: 'pixelate', label: 'Pixelate', icon: 'pixelate' },
  { name: 'spotlight', label: 'Spotlight', icon: 'solo' },
  { name: 'desaturate', label: 'Grey', icon: 'contrast' },
  { name: 'replace', label: 'Replace', icon: 'image' },
];
const WITH_STRENGTH: readonly EffectName[] = ['overlay', 'outline', 'blur', 'pixelate', 'spotlight', 'desaturate', 'replace'];
const WITH_TARGET: readonly EffectName[] = ['cutout', 'blur', 'pixelate', 'spotlight', 'desaturate', 'replace'];

/** The effect as it is; the export dialog shows the same controls. */
export function EffectControls() {
  const effect = store.effect.value;
  return (
    <div class="field">
      <div class="effect-grid" role="radiogroup" aria-label="Effect">
        {EFFECTS.map(({ name, label, icon }) => (
          <button
            key={name}
            type="button"
            class="button"
            role="radio"
            aria-checked={effect.name === name}
            data-testid={`effect-${name}`}
            onClick={() => commands.setEffect({ name })}
          >
            <Icon name={icon} />
            {label}
          </button>
        ))}
      </div>
      {WITH_STRENGTH.includes(effect.name) && (
        <Slider
          label="Strength"
          min={0}
          max={1}
          step={0.05}
          value={effect.strength}
          format={(value) => `${Math.round(100 * value)} %`}
          testId="effect-strength"
          onInput={(strength) => commands.setEffect({ strength })}
        />
      )}
      {WITH_TARGET.includes(effect.name) && (
        <div class="row-line">
          <span class="grow">Acts on</span>
          <Segmented
            label="Acts on"
            testId="effect-target"
            value={effect.target}
            options={[
              { value: 'background', label: 'Background' },
              { value: 'objects', label: 'Objects' },
            ]}
            onChange={(target) => commands.setEffect({ target })}
          />
        </div>
      )}
      {effect.name === 'replace' && (
        <label class="row-line">
          <span class="grow">Colour</span>
          <input
            type="color"
            value={effect.color}
            data-testid="effect-color"
            onInput={(event) => commands.setEffect({ color: event.currentTarget.value })}
          />
        </label>
      )}
      {effect.name !== 'outline' && (
        <Check
          label="Outlines"
          checked={effect.outline}
          testId="effect-outlines"
          onChange={(outline) => commands.setEffect({ outline })}
        />
      )}
      <Check
        label={effect.objects ? `Only ${effect.objects.length} selected` : 'Only the selected objects'}
        checked={effect.objects !== null}
        disabled={effect.objects === null && !store.selection.value.size}
        testId="effect-selected"
        onChange={(checked) => commands.setEffect({ objects: checked ? [...store.selection.value] : null })}
      />
    </div>
  );
}

export function EffectsPanel() {
  return (
    <div class="side-scroll" data-testid="effects-panel">
      <EffectControls />
      <div class="row-line wrap">
        <Button icon="still" testId="save-still" title="The shown frame as a PNG, with alpha for a cut-out" onClick={() => void commands.downloadStill(store.effect.value)}>
          Save frame
        </Button>
        <Button icon="film" testId="effects-export" onClick={() => (store.dialog.value = 'export')}>
          Film
        </Button>
        <Button kind="quiet" testId="effect-reset" onClick={() => commands.setEffect(store.DEFAULT_EFFECT)}>
          Reset
        </Button>
      </div>
    </div>
  );
}
