"""The real alternatives for what is left of a run, each solved, verified and measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property

import numpy as np

from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.from_history import with_history
from athena_prefect.replanning.levers import candidates, gains_time, pairs
from athena_prefect.replanning.options import (
    Effort,
    Kind,
    ReplanningOption,
    dominates,
    finish_of,
    idle,
)
from athena_prefect.replanning.outlook import Outlook
from athena_prefect.replanning.picture import Picture
from athena_prefect.replanning.wording import described, in_words, kind_of, listed, title_of
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.exact import load
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.problem import RUNNER
from athena_prefect.schedule.proposal import Phase6Orchestrator, Proposal, Stability, stability
from athena_prefect.schedule.standing import Levers, Standing

HOUR = 3600.0
MOST_NAMED = 3
"""Tasks likely to run past their time-outs, and after their own deadlines, that an option's
risks name."""
ENOUGH = 4
"""Options, the abort among them, from which no further sets of levers are tried."""
LEAST_BUDGET = 0.02
"""Seconds that every set of levers gets, whatever is left, and no less than three schedules
take: enough to try each sort once."""


class Options:
    """The option set of one picture, solved within one budget."""

    def __init__(
        self,
        view: Picture,
        outlook: Outlook,
        orchestrator: Phase6Orchestrator,
        *,
        accepted_p50: float | None,
        old_starts: Mapping[str, float],
        standing: Standing | None = None,
        seed: int,
    ) -> None:
        self.view = view
        self.outlook = outlook
        self.orchestrator = orchestrator
        self.accepted_p50 = accepted_p50
        self.old_starts = old_starts
        self.standing = standing or view.standing
        self.seed = seed
        self.hurried: tuple[Kind, ...] = ()
        """Sorts of levers that there was too little time to look for the best of."""
        self.conflict = ""
        """Why nothing can be carried out, in words; empty where something can."""
        self.carry = self._carry()

    def _carry(self) -> Proposal | None:
        """Carrying on, where it gets to the goals."""
        if self.outlook.p50 is None:
            return None
        made = self.orchestrator.propose(self.view.carried_on(), budget_s=0.0, seed=self.seed)
        return self._measured(made)

    def _measured(self, proposal: Proposal) -> Proposal:
        """By what finished runs teach, where the run's forecasts rest on that."""
        return with_history(
            proposal,
            self.view.monitor.learned,
            accept_quantile=self.view.policy.accept_quantile,
            trust=self.view.policy.estimates_trusted,
            seed=self.seed,
        )

    @property
    def reference(self) -> float | None:
        """P50 finish by carrying on; where that never finishes, that at acceptance; seconds.

        By the same law as the options' own, so that what differs is the option.
        """
        if self.carry is not None and self.carry.robustness is not None:
            return self.carry.robustness.p50
        return self.outlook.p50 if self.outlook.p50 is not None else self.accepted_p50

    @property
    def _carried_in_time(self) -> float | None:
        """P(deadline) by carrying on, by the same law as the options' own."""
        if self.outlook.p_deadline is None or self.carry is None:
            return self.outlook.p_deadline
        return self.carry.success

    def solved(self, levers: Levers, budget_s: float) -> list[ReplanningOption]:
        """The options that no other dominates, the abort last; within the budget."""
        load()
        clock = self.orchestrator.clock
        until = clock() + budget_s
        todo = list(candidates(self.standing, levers))
        found: list[Proposal] = []
        hurried: list[Kind] = []
        unused: list[Levers] = []
        for k, (kind, some) in enumerate(todo):
            # What solving leaves is needed to verify and to simulate.
            share = 0.7 * max(until - clock(), 0.0) / (len(todo) - k)
            least = max(LEAST_BUDGET, 3 * self._first_took())
            if share < least:
                if not some and self._as_carried:
                    found.append(self._as_carried)
                    continue
                hurried += [kind] if some else []
            if not self._add(found, some, max(share, least)) and gains_time(some):
                unused.append(some)
        self.hurried = tuple(dict.fromkeys(hurried))
        options = self._kept(found)
        # What is in time at the least price pulls no lever that costs; to end earlier for more
        # is an alternative all the same.
        for k, some in enumerate(unused):
            left = until - clock()
            if len(options) >= ENOUGH - 1 and left <= 0:
                break
            share = max(0.7 * left / (len(unused) - k), LEAST_BUDGET, 3 * self._first_took())
            if self._add(found, some, share, Objective.MAKESPAN):
                options = self._kept(found)
        for some in pairs(self.standing, levers):
            for objective in (Objective.COST, Objective.MAKESPAN):
                if len(options) >= ENOUGH - 1 or clock() >= until:
                    break
                if self._add(found, some, 0.7 * (until - clock()), objective):
                    options = self._kept(found)
        self.conflict = "" if found else self.conflict
        return [replace(o, option_id=k) for k, o in enumerate([*options, self._abort()])]

    def _add(
        self,
        found: list[Proposal],
        levers: Levers,
        budget_s: float,
        objective: Objective = Objective.COST,
    ) -> bool:
        """Solve another set of levers; whether it is another way to go on than those known."""
        proposal = self.orchestrator.propose(
            self.standing,
            levers,
            objective=objective,
            budget_s=budget_s,
            seed=self.seed,
        )
        # The bare rest is tried first: its conflict is what levers would have to help.
        self.conflict = self.conflict or proposal.why_not
        new = proposal.feasible and not any(_same(proposal, other) for other in found)
        if new:
            found.append(self._measured(proposal))
        return new

    def _kept(self, found: Sequence[Proposal]) -> list[ReplanningOption]:
        """The options that none is better than."""
        options = [self._option(proposal) for proposal in found]
        options = [o for o in options if not idle(o, options)]
        return [o for o in options if not any(dominates(p, o) for p in options if p is not o)]

    @cached_property
    def _as_carried(self) -> Proposal | None:
        """Carrying on, where nothing stands between it and an option that pulls no lever."""
        calm = self.standing is self.view.standing and not (self.view.reaches or self.view.failed)
        return self.carry if calm and self.carry is not None and self.carry.feasible else None

    def exactly(self, levers: Levers, budget_s: float) -> ReplanningOption | None:
        """The option that pulls just these levers, all of them; None where it cannot be."""
        load()
        proposal = self.orchestrator.propose(
            self.standing, levers, objective=Objective.COST, budget_s=budget_s, seed=self.seed,
            exactly=True,
        )  # fmt: skip
        return self._option(self._measured(proposal)) if proposal.feasible else None

    def _first_took(self) -> float:
        """Seconds that the first schedule of the rest took."""
        if self.carry is None or not self.carry.answer.history:
            return 0.0
        return self.carry.answer.history[0].seconds

    def recommended(
        self, options: Sequence[ReplanningOption], strategy: AdaptiveReplanning
    ) -> int | None:
        """The cheapest that is in time with enough probability, else the least late one."""
        if strategy is AdaptiveReplanning.NONE:
            return None
        if strategy is AdaptiveReplanning.ABORT:
            return options[-1].option_id
        real = [o for o in options if o.kind is not Kind.ABORT]
        if not real:
            return options[-1].option_id
        sure = [o for o in real if o.in_time >= self.view.policy.min_probability]
        if sure:
            return min(sure, key=lambda o: (o.price, o.lateness, finish_of(o))).option_id
        # What is ended for its time-out comes to no end, however early that was planned.
        lasting = [o for o in real if o.within_timeouts >= self.view.policy.min_probability]
        return min(lasting or real, key=lambda o: (o.lateness, o.price, finish_of(o))).option_id

    def _option(self, proposal: Proposal) -> ReplanningOption:
        kind, robust = kind_of(proposal), proposal.robustness
        assert robust is not None
        moment = self.view.monitor.moment
        reference = self.reference
        impact = None if reference is None else timedelta(seconds=robust.p50 - reference)
        bound = self.view.calm.deadline
        has_deadline = self.view.monitor.deadline is not None
        in_time = proposal.success
        assert in_time is not None
        kept_to = robust.probability(robust.accepted) * proposal.within_timeouts
        success = in_time if has_deadline else kept_to
        kept, extra = self._stability(proposal)
        words = tuple(str(c) for c in proposal.changes)
        cost = proposal.cost - (self.carry.cost if self.carry is not None else 0.0)
        return ReplanningOption(
            option_id=0,
            title=title_of(kind, proposal),
            description=described(words, impact),
            timeline_impact=impact,
            cost_impact=cost,
            resource_impact=self._resources(proposal),
            success_probability=success,
            implementation_effort=_effort(proposal),
            risks=tuple(self._risks(proposal, in_time)),
            benefits=tuple(self._benefits(proposal, impact, in_time)),
            kind=kind,
            samples=robust.samples,
            finish=moment(robust.p50),
            accepted_finish=moment(robust.accepted),
            value_lost=proposal.value_lost,
            quality_lost=proposal.quality_lost,
            stability=kept,
            extra_change=extra,
            in_time=in_time,
            within_timeouts=proposal.within_timeouts,
            lateness=timedelta(seconds=max(robust.p50 - bound, 0.0) if bound is not None else 0.0),
            changes=words,
            lessons=proposal.answer.lessons,
            proposal=proposal,
        )

    def _stability(self, proposal: Proposal) -> tuple[Stability, float | None]:
        kept = stability(self.standing, self.old_starts, self._end_of(proposal), proposal)
        if self.carry is None or not self.carry.feasible:
            return kept, None
        return kept, self._alone.value - kept.value

    @cached_property
    def _alone(self) -> Stability:
        """How much of the old plan carrying on keeps."""
        assert self.carry is not None
        return stability(self.standing, self.old_starts, self._end_of(self.carry), self.carry)

    def _end_of(self, proposal: Proposal) -> float:
        """End of the old plan, in seconds; where none was accepted that of carrying on."""
        known = self.carry or proposal
        return self.accepted_p50 or known.answer.makespan or 0.0

    def _resources(self, proposal: Proposal) -> dict[str, float]:
        """Unit-hours of each resource, more than by carrying on."""
        new, old = _unit_hours(proposal), self._carried_hours
        return {n: new.get(n, 0.0) - old.get(n, 0.0) for n in self.view.plan.resources}

    @cached_property
    def _carried_hours(self) -> dict[str, float]:
        return {} if self.carry is None else _unit_hours(self.carry)

    def _risks(self, proposal: Proposal, in_time: float) -> Iterator[str]:
        robust = proposal.robustness
        assert robust is not None
        by = "the deadline" if self.view.monitor.deadline is not None else "the tolerated finish"
        if in_time < 1.0:
            how = "by the planned durations" if robust.certain else f"of {robust.samples} scenarios"
            yield f"{by} is missed in {1 - in_time:.0%} {how}"
        yield from map(str, proposal.verification.overdue[:MOST_NAMED])
        for task, chance in sorted(proposal.overruns.items(), key=lambda o: -o[1])[:MOST_NAMED]:
            yield f"{task} runs past its time-out with a probability of {chance:.0%}"
        for task in sorted(proposal.levers.relaxed):
            yield f"a result of {task} that meets only the relaxed criteria counts in full"
        if proposal.value_lost or proposal.answer.dropped:
            named = ", ".join(proposal.answer.dropped)
            yield f"leaves out {named} (value {proposal.value_lost:g})"
        if proposal.quality_lost:
            yield f"results are worth {proposal.quality_lost:g} less"
        for before, after in sorted(proposal.cut):
            yield f"{after} may start before {before} has ended"
        spread = robust.quantiles["p95"] - robust.p50
        if spread > 0:
            yield f"one run in twenty ends more than {in_words(spread)} after the P50 finish"

    def _benefits(
        self, proposal: Proposal, impact: timedelta | None, in_time: float
    ) -> Iterator[str]:
        robust = proposal.robustness
        assert robust is not None
        if impact is not None and impact.total_seconds() < -TOLERANCE:
            against = "than carrying on" if self.outlook.p50 is not None else "than was accepted"
            yield f"{in_words(-impact.total_seconds())} earlier {against}"
        if proposal.levers.timeouts:
            named = listed(sorted(proposal.levers.timeouts))
            yield f"{named} may take as long as is to be expected by now"
        if self.outlook.p50 is None:
            yield "reaches the goals, which carrying on does not"
        before = self._carried_in_time
        if before is not None and in_time > before:
            yield f"P(deadline) {in_time:.2f} instead of {before:.2f}"
        if not proposal.changes:
            yield "changes nothing but times"

    def _abort(self) -> ReplanningOption:
        running = [
            (end, start)
            for item, (start, end) in self.view.calm.spans.items()
            if item not in self.view.calm.over
        ]
        now = self.view.calm.now
        cancels = self.view.plan.replanning.running_tasks_on_abort == "cancel"
        lost = sum(now - start for _, start in running) if cancels else 0.0
        required = self.view.plan.required & set(self.view.unfinished)
        place = self.view.plan.task_ids.index
        undone = sorted(required, key=place)
        saved = self.carry.cost if self.carry is not None else 0.0
        return ReplanningOption(
            option_id=0,
            title="Abort and escalate",
            description="Stop work and hand over to a human"
            + (f"; {listed(undone)} stay undone" if undone else ""),
            timeline_impact=None,
            cost_impact=0.0 - saved,  # nothing is 0, not -0
            resource_impact={n: -h for n, h in self._carried_hours.items()},
            success_probability=0.0,
            implementation_effort=Effort.HARD,
            risks=(f"the goals are not reached: {listed(undone)} are not done",) if undone else (),
            benefits=("nothing more is spent",) if saved else (),
            kind=Kind.ABORT,
            samples=0,
            work_lost=timedelta(seconds=lost),
            in_time=0.0,
        )


