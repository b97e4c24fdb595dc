"""What may happen to a run: who may ask for it, for another try, or for its end."""

from __future__ import annotations

import msgspec

from reyna.domain.event import Rules
from reyna.domain.processor import (
    FINISHED,
    ProcessorCancelled,
    ProcessorRequested,
    Run,
    RunRequest,
    boundary,
)
from reyna.errors import Conflict

RETRIED = frozenset({"failed", "cancelled"})


class RunRules(Rules):
    """What may happen to one run; `run` is None before its first event."""

    def __init__(self, owner: str, run_id: str, run: Run | None) -> None:
        self.boundary = boundary(owner, run_id)
        self.run_id = run_id
        self.run = run

    def request(self, event: RunRequest) -> None:
        """Ask for a new run. Raises Conflict if there is one of that id."""
        if self.run is not None:
            raise Conflict(f"Run {self.run_id} exists already.")
        self.decide(self.run_id, event)

    def retry(self) -> None:
        """Ask for the same again. Raises Conflict unless the run failed or was cancelled."""
        run = self.run
        if run is None or run.status not in RETRIED:
            raise Conflict(
                f"Run {self.run_id} is {run.status if run else 'queued'}: only one that failed or"
                " was cancelled is tried again."
            )
        again = run.request or ProcessorRequested(
            run_id=self.run_id, processor_id=run.processor_id, blob_id=run.blob_id
        )
        self.decide(self.run_id, msgspec.structs.replace(again, bucket_ids=run.bucket_ids))

    def cancel(self, waiting: Run) -> None:
        """Stop the run; `waiting` is what it is while nothing has been written of it. Raises
        Conflict if it has ended.
        """
        run = self.run or waiting
        if run.status in FINISHED:
            raise Conflict(f"Run {self.run_id} is {run.status} already.")
        self.decide(
            self.run_id,
            ProcessorCancelled(
                run_id=self.run_id,
                processor_id=run.processor_id,
                blob_id=run.blob_id,
                bucket_ids=run.bucket_ids,
            ),
        )
