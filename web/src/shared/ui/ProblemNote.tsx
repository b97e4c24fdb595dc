/** Shows a problem in plain words near where it happened, with a way to try again. */
import { describeField, type Problem } from "../api/problem";

export function ProblemNote({
  problem,
  onRetry,
}: {
  problem: Problem | null;
  onRetry?: (() => void) | undefined;
}) {
  if (problem === null) return null;
  return (
    <div className="problem" role="alert" data-testid="problem">
      <div>
        <p>{problem.detail}</p>
        {problem.errors.length > 0 && (
          <ul>
            {problem.errors.map((error) => (
              <li key={error.path + error.message}>{describeField(error)}</li>
            ))}
          </ul>
        )}
      </div>
      {onRetry && (
        <button type="button" className="button button--small" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}
