/** What a check says: `note` is no fault, and may be worth knowing. */
export type Verdict = 'ok' | 'note' | 'warning' | 'problem';

/** One thing that was looked at. */
export interface Diagnosis {
  /** Stable, for programs. */
  readonly check: string;
  readonly verdict: Verdict;
  /** What was found, in words. */
  readonly found: string;
  /** What to do; none where nothing is to be done. */
  readonly advice: string | null;
}

/** A diagnosis of `check`. */
export const diagnosis = (check: string, verdict: Verdict, found: string, advice: string | null = null): Diagnosis => ({
  check,
  verdict,
  found,
  advice,
});
