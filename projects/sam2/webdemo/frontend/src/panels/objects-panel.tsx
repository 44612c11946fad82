// The list of objects, what to do with the selected ones, and the prompts of the frame.
import { useEffect, useRef, useState } from 'preact/hooks';

import * as commands from '../commands';
import { SCORE_NONE, type AnnotatedObject } from '../protocol';
import * as store from '../store';
import { Button, Check, IconButton, InlineInput, Swatch } from '../ui/controls';
import { formatCount } from '../ui/format';
import { Icon } from '../ui/icons';
import { OBJECT_COLORS } from '../ui/palette';
import { Popover } from '../ui/popover';
import { PromptPanel } from './prompt-panel';

const CATEGORIES = 'category-list';

/** A list of this length is seen at once. */
const SHORT_LIST = 8;

export function ObjectsPanel() {
  const [text, setText] = useState('');
  const [chosen, setOnlyHere] = useState<boolean | null>(null);
  // Each still has its own objects.
  const isStills = store.session.value?.kind === 'images';
  const onlyHere = chosen ?? isStills;
  const objects = store.objectList.value;
  const wanted = text.trim().toLowerCase();
  const shown = objects.filter(
    (object) =>
      (!wanted || `${object.name}\n${object.category}`.toLowerCase().includes(wanted)) &&
      (!onlyHere || store.selection.value.has(object.id) || isOnFrame(object)),
  );
  return (
    <>
      <div class="panel-head">
        <h2 class="truncate">
          {objects.length ? formatCount(objects.length, 'object') : 'Objects'}
          {store.selection.value.size > 1 && (
            <span class="muted"> · {store.selection.value.size} selected</span>
          )}
        </h2>
        {store.soloObjects.value.size > 0 && (
          <Button kind="quiet" testId="show-all" onClick={() => (store.soloObjects.value = new Set())}>
            Show all
          </Button>
        )}
        <Button icon="plus" title="Add an object without a prompt" testId="add-object" onClick={() => void commands.addObject()}>
          Add
        </Button>
      </div>
      <datalist id={CATEGORIES}>
        {store.categories.value.map((category) => (
          <option key={category} value={category} />
        ))}
      </datalist>
      {(objects.length > SHORT_LIST || isStills) && (
        <div class="list-filter">
          <input
            class="input"
            type="search"
            placeholder="Name or class"
            aria-label="Filter the objects by name or class"
            value={text}
            data-testid="object-filter"
            onInput={(event) => setText(event.currentTarget.value)}
          />
          <Check label={isStills ? 'On this image' : 'On this frame'} checked={onlyHere} testId="object-filter-frame" onChange={setOnlyHere} />
        </div>
      )}
      <div class="object-list" role="grid" aria-label="Objects" aria-multiselectable="true" data-testid="object-list">
        {objects.length > 0 && !shown.length && <p class="empty">{onlyHere && !wanted ? 'No object is here.' : 'No object fits.'}</p>}
        {shown.map((object) => (
          <ObjectRow key={object.id} object={object} />
        ))}
        {!objects.length && (
          <div class="empty">
            <Icon name="point" />
            <p>No objects yet. Click on one in the frame, or let the model suggest masks.</p>
          </div>
        )}
      </div>
      <SelectionBar />
      <PromptPanel />
    </>
  );
}

/** Whether an object has a mask or a prompt on the current frame. */
function isOnFrame(object: AnnotatedObject): boolean {
  const frame = store.currentFrame.value;
  return frame in object.prompts || store.scoresOf(object.id)[frame] !== SCORE_NONE;
}

