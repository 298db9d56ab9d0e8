import { useState } from "preact/hooks";

/** Something that a button does: whether it is under way, and what went wrong the last time. */
export interface Task {
  busy: boolean;
  error: Error | null;
  /** Does nothing while another run is under way. True if it went well. */
  run(task: () => Promise<unknown>): Promise<boolean>;
}

export function useTask(): Task {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<Error | null>(null);
  return {
    busy,
    error,
    run: async (task) => {
      if (busy) return false;
      setBusy(true);
      setError(null);
      try {
        await task();
        return true;
      } catch (failure) {
        setError(failure instanceof Error ? failure : new Error(String(failure)));
        return false;
      } finally {
        setBusy(false);
      }
    },
  };
}
