import { useState } from "preact/hooks";

import { ApiError } from "../../../clients/typescript/src/index.ts";
import { words } from "../format.ts";
import type { AdminSession } from "./session.ts";
import { FIELDS, SCORING_FIELDS, firstForm, termsOf, type Form } from "./termsForm.ts";
import { useTask } from "./useTask.ts";

export function Create({ session }: { session: AdminSession }) {
  const [form, setForm] = useState(firstForm);
  // Of this form as it is: pressed twice, or again after a lost answer, it is still one competition.
  const [key, setKey] = useState(() => crypto.randomUUID());
  const [made, setMade] = useState("");
  const task = useTask();
  const wrong = wrongFields(task.error);
  const change = (changes: Partial<Form>): void => {
    setForm({ ...form, ...changes });
    setKey(crypto.randomUUID());
    setMade("");
  };
  const create = async (): Promise<void> => {
    const created = await session.create(termsOf(form), key);
    setMade(created.terms?.name ?? created.id);
    setForm(firstForm());
    setKey(crypto.randomUUID());
  };
  return (
    <section aria-labelledby="create">
      <h2 id="create">New competition</h2>
      <details>
        <summary>Its terms</summary>
        <form
          class="form grid"
          onSubmit={(event) => {
            event.preventDefault();
            void task.run(create);
          }}
        >
          {FIELDS.map(({ name, label, type, min, required }) => (
            <label key={name}>
              {label}
              <input
                type={type}
                min={min}
                required={required}
                value={form[name]}
                aria-invalid={wrong.has(name)}
                onInput={(event) => change({ [name]: event.currentTarget.value })}
              />
              {wrong.has(name) && <span class="bad">{wrong.get(name)}</span>}
            </label>
          ))}
          <fieldset>
            <legend>What is predicted</legend>
            {SCORING_FIELDS.map((field) => (
              <label key={field} class="check">
                <input
                  type="checkbox"
                  checked={form.scoring_fields.includes(field)}
                  onChange={(event) => {
                    const others = form.scoring_fields.filter((other) => other !== field);
                    change({ scoring_fields: event.currentTarget.checked ? [...others, field] : others });
                  }}
                />
                {words(field)}
              </label>
            ))}
            {wrong.has("scoring_fields") && <span class="bad">{wrong.get("scoring_fields")}</span>}
          </fieldset>
          {task.error && (
            <p class="bad" role="alert">
              {task.error.message}
            </p>
          )}
          <button type="submit" disabled={task.busy}>
            {task.busy ? "Creating…" : "Create"}
          </button>
        </form>
      </details>
      <p role="status" class="good">
        {made && `“${made}” is created.`}
      </p>
    </section>
  );
}

/** What the server said of each field, by its name in the terms. */
function wrongFields(error: Error | null): Map<string, string> {
  const errors = error instanceof ApiError ? (error.problem?.errors ?? []) : [];
  return new Map(errors.map(({ field, description }) => [fieldName(field), description]));
}

/** `terms.locations[2]` is about `locations`. */
function fieldName(path: string): string {
  return path.replace(/^terms\./, "").replace(/\[.*$/, "");
}
