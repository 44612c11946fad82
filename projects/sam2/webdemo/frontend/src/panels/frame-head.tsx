// Above the canvas: which frame is shown, playing, zoom and display settings.
import * as commands from '../commands';
import * as store from '../store';
import { Button, Check, IconButton, NumberInput, Slider } from '../ui/controls';
import { formatTime } from '../ui/format';
import { Icon } from '../ui/icons';
import { Popover } from '../ui/popover';

export function FrameHead() {
  return (
    <div class="frame-head" role="toolbar" aria-label="Frame">
      {store.isVideo.value && <Playback />}
      <FramePosition />
      <DisplaySettings />
      <span class="divider" />
      <Zoom />
    </div>
  );
}

function Playback() {
  const playing = store.playing.value;
  return (
    <div class="button-group">
      <IconButton icon="toStart" class="optional" label="First frame" shortcut="Home" testId="first-frame" onClick={() => commands.seek(0)} />
      <IconButton icon="stepBack" label="Previous frame" shortcut="←" testId="previous-frame" onClick={() => commands.step(-1)} />
      <IconButton
        icon={playing ? 'pause' : 'play'}
        label={playing ? 'Pause' : 'Play'}
        shortcut="Space"
        testId="play"
        onClick={() => commands.togglePlay()}
      />
      <IconButton icon="stepForward" label="Next frame" shortcut="→" testId="next-frame" onClick={() => commands.step(1)} />
      <IconButton
        icon="toEnd"
        class="optional"
        label="Last frame"
        shortcut="End"
        testId="last-frame"
        onClick={() => commands.seek(store.numFrames.value - 1)}
      />
      <select
        class="input"
        aria-label="Speed"
        title="Speed"
        data-testid="speed"
        value={store.playbackSpeed.value}
        onChange={(event) => commands.setSpeed(Number(event.currentTarget.value))}
      >
        {store.PLAYBACK_SPEEDS.map((speed) => (
          <option key={speed} value={speed}>
            {speed}×
          </option>
        ))}
      </select>
    </div>
  );
}

function FramePosition() {
  const frame = store.currentFrame.value;
  const numFrames = store.numFrames.value;
  const rate = store.session.value?.frames_per_second;
  const name = store.frameName(frame);
  const what = store.isVideo.value ? 'Frame' : 'Image';
  return (
    <>
      {!store.isVideo.value && (
        <div class="button-group">
          <IconButton icon="stepBack" label="Previous image" shortcut="←" testId="previous-frame" onClick={() => commands.step(-1)} />
          <IconButton icon="stepForward" label="Next image" shortcut="→" testId="next-frame" onClick={() => commands.step(1)} />
        </div>
      )}
      <div class="frame-number number">
        <NumberInput
          label={`${what}, from 0 to ${Math.max(0, numFrames - 1)}`}
          value={frame}
          min={0}
          max={Math.max(0, numFrames - 1)}
          testId="frame-number"
          onChange={(value) => commands.seek(value)}
        />
        <span class="muted" data-testid="frame-count">
          / {numFrames}
          {rate ? <span class="optional"> · {formatTime(frame / rate)}</span> : null}
        </span>
      </div>
      <span class="file-name muted truncate" title={name ?? undefined} data-testid="frame-name">
        {name}
      </span>
    </>
  );
}

function DisplaySettings() {
  const changed = store.brightness.value !== 0 || store.contrast.value !== 1;
  return (
    <>
      <Popover
        label="Display: brightness, contrast, points and boxes"
        face={<Icon name="brightness" />}
        active={changed || !store.showPrompts.value}
        class="display-menu"
        testId="display-settings"
      >
        {() => (
          <>
            <Slider
              label="Brightness"
              min={-1}
              max={1}
              step={0.02}
              value={store.brightness.value}
              format={(value) => `${value > 0 ? '+' : ''}${Math.round(100 * value)} %`}
              testId="brightness"
              onInput={(value) => (store.brightness.value = value)}
            />
            <Slider
              label="Contrast"
              min={0.25}
              max={4}
              step={0.05}
              value={store.contrast.value}
              format={(value) => `${Math.round(100 * value)} %`}
              testId="contrast"
              onInput={(value) => (store.contrast.value = value)}
            />
            <p class="muted">Only what you see changes, not what the model sees.</p>
            <Check
              label="Points and boxes"
              checked={store.showPrompts.value}
              testId="show-prompts"
              onChange={(checked) => (store.showPrompts.value = checked)}
            />
            <Button disabled={!changed} testId="reset-display" onClick={() => commands.resetDisplay()}>
              Reset
            </Button>
          </>
        )}
      </Popover>
      <IconButton
        icon={store.showMasks.value ? 'eye' : 'eyeOff'}
        label={store.showMasks.value ? 'Hide all masks' : 'Show the masks'}
        shortcut="M"
        pressed={!store.showMasks.value}
        testId="show-masks"
        onClick={() => (store.showMasks.value = !store.showMasks.value)}
      />
      <HoldButton />
    </>
  );
}

/** Shows the masks before the last change while it is held; a keyboard toggles. */
function HoldButton() {
  const hold = (on: boolean) => () => {
    store.flicker.value = on;
  };
  return (
    <button
      type="button"
      class="button icon-button"
      aria-label="Before the last change (hold)"
      aria-pressed={store.flicker.value}
      aria-keyshortcuts="Z"
      title="Before the last change (hold, or Z)"
      data-testid="flicker"
      onPointerDown={hold(true)}
      onPointerUp={hold(false)}
      onPointerLeave={hold(false)}
      onPointerCancel={hold(false)}
      onBlur={hold(false)}
      onClick={(event) => {
        // A click without a pointer comes from the keyboard.
        if (event.detail === 0) store.flicker.value = !store.flicker.value;
      }}
    >
      <Icon name="flicker" />
    </button>
  );
}

function Zoom() {
  return (
    <div class="button-group">
      <IconButton icon="zoomOut" label="Zoom out" shortcut="-" testId="zoom-out" onClick={() => commands.zoomBy(0.8)} />
      <button
        type="button"
        class="button button-quiet number optional"
        title="Actual pixels (1)"
        aria-label={`Zoom ${Math.round(100 * store.view.value.scale)} %: show actual pixels`}
        data-testid="zoom-level"
        onClick={() => commands.zoomTo(1)}
      >
        {Math.round(100 * store.view.value.scale)} %
      </button>
      <IconButton icon="zoomIn" label="Zoom in" shortcut="+" testId="zoom-in" onClick={() => commands.zoomBy(1.25)} />
      <IconButton icon="fit" label="Fit the frame" shortcut="F" testId="zoom-fit" onClick={() => commands.fitView()} />
    </div>
  );
}
