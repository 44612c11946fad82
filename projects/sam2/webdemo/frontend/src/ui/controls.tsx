import type { ComponentChildren } from 'preact';
import { useRef, useState } from 'preact/hooks';

import { Icon, type IconName } from './icons';

/** The part of a control's name that browser tests look for. */
export interface Testable {
  testId?: string | undefined;
}

interface IconButtonProps extends Testable {
  icon: IconName;
  /** The accessible name, shown as a tooltip with the shortcut. */
  label: string;
  shortcut?: string | undefined;
  pressed?: boolean | undefined;
  disabled?: boolean | undefined;
  class?: string | undefined;
  onClick: (event: MouseEvent) => void;
}

export function IconButton(props: IconButtonProps) {
  const { icon, label, shortcut, pressed, disabled, testId, onClick } = props;
  return (
    <button
      type="button"
      class={`button icon-button ${props.class ?? ''}`}
      aria-label={label}
      aria-keyshortcuts={shortcut}
      aria-pressed={pressed}
      title={shortcut ? `${label} (${shortcut})` : label}
      disabled={disabled}
      data-testid={testId}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

interface ButtonProps extends Testable {
  icon?: IconName | undefined;
  kind?: 'plain' | 'primary' | 'danger' | 'quiet';
  disabled?: boolean | undefined;
  title?: string | undefined;
  type?: 'button' | 'submit';
  onClick?: (event: MouseEvent) => void;
  children: ComponentChildren;
}

export function Button(props: ButtonProps) {
  const { icon, kind = 'plain', children, testId, type = 'button', ...rest } = props;
  return (
    <button type={type} class={`button button-${kind}`} data-testid={testId} {...rest}>
      {icon && <Icon name={icon} />}
      {children}
    </button>
  );
}

interface SegmentedProps<Value extends string> extends Testable {
  label: string;
  value: Value;
  options: readonly { value: Value; label: string; icon?: IconName }[];
  onChange: (value: Value) => void;
}

/** A choice of a few values: arrow keys move, one tab stop. */
export function Segmented<Value extends string>(props: SegmentedProps<Value>) {
  const { label, value, options, onChange, testId } = props;
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const index = options.findIndex((option) => option.value === value);
    const next = (index + step + options.length) % options.length;
    onChange(options[next]!.value);
    const group = event.currentTarget as HTMLElement;
    (group.children[next] as HTMLElement).focus();
  };
  return (
    <div class="segmented" role="radiogroup" aria-label={label} onKeyDown={move} data-testid={testId}>
      {options.map((option) => (
        <button
          key={option.value}
          type="button"
          class="button"
          role="radio"
          aria-checked={option.value === value}
          tabIndex={option.value === value ? 0 : -1}
          data-testid={testId && `${testId}-${option.value}`}
          onClick={() => onChange(option.value)}
        >
          {option.icon && <Icon name={option.icon} />}
          {option.label}
        </button>
      ))}
    </div>
  );
}

interface SliderProps extends Testable {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  format?: (value: number) => string;
  onInput: (value: number) => void;
}

export function Slider(props: SliderProps) {
  const { label, value, min, max, step, format = String, testId, onInput } = props;
  return (
    <label class="slider">
      <span>{label}</span>
      <output>{format(value)}</output>
      <input
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        aria-valuetext={format(value)}
        data-testid={testId}
        onInput={(event) => onInput(event.currentTarget.valueAsNumber)}
      />
    </label>
  );
}

interface CheckProps extends Testable {
  label: string;
  checked: boolean;
  disabled?: boolean | undefined;
  onChange: (checked: boolean) => void;
}

export function Check({ label, checked, disabled, testId, onChange }: CheckProps) {
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={checked}
        disabled={disabled}
        data-testid={testId}
        onChange={(event) => onChange(event.currentTarget.checked)}
      />
      {label}
    </label>
  );
}

interface FieldProps {
  label: string;
  hint?: string | undefined;
  children: ComponentChildren;
}

export function Field({ label, hint, children }: FieldProps) {
  return (
    <label class="field">
      <span>{label}</span>
      {children}
      {hint && <small>{hint}</small>}
    </label>
  );
}

interface NumberInputProps extends Testable {
  value: number;
  min: number;
  max: number;
  step?: number | undefined;
  label?: string | undefined;
  onChange: (value: number) => void;
}

/** A whole or decimal number; what is out of range is clamped when one leaves the field. */
export function NumberInput(props: NumberInputProps) {
  const { value, min, max, step = 1, label, testId, onChange } = props;
  const commit = (input: HTMLInputElement) => {
    const number = Math.min(max, Math.max(min, input.valueAsNumber));
    if (Number.isFinite(number) && number !== value) onChange(number);
    input.value = String(Number.isFinite(number) ? number : value);
  };
  return (
    <input
      class="input number"
      type="number"
      min={min}
      max={max}
      step={step}
      value={value}
      aria-label={label}
      data-testid={testId}
      onChange={(event) => commit(event.currentTarget)}
      onKeyDown={(event) => {
        // The shortcuts work again.
        if (event.key === 'Enter' && !event.currentTarget.form) event.currentTarget.blur();
      }}
    />
  );
}

interface InlineInputProps extends Testable {
  value: string;
  label: string;
  placeholder?: string | undefined;
  list?: string | undefined;
  maxLength?: number | undefined;
  disabled?: boolean | undefined;
  /** A single click is left to what the text stands in. */
  doubleClick?: boolean | undefined;
  onCommit: (value: string) => void;
}

/** Text that is edited in place: Enter or leaving commits, Esc restores. What is being
 * typed stays, whatever the server tells meanwhile. */
export function InlineInput(props: InlineInputProps) {
  const { value, label, placeholder, list, maxLength = 200, disabled, doubleClick, testId, onCommit } = props;
  const [draft, setDraft] = useState<string | null>(null);
  const cancelled = useRef(false);
  const leave = (input: HTMLInputElement) => {
    const text = input.value.trim();
    if (!cancelled.current && text !== value) onCommit(text);
    cancelled.current = false;
    setDraft(null);
  };
  return (
    <input
      class={`inline-input${doubleClick ? ' double-click' : ''}`}
      value={draft ?? value}
      aria-label={label}
      title={doubleClick ? `${value || label} (double-click to edit)` : value || undefined}
      placeholder={placeholder}
      list={list}
      maxLength={maxLength}
      disabled={disabled}
      autocomplete="off"
      spellcheck={false}
      data-testid={testId}
      onMouseDown={(event) => {
        const isFocused = document.activeElement === event.currentTarget;
        if (doubleClick && event.detail < 2 && !isFocused) event.preventDefault();
      }}
      onInput={(event) => setDraft(event.currentTarget.value)}
      onBlur={(event) => leave(event.currentTarget)}
      onKeyDown={(event) => {
        if (event.key !== 'Enter' && event.key !== 'Escape') return;
        cancelled.current = event.key === 'Escape';
        event.currentTarget.blur();
      }}
    />
  );
}

/** Colours from outside are set by script: the page's policy forbids style attributes. */
export function Swatch({ color }: { color: string }) {
  return <span class="swatch" style={{ backgroundColor: color }} />;
}
