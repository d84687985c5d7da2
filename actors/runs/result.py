"""What the actors of runs share whose callers wait for a result: who waits, and what they are told at the end."""

from __future__ import annotations

from ...runtime.calls import Call
from ...runtime.errors import RunError
from ...runtime.gen_server import GenServer, NoReply, call
from .messages import GetResult, RunResult, RunStatus


class GivesResult(GenServer):
    """A run that may be asked for its result at any time, and answers once it is over."""

    _result: RunResult | None = None
    _waiting: tuple[Call, ...] = ()

    @call
    def get_result(self, _: GetResult) -> NoReply:
        """What came of it, once something has."""
        if self._result is None:
            self._waiting = (*(caller for caller in self._waiting if not caller.settled), self.caller)
        else:
            self._answer(self.caller, self._result)
        return NoReply()

    def _settle(self, status: RunStatus) -> None:
        """It is over, as this status says: answer everybody who waits for that."""
        self._result = RunResult(
            run=status.run,
            outcome=status.state,  # type: ignore[arg-type]  # it is over
            state=status.best,
            score=status.best_score,
            base_score=status.base_score,
            status=status,
        )
        waiting, self._waiting = self._waiting, ()
        for caller in waiting:
            self._answer(caller, self._result)

    def _answer(self, caller: Call, result: RunResult) -> None:
        if result.outcome == "failed":
            why = result.status.reason
            self.fail(caller, RunError(f"the run {result.run!r} failed: {why}", run_id=result.run, reason=why))
        else:
            self.reply(caller, result)
