// The tools of the canvas, and what the chosen one can be set to.
import * as commands from '../commands';
import { TOOL_KEYS } from '../shortcuts';
import * as store from '../store';
import { IconButton } from '../ui/controls';
import { Icon } from '../ui/icons';

const BRUSHES: readonly store.ToolName[] = ['brush', 'eraser'];

export function ToolBar() {
  const chosen = store.tool.value;
  return (
    <div class="tool-bar" role="toolbar" aria-label="Tools" aria-orientation="vertical">
      <div role="radiogroup" aria-label="Tool">
        {store.TOOLS.map((tool) => {
          const [key, title] = TOOL_KEYS[tool];
          return (
            <button
              key={tool}
              type="button"
              role="radio"
              class="button icon-button"
              aria-checked={tool === chosen}
              aria-label={title}
              aria-keyshortcuts={key}
              title={`${title} (${key})`}
              data-testid={`tool-${tool}`}
              onClick={() => commands.setTool(tool)}
            >
              <Icon name={tool} />
            </button>
          );
        })}
      </div>
      {chosen === 'point' && <PointLabel />}
      {BRUSHES.includes(chosen) && <BrushSize />}
      <span class="grow" />
      <IconButton
        icon="plus"
        label="New object: the next prompt makes it"
        shortcut="Q"
        pressed={store.activeObject.value === null}
        testId="tool-new-object"
        onClick={() => commands.newObject()}
      />
    </div>
  );
}

/** What a plain click means: fingers have no Alt key. */
function PointLabel() {
  const labels = [
    { value: 1, icon: 'plus', label: 'Clicks are on the object', testId: 'point-positive' },
    { value: 0, icon: 'minus', label: 'Clicks are outside of the object', testId: 'point-negative' },
  ] as const;
  return (
    <div class="sub-tools" role="radiogroup" aria-label="Meaning of a click">
      {labels.map(({ value, icon, label, testId }) => (
        <button
          key={value}
          type="button"
          role="radio"
          class="button icon-button"
          aria-checked={store.pointLabel.value === value}
          aria-label={label}
          title={label}
          data-testid={testId}
          onClick={() => (store.pointLabel.value = value)}
        >
          <Icon name={icon} />
        </button>
      ))}
    </div>
  );
}

function BrushSize() {
  const radius = store.brushRadius.value;
  return (
    <label class="brush-size" title="Size of the brush ([ and ])">
      <span class="visually-hidden">Radius of the brush in pixels</span>
      <input
        type="range"
        min="0"
        max="100"
        value={toSlider(radius)}
        aria-valuetext={`${radius} pixels`}
        data-testid="brush-size"
        onInput={(event) => commands.setBrushRadius(fromSlider(event.currentTarget.valueAsNumber))}
      />
      <span class="number">{radius} px</span>
    </label>
  );
}

// Small brushes need fine steps, large ones coarse steps: the slider is logarithmic.
const { MAX_BRUSH_RADIUS } = commands;
const toSlider = (radius: number) => (100 * Math.log(radius)) / Math.log(MAX_BRUSH_RADIUS);
const fromSlider = (value: number) => Math.round(MAX_BRUSH_RADIUS ** (value / 100));