function ObjectRow({ object }: { object: AnnotatedObject }) {
  const { id, name } = object;
  const row = useRef<HTMLDivElement>(null);
  const selected = store.selection.value.has(id);
  const active = store.activeObject.value === id;
  const solo = store.soloObjects.value;
  useEffect(() => {
    if (active) row.current!.scrollIntoView({ block: 'nearest' });
  }, [active]);
  const select = (event: MouseEvent) => {
    const target = event.target as HTMLElement;
    if (target.closest('button, label, .menu') || target === document.activeElement) return;
    const toggle = event.ctrlKey || event.metaKey;
    commands.selectObject(id, toggle ? 'toggle' : event.shiftKey ? 'range' : 'only');
  };
  const dimmed = object.hidden || (solo.size > 0 && !solo.has(id));
  return (
    <div
      ref={row}
      class={`object-row${active ? ' active' : ''}${dimmed ? ' dimmed' : ''}`}
      role="row"
      aria-selected={selected}
      data-testid="object-row"
      data-object={id}
      onClick={select}
      onFocusCapture={(event) => {
        // Who edits a name works on that object.
        if ((event.target as HTMLElement).classList.contains('inline-input') && !selected) {
          commands.selectObject(id);
        }
      }}
      onPointerEnter={() => (store.hoveredObject.value = id)}
      onPointerLeave={() => (store.hoveredObject.value = null)}
    >
      <div class="row-line" role="gridcell">
        <label>
          <input
            type="checkbox"
            class="checkbox"
            checked={selected}
            aria-label={`Select ${name}`}
            data-testid="object-select"
            onChange={() => commands.selectObject(id, 'toggle')}
          />
        </label>
        <ColorButton object={object} />
      </div>
      <div class="names" role="gridcell">
        <InlineInput
          value={name}
          label={`Name of object ${id}`}
          placeholder="Name"
          doubleClick
          testId="object-name"
          onCommit={(value) => void commands.updateObject(id, { name: value })}
        />
        <InlineInput
          value={object.category}
          label={`Class of ${name}`}
          placeholder="Class"
          list={CATEGORIES}
          doubleClick
          testId="object-category"
          onCommit={(value) => void commands.updateObject(id, { category: value })}
        />
      </div>
      <div class="button-group" role="gridcell">
        <IconButton
          icon="solo"
          label={solo.has(id) ? `Show the others again` : `Show only ${name}`}
          pressed={solo.has(id)}
          testId="object-solo"
          onClick={() => commands.toggleSolo(id)}
        />
        <IconButton
          icon={object.hidden ? 'eyeOff' : 'eye'}
          label={object.hidden ? `Show ${name}` : `Hide ${name}`}
          pressed={object.hidden}
          testId="object-hide"
          onClick={() => void commands.toggleHidden(id)}
        />
        <IconButton
          icon={object.locked ? 'lock' : 'unlock'}
          label={object.locked ? `Unlock ${name}` : `Lock ${name}`}
          pressed={object.locked}
          testId="object-lock"
          onClick={() => void commands.toggleLocked(id)}
        />
        <IconButton
          icon="trash"
          label={`Delete ${name}`}
          testId="object-delete"
          onClick={() => void commands.deleteObjects([id])}
        />
      </div>
    </div>
  );
}

/** The colour of an object: one of the palette, or any other. */
function ColorButton({ object }: { object: AnnotatedObject }) {
  const choose = (color: string) => {
    if (color !== object.color) void commands.updateObject(object.id, { color });
  };
  return (
    <Popover label={`Colour of ${object.name}`} face={<Swatch color={object.color} />} kind="bare" class="color-menu" testId="object-color">
      {(close) => (
        <>
          <div class="color-grid" role="radiogroup" aria-label="Palette">
            {OBJECT_COLORS.map((color) => (
              <button
                key={color}
                type="button"
                class="color-choice"
                role="radio"
                aria-checked={color === object.color}
                aria-label={color}
                title={color}
                style={{ backgroundColor: color }}
                data-testid="color-choice"
                onClick={() => {
                  choose(color);
                  close();
                }}
              />
            ))}
          </div>
          <label class="row-line">
            <span class="grow">Another colour</span>
            <input
              type="color"
              value={object.color}
              data-testid="color-custom"
              onChange={(event) => choose(event.currentTarget.value)}
            />
          </label>
        </>
      )}
    </Popover>
  );
}

/** What can be done with the selected objects. */
function SelectionBar() {
  const ids = [...store.selection.value];
  const active = store.activeObject.value;
  const frame = store.currentFrame.value;
  if (!ids.length) return null;
  return (
    <div class="selection-bar" role="toolbar" aria-label="Selected objects" data-testid="selection-bar">
      {store.isVideo.value && (
        <Button
          kind="quiet"
          icon="both"
          title="Track the selected objects from this frame in both directions"
          testId="track-selected"
          disabled={store.passRunning.value}
          onClick={() => void commands.propagate(ids, frame, null, 'both')}
        >
          Track
        </Button>
      )}
      <Button
        kind="quiet"
        icon="merge"
        title={ids.length < 2 ? 'Select two or more objects to merge them' : 'Merge the selected objects into the active one'}
        testId="merge"
        disabled={ids.length < 2 || active === null}
        onClick={() => void commands.mergeObjects(ids, active!)}
      >
        Merge
      </Button>
      {store.isVideo.value && (
        <Button
          kind="quiet"
          icon="split"
          title={`From frame ${frame} on the object becomes a new one`}
          testId="split"
          disabled={ids.length !== 1 || frame === 0}
          onClick={() => void commands.splitObject(ids[0]!, frame)}
        >
          Split
        </Button>
      )}
      <span class="grow" />
      <IconButton
        icon="trash"
        label={ids.length > 1 ? `Delete ${ids.length} objects` : 'Delete the selected object'}
        shortcut="Delete"
        testId="delete-selected"
        onClick={() => void commands.deleteObjects(ids)}
      />
    </div>
  );
}
