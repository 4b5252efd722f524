"""The history of one task: is there an order of its writes in which every response is right?

Versions are the witness. They order the states, so no search through the orders of thousands of calls is needed: each
step from one version to the next must be the work of one write that was acknowledged with that version (or, without an
etag, with a later one), or of one whose outcome is unknown. Such a write may have happened or not, once, and at any
time after its start.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.faults.anomalies import Anomaly, Kind
from tests.faults.history import Call
from tests.faults.outcomes import (
    COMPLETE,
    Content,
    State,
    changed,
    etag_in,
    is_repeated,
    may_have_happened,
)

_BUDGET = 20_000
"""Most steps of a search for the writes between two versions; then they count as explained."""

Seen = tuple[Call, State]


class TaskHistory:
    """All calls for one task, and the states in their responses."""

    def __init__(self, task_id: str) -> None:
        self.id = task_id
        self.seen: list[Seen] = []
        self.writes: list[Call] = []
        """Updates and completes."""
        self.deletes: list[Call] = []
        self.missing: list[Call] = []
        """Calls that were NOT_FOUND."""
        self.created_with: Content | None = None
        """The content that the create asked for."""

    def check(self) -> Iterator[Anomaly]:
        """All contradictions in this history."""
        self.seen.sort(key=lambda seen: seen[0].end)
        states, conflicts = self._states()
        yield from conflicts
        yield from self._order()
        yield from self._absence()
        steps = Steps(self, states)
        yield from steps.check()
        yield from self._etags(steps.writers)
        yield from self._times([states[version][1] for version in sorted(states)])

    def anomaly(self, kind: Kind, *calls: Call) -> Anomaly:
        return Anomaly(kind, f"task {self.id}", calls)

    def _states(self) -> tuple[dict[int, Seen], list[Anomaly]]:
        """The first sight of each version, and the sights that contradict it."""
        states: dict[int, Seen] = {}
        conflicts = []
        for seen in self.seen:
            first = states.setdefault(seen[1].version, seen)
            if first[1] != seen[1]:
                both_wrote = all(call.method in {"UpdateTask", "CompleteTask"} for call, _ in (first, seen))
                kind = Kind.LOST_UPDATE if both_wrote else Kind.CONFLICTING_STATES
                conflicts.append(self.anomaly(kind, first[0], seen[0]))
        return states, conflicts

    def _order(self) -> Iterator[Anomaly]:
        """No response may be older than one that was received before its call began."""
        ended = 0
        newest: Seen | None = None
        last = max((seen for seen in self.seen), key=lambda seen: seen[0].start, default=None)
        for call, state in sorted(self.seen, key=lambda seen: seen[0].start):
            while ended < len(self.seen) and self.seen[ended][0].end < call.start:
                if newest is None or self.seen[ended][1].version > newest[1].version:
                    newest = self.seen[ended]
                ended += 1
            if newest and last and state.version < newest[1].version:
                lost = last[1].version < newest[1].version
                yield self.anomaly(Kind.LOST_WRITE if lost else Kind.STALE_READ, newest[0], call)

    def _absence(self) -> Iterator[Anomaly]:
        """NOT_FOUND needs a delete, and is final."""
        possible = [call for call in self.deletes if may_have_happened(call)]
        started = min((call.start for call in possible), default=float("inf"))
        last = max(self.seen, key=lambda seen: seen[0].start)[0]
        for call in self.missing:
            if call.end < started:
                lost = Kind.REFUSED_BUT_DONE if call.method == "DeleteTask" else Kind.LOST_WRITE
                yield self.anomaly(Kind.WRONG_STATUS if last.start > call.end else lost, last, call)
        acknowledged = [call for call in possible if call.code == "OK"]
        gone = min((call for call in (*acknowledged, *self.missing)), key=lambda call: call.end, default=None)
        if gone and last.start > gone.end:
            yield self.anomaly(Kind.UNDELETED, gone, last)
        done = [call for call in acknowledged if not call.request.allow_missing]
        if len(done) > 1:
            yield self.anomaly(Kind.DELETED_TWICE, *done[:2])

    def _etags(self, writers: dict[int, Call]) -> Iterator[Anomaly]:
        """A write with an etag succeeds on that state, and only there."""
        newest = max(self.seen, key=lambda seen: seen[1].version)
        responses = {id(call): state.version for call, state in self.seen if call.method != "ListTasks"}
        unknown = any(may_have_happened(call) and call.code != "OK" for call in self.writes)
        for call in (*self.writes, *self.deletes):
            etag = etag_in(call)
            if not etag:
                continue
            if call.code == "ABORTED" and not unknown:
                next_writer = writers.get(etag + 1)
                if newest[1].version <= etag or (next_writer and next_writer.start > call.end):
                    yield self.anomaly(Kind.FALSE_ABORT, newest[0], call)
            elif call.code == "OK" and call.method == "DeleteTask":
                if newest[1].version > etag and not call.request.allow_missing:
                    yield self.anomaly(Kind.ETAG_IGNORED, newest[0], call)
            elif call.code == "OK":
                version = responses.get(id(call), etag)
                is_next = version == etag + 1 and writers.get(version, call) is call
                if version != etag and not is_next:
                    yield self.anomaly(Kind.ETAG_IGNORED, call)

    def _times(self, states: Sequence[State]) -> Iterator[Anomaly]:
        for state in states:
            if (state.content.status == COMPLETE) != bool(state.completed) or state.updated < state.created:
                yield self.anomaly(Kind.TIME_WENT_BACK, *self._sights(state))
        for before, after in pairwise(states):
            stays = before.content.status == after.content.status == COMPLETE and after.version == before.version + 1
            moved = stays and before.completed != after.completed
            if after.updated < before.updated or after.created != before.created or moved:
                yield self.anomaly(Kind.TIME_WENT_BACK, *self._sights(before), *self._sights(after))

    def _sights(self, state: State) -> list[Call]:
        return [call for call, seen in self.seen if seen == state][:1]


class Steps:
    """Finds the write behind each step from one version to the next."""

    def __init__(self, history: TaskHistory, states: dict[int, Seen]) -> None:
        self._history = history
        self._states = states
        self.writers: dict[int, Call] = {}
        self._used: set[int] = set()
        self._with_earlier = False
        self._by_version: dict[int, list[Call]] = {}
        responses = {id(call): state.version for call, state in history.seen if call.method != "ListTasks"}
        for call in history.writes:
            if call.code == "OK" and id(call) in responses:
                self._by_version.setdefault(responses[id(call)], []).append(call)
        possible = [call for call in history.writes if may_have_happened(call)]
        self._unknown = [call for call in possible if call.code != "OK" or is_repeated(call)]
        # A write without an etag that was repeated after a lost connection finds its work done, by now with that of
        # others: the version of its response is then later than its own.
        self._earlier = [
            (call, responses[id(call)])
            for call in possible
            if call.code == "OK" and not etag_in(call) and id(call) in responses
        ]

    def check(self) -> Iterator[Anomaly]:
        versions = sorted(self._states)
        first, created = self._states[versions[0]], self._history.created_with
        if versions[0] != 1 and created is not None:
            yield from self._step(1, created, versions[0])
        elif created is not None and first[1].content != created:
            yield self._history.anomaly(Kind.WRONG_RESPONSE, first[0])
        for before, after in pairwise(versions):
            yield from self._step(before, self._states[before][1].content, after)

    def _step(self, before: int, content: Content, after: int) -> Iterator[Anomaly]:
        wanted, seen_at = self._states[after][1].content, self._states[after][0].end
        for self._with_earlier in (False, True):  # only where nothing else explains the step
            self._budget = _BUDGET
            if (path := self._path(content, before, after, wanted, seen_at)) is not None:
                break
        else:
            yield self._diagnosis(content, after, wanted)
            return
        for version, call in enumerate(path, before + 1):
            self.writers[version] = call
            if not is_repeated(call):
                self._used.add(id(call))

    def _path(self, content: Content, before: int, after: int, wanted: Content, seen_at: float) -> list[Call] | None:
        """Writes that lead from a version to a later one, one for each version; None if there are none."""
        if before == after:
            return [] if content == wanted else None
        self._budget -= 1
        if self._budget < 0:
            return []
        # Those with an etag first: another write may also have found this version as it was to be.
        acknowledged = sorted(self._by_version.get(before + 1, ()), key=etag_in, reverse=True)
        earlier = self._earlier if self._with_earlier else ()
        repeated = (call for call, version in earlier if version > before + 1)
        for call in (*acknowledged, *self._unknown, *repeated):
            if (found := self._via(call, content, before, after, wanted, seen_at)) is not None:
                return found
        return None

    def _via(
        self, call: Call, content: Content, before: int, after: int, wanted: Content, seen_at: float
    ) -> list[Call] | None:
        if id(call) in self._used or call.start > seen_at or etag_in(call) not in {0, before}:
            return None
        result = changed(content, call)
        if result == content:
            return None
        if not is_repeated(call):
            self._used.add(id(call))
        rest = self._path(result, before + 1, after, wanted, seen_at)
        if not is_repeated(call):
            self._used.discard(id(call))
        return None if rest is None else [call, *rest]

    def _diagnosis(self, content: Content, after: int, wanted: Content) -> Anomaly:
        """The most likely reason for a step that no write explains."""
        history, sight = self._history, self._states[after][0]
        if wanted == content:
            return history.anomaly(Kind.NO_OP_CHANGED, sight)
        new = {wanted.title, wanted.description} - {content.title, content.description, ""}
        for call in history.writes:
            texts = {call.request.task.title, call.request.task.description} if call.method == "UpdateTask" else set()
            if not texts & new:
                continue
            if not may_have_happened(call):
                return history.anomaly(Kind.REFUSED_BUT_DONE, call, sight)
            if id(call) in self._used:
                return history.anomaly(Kind.DONE_TWICE, call, sight)
            if etag_in(call) not in {0, after - 1}:
                return history.anomaly(Kind.ETAG_IGNORED, call, sight)
            return history.anomaly(Kind.LOST_UPDATE, call, sight)
        acknowledged = self._by_version.get(after, [])
        return history.anomaly(Kind.LOST_UPDATE if acknowledged else Kind.UNEXPLAINED, *acknowledged[:2], sight)
