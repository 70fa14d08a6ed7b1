"""The ten tools of the specification. Each asks the service once and answers briefly."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastmcp import Context
from pydantic import Field

from athena_prefect import service
from athena_prefect.mcp import arguments as given
from athena_prefect.mcp import results, wording
from athena_prefect.mcp.answering import Desk
from athena_prefect.mcp.asking import answer_of, ask, can_ask
from athena_prefect.settings import AthenaSettings


class Tools:
    """The tools over one database and namespace."""

    def __init__(self, settings: AthenaSettings) -> None:
        self.settings = settings
        self.desk = Desk()
        self.runs = service.KeptRuns()

    async def start_execution_monitoring(
        self,
        context: Context,
        plan_id: given.PlanId,
        time: Annotated[
            given.Moment | None,
            Field(description="When the run began; now if not given. With a time zone."),
        ] = None,
        key: Annotated[
            given.Key | None,
            Field(
                description="Only to begin a run beside one that lives: the same key is the same "
                "run, however often it is told."
            ),
        ] = None,
    ) -> results.Monitoring:
        """Begin to monitor a run of a registered plan that no Prefect flow runs.

        Replies with the run's own plan_id: use that from here on. Where the plan has a
        live run already (of Prefect's too), that one is the answer and nothing begins.
        Ask the person first: which plan, whether the work has begun, and when. Then say
        what happens with record_task_event.
        """

        def work() -> results.Monitoring:
            begun = service.begin(
                plan_id, started_at=time, key=key, author=_client(context), settings=self.settings
            )
            return wording.monitoring(
                begun, service.standing(begun.plan_id, settings=self.settings, kept=self.runs)
            )

        return await self.desk.answered(context, "beginning a run", work)

    async def record_task_event(
        self,
        context: Context,
        plan_id: given.PlanId,
        task_id: Annotated[given.Text, Field(description="The task, as the plan names it.")],
        event_type: Annotated[
            str, Field(description="start or complete.", pattern="^(start|complete)$")
        ],
        actual_duration: Annotated[
            given.Seconds | None,
            Field(
                description="Of a completion: seconds. With time it must agree with the start; "
                "without time it says when the task ended."
            ),
        ] = None,
        outcome: Annotated[
            str | None,
            Field(
                description="Of a completion: success, failure, partial or blocked.",
                pattern="^(success|failure|partial|blocked)$",
            ),
        ] = None,
        resources_used: Annotated[
            given.Amounts | None,
            Field(
                description="Amounts by the plan's resources: measured ones of a completion, "
                "allocated ones of a start. Leave out what was not measured."
            ),
        ] = None,
        time: Annotated[
            given.Moment | None,
            Field(description="When it happened; now if not given. With a time zone."),
        ] = None,
        attempt: Annotated[
            int | None,
            Field(ge=1, le=10_000, description="Which try it is, from 1; only compared."),
        ] = None,
        map_index: Annotated[
            int | None, Field(ge=0, le=1_000_000, description="Item of a mapped task, from 0.")
        ] = None,
        key: Annotated[
            given.Key | None,
            Field(description="The same key is the same event: safe to send again."),
        ] = None,
    ) -> results.TaskEvent:
        """Record that a task has started or ended, in a run that callers record.

        Replies with the task's record beside its plan and with where the run stands. A
        failed task may be started again. The run ends by itself when every task is over
        and every required one succeeded. Only say what happened: ask the person where
        the outcome or the time is not certain. Prefect's own runs record themselves.
        """

        def work() -> results.TaskEvent:
            told = service.record(
                plan_id, task_id, event_type, actual_duration=actual_duration, outcome=outcome,
                resources_used=resources_used, at=time, attempt=attempt, map_index=map_index,
                key=key, settings=self.settings,
            )  # fmt: skip
            return wording.task_event(
                told, service.standing(told.plan_id, settings=self.settings, kept=self.runs)
            )

        return await self.desk.answered(context, f"recording {task_id}", work)

    async def get_plan_deviation(
        self, context: Context, plan_id: given.PlanId | None = None
    ) -> results.Deviation:
        """Say how far a run is off: forecast finish, slip, tasks at risk, how sure that is.

        Without plan_id it is the one live run; where there are several, the error lists
        them: ask the person which one is meant.
        """

        def work() -> results.Deviation:
            return wording.deviation(
                service.standing(plan_id, settings=self.settings, kept=self.runs)
            )

        return await self.desk.answered(context, "measuring the deviation", work)

    async def validate_assumption(
        self,
        context: Context,
        plan_id: given.PlanId,
        assumption_id: Annotated[given.Text, Field(description="As the plan names it.")],
        validation_data: Annotated[
            given.Observed,
            Field(
                description='What is observed, under any name: {"cpus": 5}; several values where '
                "the plan's check names its field. Leave it out to have the plan's own check made."
            ),
        ] = None,
        validation_method: Annotated[
            str,
            Field(
                description="Where the observation comes from: auto (as the plan says), manual "
                "(a person), sensor, external.",
                pattern="^(auto|manual|sensor|external)$",
            ),
        ] = "auto",
        author: Annotated[given.Text | None, Field(description="Who says so, as claimed.")] = None,
        key: Annotated[
            given.Key | None,
            Field(description="The same key is the same validation: safe to send again."),
        ] = None,
    ) -> results.Validation:
        """Check whether an assumption of a run still holds, and write down what was found.

        The plan says what is expected; what was found acts on the run at once: its
        forecast, and whether it is replanned. Ask the person where the observation is
        not your own: who saw it, when, in which unit. valid is null where nothing could
        be seen; that is not false.
        """

        def work() -> results.Validation:
            found = service.validate_assumption(
                plan_id, assumption_id, validation_data, validation_method, key=key,
                author=author or _client(context), settings=self.settings,
            )  # fmt: skip
            return wording.validation(found)

        return await self.desk.answered(context, f"checking {assumption_id}", work)

    async def check_replanning_need(
        self, context: Context, plan_id: given.PlanId
    ) -> results.Evaluation:
        """Say whether the rest of a run needs another plan, which strategy, and all reasons.

        Nothing is changed. Where one is needed, show the person the rationale and go on
        with generate_replanning_options.
        """

        def work() -> results.Evaluation:
            return wording.evaluation(service.replanning_options(plan_id, settings=self.settings))

        return await self.desk.answered(context, "evaluating the run", work)

    async def generate_replanning_options(
        self,
        context: Context,
        plan_id: given.PlanId,
        strategy: Annotated[
            given.Strategy | None,
            Field(
                description="How much may be changed: local (one task), segment (the next few), "
                "full (all that is left), abort; what is called for if not given."
            ),
        ] = None,
    ) -> results.Options:
        """Solve and measure the alternatives for the rest of a run; nothing is adopted.

        Each option is a verified and simulated plan against carrying on: timeline, cost,
        success probability, risks. Show them to the person with the recommended one, ask
        which to take and who decides, then call execute_replan with this reply's
        strategy and revision and with the option's id and title.
        """

        def work() -> results.Options:
            return wording.options(
                service.replanning_options(plan_id, strategy=strategy, settings=self.settings)
            )

        return await self.desk.answered(context, "solving the options", work)

    async def execute_replan(
        self,
        context: Context,
        plan_id: given.PlanId,
        strategy: Annotated[
            given.Strategy, Field(description="As generate_replanning_options replied.")
        ],
        option_id: Annotated[int, Field(ge=0, le=1_000, description="The option that was chosen.")],
        revision: Annotated[
            int,
            Field(
                ge=1,
                le=1_000_000,
                description="The revision for which it was chosen; refused where another is in "
                "force meanwhile.",
            ),
        ],
        idempotency_key: Annotated[
            given.Key,
            Field(description="Of this choice: the same key carries it out once."),
        ],
        title: Annotated[
            given.Text | None,
            Field(
                description="The option's title as it was shown: it decides, for the list is "
                "solved again and its numbers may change. Always give it."
            ),
        ] = None,
        author: Annotated[given.Text | None, Field(description="Who decided, as claimed.")] = None,
    ) -> results.Replanned:
        """Have a run go on by one of its options. This changes the run; abort ends it.

        Never choose by yourself unless the person told you to: show the options, ask
        which one and in whose name. A client that can ask is asked once more before
        anything changes. Of two choices for the same revision one wins, the other is
        refused and says which was faster.
        """
        choice = service.Choice(
            strategy=strategy, option_id=option_id, revision=revision, key=idempotency_key,
            title=title, author=author or _client(context),
        )  # fmt: skip
        answer = answer_of(context)
        if answer is None and can_ask(context):

            def look() -> Any:
                return service.preview(plan_id, choice, settings=self.settings)

            option = await self.desk.answered(context, "solving the option", look)
            if option is not None:
                answer = await ask(context, wording.question(option), option.title)
                if answer.question is not None:
                    question: results.Replanned = answer.question
                    return question
        if answer is not None:
            choice = replace(choice, title=answer.shown)

        def work() -> results.Replanned:
            done = service.execute(plan_id, choice, settings=self.settings)
            return wording.replanned(
                done, service.standing(done.plan_id, settings=self.settings, kept=self.runs)
            )

        return await self.desk.answered(context, "carrying the option out", work)

    async def get_execution_patterns(
        self, context: Context, plan_id: given.PlanId
    ) -> results.Patterns:
        """Say what recurs from run to run of a plan: durations, waits, failures, resources.

        Each is tested, corrected for all that were tested, and has its size with an
        interval; null confidence is an observation, seen and not tested. Where there is
        too little history, the reply says so: tell the person, and do not generalise.
        """

        def work() -> results.Patterns:
            return wording.patterns(service.patterns_of(plan_id, settings=self.settings))

        return await self.desk.answered(context, "looking for patterns", work)

    async def get_estimation_accuracy(
        self, context: Context, plan_id: given.PlanId | None = None
    ) -> results.Accuracy:
        """Say how accurate estimates were, over the finished runs of a plan or of all plans.

        Durations, resources, dependencies, assumptions, and whether they get better.
        Where there is too little history figures are null and say why: tell the person
        so instead of guessing.
        """

        def work() -> results.Accuracy:
            return wording.accuracy(service.accuracy_of(plan_id, settings=self.settings))

        return await self.desk.answered(context, "measuring estimates", work)

    async def get_execution_recommendations(
        self, context: Context, plan_id: given.PlanId | None = None
    ) -> results.Recommendations:
        """Say what to change in the next plan, over the finished runs of a plan or of all plans.

        Each benefit was measured by replaying past runs with the change; null confidence
        means that it rests on one sample. `lessons` are what earlier runs taught, with
        their evidence; `athena learn` adds to them, this does not. Nothing is changed: ask
        the person which of it to put into the plan document.
        """

        def work() -> results.Recommendations:
            found = service.recommendations_of(plan_id, settings=self.settings)
            return wording.recommendations(found)

        return await self.desk.answered(context, "replaying past runs", work)


def _client(context: Context) -> str:
    """The client's own name for itself."""
    try:
        info = context.session.client_params
        name = info.client_info.name if info is not None else ""
    except (AttributeError, RuntimeError):
        name = ""
    return f"mcp:{name}"[:100] if name else "mcp"