def _same(one: Proposal, other: Proposal) -> bool:
    if one.answer.schedule is None or other.answer.schedule is None:
        return False
    mine, its = (
        (p.modes, p.cut, p.answer.dropped, p.levers.capacity, p.levers.timeouts, p.levers.relaxed)
        for p in (one, other)
    )
    return (
        mine == its
        and abs((one.answer.makespan or 0.0) - (other.answer.makespan or 0.0)) <= TOLERANCE
    )


def _effort(proposal: Proposal) -> Effort:
    kinds = {c.kind for c in proposal.changes}
    if ChangeKind.CAPACITY in kinds:
        return Effort.HARD
    if kinds & {ChangeKind.DEPENDENCY, ChangeKind.DROPPED}:
        return Effort.MODERATE
    return Effort.EASY if kinds & {ChangeKind.MODE, ChangeKind.AGAIN} else Effort.TRIVIAL


def _unit_hours(proposal: Proposal) -> dict[str, float]:
    """Resource → units × hours of all that is still to be done."""
    schedule, standing = proposal.answer.schedule, proposal.standing
    if schedule is None:
        return {}
    problem = schedule.problem
    begin, index = problem.rows.tolist(), problem.task_index
    open_ = [
        (begin[index[task]] + (item or 0), start, finish)
        for (task, item), (start, finish) in proposal.spans.items()
        if (task, item) not in standing.over and task in index
    ]
    rows, starts, finishes = np.array(open_).reshape(-1, 3).T
    hours = (finishes - np.maximum(starts, standing.now)) / HOUR
    units = (problem.demands[rows.astype(np.int64)] * hours[:, None]).sum(axis=0)
    return {
        name: float(amount)
        for name, amount in zip(problem.resources, units, strict=True)
        if name != RUNNER and amount
    }
