/**
 * The right side of an entry: the expansion while it grows and when it is done, else how its run
 * stands.
 * A live region that is busy while text grows: it is read out once, when it is whole.
 */
import { When } from "../../../shared/ui/When";
import type { Expansion, Original, Run } from "../api/entries";
import { describeProvenance, type ExpansionView, viewExpansion } from "../api/view";

export function ExpansionText(props: {
  original: Original;
  expansion: Expansion | undefined;
  run: Run | undefined;
}) {
  const view = viewExpansion(props.original, props.expansion, props.run);
  const isBusy = view.kind === "growing" || view.kind === "running";
  return (
    <section className={`side side--expansion side--${view.kind}`} aria-label="Expansion">
      <div className="side__head">
        <span className="side__title">
          Expansion {view.kind === "done" && <When time={view.expansion.created_at} />}
        </span>
        <span className="side__state">{caption(view)}</span>
      </div>
      <div
        data-testid="entry-expansion"
        data-status={view.kind}
        aria-live="polite"
        aria-busy={isBusy}
      >
        <Body view={view} />
      </div>
      {view.kind === "done" && <Provenance expansion={view.expansion} />}
    </section>
  );
}

function caption(view: ExpansionView): string {
  if (view.kind === "growing") return "Writing…";
  if (view.kind !== "done") return "";
  if (view.isRewriting) return "Being written again…";
  return view.isOutdated ? "Of an earlier version" : "";
}

function Body({ view }: { view: ExpansionView }) {
  switch (view.kind) {
    case "growing":
      return (
        <div className="prose prose--growing">
          {view.isWhole ? "" : "… "}
          {view.text}
        </div>
      );
    case "done":
      return <div className="prose">{view.expansion.data.expanded}</div>;
    case "running":
      return <p className="state state--busy">Starting to write…</p>;
    case "waiting":
      return view.detail === null ? (
        <p className="state state--busy">Waiting for its turn…</p>
      ) : (
        <p className="quiet">Waiting. {view.detail}</p>
      );
    case "failed":
      return (
        <p className="state state--failed">
          The expansion failed{view.error ? `: ${view.error}` : ", and no reason was given."}
        </p>
      );
    case "cancelled":
      return <p className="state">The expansion was cancelled.</p>;
    case "gone":
      return <p className="state">The expansion is no longer in this bucket.</p>;
  }
}

function Provenance({ expansion }: { expansion: Expansion }) {
  const line = describeProvenance(expansion);
  return line === "" ? null : <p className="side__foot">{line}</p>;
}
