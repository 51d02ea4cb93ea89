"""The ledger against a small model of it, under any order of events: M1-M10 of its promises, checked by SQL after
every step on a real Postgres.

Each example runs in one transaction that is rolled back at its end; a crash is a savepoint that is rolled back.
"""

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.accounts.models import Team, User
from apps.core import clock, money
from apps.ledger import corrections, holds, usage
from apps.ledger.models import Budget, BudgetPeriod, TeamBudget
from apps.ops import reconcile
from tests import factories

ZONES = [
    "UTC",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "Asia/Kathmandu",
    "Europe/Berlin",
    "America/New_York",
]
BEGIN = datetime(2026, 10, 24, 12, tzinfo=UTC)  # the clocks of Europe go back that night
ZERO = Decimal(0)
NONE_YET = -1

Periods = tuple[int, int, int]

# Of the size of the limits, so that they are met and missed about as often; now and then the least there is.
amounts = st.sampled_from(
    [Decimal(n) for n in ("0.0000000001", "0.02", "0.3333333333", "1", "1.49", "2", "3")]
)
caps = st.sampled_from([None, *(Decimal(n) for n in ("0", "0.5", "1", "2", "3", "5", "8"))])
jumps = st.timedeltas(timedelta(hours=-30), timedelta(days=40)) | st.timedeltas(
    timedelta(0), timedelta(hours=6)
)
which = st.integers(0, 30)
somebody = st.integers(0, 1)

# Each row is a broken promise. A function, because it runs after every step: its plan is made once.
VIOLATIONS = """
SELECT 'M2 balance', p.id::text FROM ledger_budgetperiod p
LEFT JOIN (SELECT unnest(ARRAY[period_id, day_period_id, team_period_id]) AS id,
                  spent_delta_usd AS spent, held_delta_usd AS held FROM ledger_entry) e USING (id)
GROUP BY p.id HAVING p.spent_usd <> COALESCE(sum(e.spent), 0) OR p.held_usd <> COALESCE(sum(e.held), 0)
UNION ALL
SELECT 'M6 posted elsewhere', e.id::text FROM ledger_entry e JOIN ledger_hold h USING (reference)
WHERE (e.period_id, e.day_period_id, e.team_period_id) <> (h.period_id, h.day_period_id, h.team_period_id)
UNION ALL
SELECT 'M6 admitted elsewhere', h.id::text FROM ledger_hold h
JOIN ledger_budgetperiod p ON p.id IN (h.period_id, h.day_period_id, h.team_period_id)
WHERE h.created_at < p.starts_at OR h.created_at >= p.ends_at
UNION ALL
SELECT 'M6 overlapping periods', a.id::text FROM ledger_budgetperiod a JOIN ledger_budgetperiod b
  ON a.id < b.id AND a.scope = b.scope AND (a.user_id = b.user_id OR a.team_id = b.team_id)
WHERE a.starts_at < b.ends_at AND b.starts_at < a.ends_at
UNION ALL
SELECT 'M4 resolved twice', reference::text FROM ledger_entry WHERE kind IN ('capture', 'charge')
GROUP BY reference, kind HAVING count(*) > 1
UNION ALL
SELECT 'M4 paid without a capture', reference::text FROM ledger_hold WHERE state <> 'captured' AND captured_usd <> 0
UNION ALL
SELECT 'M9 another price', h.id::text FROM ledger_hold h JOIN ledger_entry e USING (reference)
WHERE e.kind IN ('capture', 'release', 'charge') AND e.price_id <> h.price_id
UNION ALL
SELECT 'a threshold without reason', id::text FROM ledger_budgetwarning
WHERE used_usd * 100 < limit_usd * threshold
"""


@dataclass
class Purchase:
    """The model of a hold."""

    who: int
    periods: Periods
    amount: Decimal
    state: str = "held"
    paid: Decimal = ZERO
    refunded: Decimal = ZERO


@dataclass
class Balance:
    spent: Decimal = ZERO
    held: Decimal = ZERO


@dataclass
class Limits:
    """A user's own."""

    month: Decimal = Decimal(5)
    day: Decimal | None = None
    job: Decimal | None = None


class Crash(Exception):
    pass


class Ledger(RuleBasedStateMachine):
    """Two users of one team."""

    team: ClassVar[Team]
    users: ClassVar[list[User]]

    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        self.undo.enter_context(transaction.atomic())
        with connection.cursor() as cursor:
            cursor.execute(
                "CREATE FUNCTION pg_temp.violations() RETURNS TABLE (promise text, broken_by text) LANGUAGE plpgsql AS "
                f"$$ BEGIN RETURN QUERY {VIOLATIONS}; END $$"
            )
        self.set_clock(BEGIN)
        self.limits = [Limits(), Limits()]
        self.team_cap: Decimal | None = None
        self.zones = ["UTC", "UTC"]
        self.purchases: dict[uuid.UUID, Purchase] = {}
        self.balances: dict[int, Balance] = {}

    def teardown(self) -> None:
        try:
            assert reconcile.differences() == []
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        transaction.set_rollback(True)
        self.undo.close()

    def set_clock(self, at: datetime) -> None:
        self.at = at
        self.undo.enter_context(clock.frozen(at))

    # --- The model ----------------------------------------------------------------------------

    def current(self, who: int) -> Periods:
        """The user's month and day and the team's month that are open now."""
        now = BudgetPeriod.objects.filter(starts_at__lte=self.at, ends_at__gt=self.at)
        found = {p.scope: p.pk for p in now.filter(user=self.users[who]) | now.filter(team=self.team)}
        month, day, team = (found.get(scope, NONE_YET) for scope in ("user_month", "user_day", "team_month"))
        return month, day, team

    def balance(self, pk: int) -> Balance:
        return Balance() if pk == NONE_YET else self.balances.setdefault(pk, Balance())

    def fits(self, who: int, periods: Periods, amount: Decimal, *, job: Decimal = ZERO) -> bool:
        """M1."""
        mine = self.limits[who]
        if mine.job is not None and job > mine.job:
            return False
        used = [self.balance(pk).spent + self.balance(pk).held for pk in periods]
        limits = (mine.month, mine.day, self.team_cap)
        return all(cap is None or u + amount <= cap for cap, u in zip(limits, used, strict=True))

    def move(self, periods: Periods, *, spent: Decimal = ZERO, held: Decimal = ZERO) -> None:
        for pk in periods:
            self.balance(pk).spent += spent
            self.balance(pk).held += held

    def expect(self, verb: Callable[[], Any], expected: type[Exception] | None) -> Any:
        """Runs the verb in a savepoint; it must raise just what the model expects."""
        raised: Exception | None = None
        result = None
        try:
            with transaction.atomic():
                result = verb()
        except (
            holds.BudgetExceeded,
            holds.HoldResolved,
            corrections.RefundTooLarge,
            IntegrityError,
        ) as error:
            raised = error
        assert type(raised) is (expected or type(None)), (raised, expected)
        return result

    def pick(self, choice: int, state: str) -> tuple[uuid.UUID, Purchase]:
        found = [(reference, p) for reference, p in self.purchases.items() if p.state == state]
        return found[choice % len(found)]

    def has(self, state: str) -> bool:
        return any(p.state == state for p in self.purchases.values())

    # --- The verbs ----------------------------------------------------------------------------

    def reserving(self, who: int, reference: uuid.UUID, amount: Decimal) -> None:
        holds.reserve(
            user_id=self.users[who].pk,
            timezone=self.zones[who],
            reference=reference,
            amount_usd=amount,
            price_id=reference,
        )

    @rule(who=somebody, amount=amounts)
    def reserve(self, who: int, amount: Decimal) -> None:
        reference = uuid.uuid4()
        fits = self.fits(who, self.current(who), amount, job=amount)
        self.expect(partial(self.reserving, who, reference, amount), None if fits else holds.BudgetExceeded)
        if fits:
            self.purchases[reference] = Purchase(who, self.current(who), amount)
            self.move(self.current(who), held=amount)

    @rule(
        who=somebody,
        amount=amounts,
        meanwhile=jumps | st.just(timedelta(0)),
        times=st.sampled_from([Decimal("0.5"), 1, 3]),
        back=st.sampled_from([Decimal("0.5"), 1, Decimal("1.01")]),
    )
    def buy(
        self, who: int, amount: Decimal, meanwhile: timedelta, times: Decimal | int, back: Decimal | int
    ) -> None:
        """The life of one purchase: held, settled at `times` the hold, perhaps in another month, and given back."""
        before = len(self.purchases)
        self.reserve(who, amount)
        if len(self.purchases) > before:
            reference, purchase = list(self.purchases.items())[-1]
            self.jump(meanwhile)
            self.settle(reference, purchase, money.amount(purchase.amount * times))
            if returned := money.amount(purchase.paid * back):
                self.give_back(reference, purchase, returned)

    @precondition(lambda self: self.has("held") or self.has("captured"))
    @rule(choice=which, amount=amounts, state=st.sampled_from(["held", "captured"]))
    def reserve_for_the_same_again(self, choice: int, amount: Decimal, state: str) -> None:
        if self.has(state):
            reference, purchase = self.pick(choice, state)
            fits = self.fits(purchase.who, self.current(purchase.who), amount, job=amount)
            refusal = IntegrityError if fits else holds.BudgetExceeded
            self.expect(partial(self.reserving, purchase.who, reference, amount), refusal)

    @precondition(lambda self: self.has("held"))
    @rule(choice=which, amount=amounts)
    def extend(self, choice: int, amount: Decimal) -> None:
        reference, purchase = self.pick(choice, "held")
        fits = self.fits(purchase.who, purchase.periods, amount, job=purchase.amount + amount)
        verb = partial(holds.extend, reference=reference, amount_usd=amount, price_id=reference)
        self.expect(verb, None if fits else holds.BudgetExceeded)
        if fits:
            purchase.amount += amount
            self.move(purchase.periods, held=amount)

    def capturing(self, reference: uuid.UUID, cost: Decimal) -> Decimal:
        paid = holds.capture(reference=reference, cost_usd=cost)
        usage.record(
            reference=reference,
            kind="image",
            model="standard",
            provider="wavespeed",
            cost_usd=paid,
            estimated_usd=cost,
            generation_ms=1200,
        )
        return paid

    @precondition(lambda self: self.has("held"))
    @rule(choice=which, cost=amounts | st.just(ZERO), times=st.sampled_from([None, 1, 3]))
    def capture(self, choice: int, cost: Decimal, times: int | None) -> None:
        """`times` the hold, or any cost; often in a later month than the hold's."""
        reference, purchase = self.pick(choice, "held")
        self.settle(reference, purchase, purchase.amount * times if times else cost)

    def settle(self, reference: uuid.UUID, purchase: Purchase, cost: Decimal) -> None:
        """M3."""
        self.move(purchase.periods, held=-purchase.amount, spent=min(cost, purchase.amount))
        paid, excess = min(cost, purchase.amount), cost - purchase.amount
        if excess > 0 and self.fits(purchase.who, purchase.periods, excess, job=cost):
            self.move(purchase.periods, spent=excess)
            paid = cost
        assert self.expect(partial(self.capturing, reference, cost), None) == paid
        purchase.state, purchase.paid = "captured", paid

    @precondition(lambda self: self.has("held"))
    @rule(choice=which)
    def release(self, choice: int) -> None:
        reference, purchase = self.pick(choice, "held")
        self.expect(partial(holds.release, reference=reference, reason="failed"), None)
        self.move(purchase.periods, held=-purchase.amount)
        purchase.state = "released"

    @precondition(lambda self: self.has("captured") or self.has("released"))
    @rule(choice=which, state=st.sampled_from(["captured", "released"]))
    def resolve_again(self, choice: int, state: str) -> None:
        if self.has(state):
            reference, _ = self.pick(choice, state)
            for verb in (
                partial(holds.release, reference=reference, reason="again"),
                partial(holds.capture, reference=reference, cost_usd=Decimal(1)),
                partial(holds.extend, reference=reference, amount_usd=Decimal(1), price_id=reference),
            ):
                self.expect(verb, holds.HoldResolved)

    @precondition(lambda self: self.has("captured"))
    @rule(choice=which, amount=amounts, all_of_it=st.booleans())
    def refund(self, choice: int, amount: Decimal, all_of_it: bool) -> None:
        reference, purchase = self.pick(choice, "captured")
        left = purchase.paid - purchase.refunded
        self.give_back(reference, purchase, left if all_of_it and left else amount)

    def give_back(self, reference: uuid.UUID, purchase: Purchase, amount: Decimal) -> None:
        """M7."""
        left = purchase.paid - purchase.refunded
        verb = partial(corrections.refund, reference=reference, amount_usd=amount, reason="blurred", by="ops")
        self.expect(verb, None if amount <= left else corrections.RefundTooLarge)
        if amount <= left:
            purchase.refunded += amount
            self.move(purchase.periods, spent=-amount)

    @rule(who=somebody, amount=amounts, sign=st.sampled_from([1, -1]))
    def adjust(self, who: int, amount: Decimal, sign: int) -> None:
        fits = sign < 0 or self.fits(who, self.current(who), amount)
        user = User.objects.get(pk=self.users[who].pk)
        verb = partial(corrections.adjust, user=user, amount_usd=amount * sign, reason="a mistake", by="ops")
        self.expect(verb, None if fits else holds.BudgetExceeded)
        if fits:
            self.move(self.current(who), spent=amount * sign)

    @rule(who=somebody, saved=amounts)
    def answer_from_the_cache(self, who: int, saved: Decimal) -> None:
        verb = partial(
            usage.record_cached,
            user_id=self.users[who].pk,
            timezone=self.zones[who],
            reference=uuid.uuid4(),
            kind="image",
            model="standard",
            estimated_usd=saved,
            saved_usd=saved,
        )
        self.expect(verb, None)

    # --- What happens around it -----------------------------------------------------------------

    @rule(who=somebody, month=caps, day=caps, job=caps)
    def change_limits(
        self, who: int, month: Decimal | None, day: Decimal | None, job: Decimal | None
    ) -> None:
        """A lowered limit blocks new holds only."""
        self.limits[who] = Limits(Decimal(5) if month is None else month, day, job)
        Budget.objects.update_or_create(
            user=self.users[who], defaults={"limit_usd": month, "daily_limit_usd": day, "max_job_usd": job}
        )

    @rule(cap=caps)
    def change_the_teams_cap(self, cap: Decimal | None) -> None:
        """Set in the middle of a month, it counts what was spent before."""
        self.team_cap = cap
        if cap is None:
            TeamBudget.objects.filter(team=self.team).delete()
        else:
            TeamBudget.objects.update_or_create(team=self.team, defaults={"limit_usd": cap})

    @rule(who=somebody, zone=st.sampled_from(ZONES), teams=st.booleans())
    def move_to_another_time_zone(self, who: int, zone: str, teams: bool) -> None:
        if teams:
            Team.objects.filter(pk=self.team.pk).update(timezone=zone)
        else:
            self.zones[who] = zone
            User.objects.filter(pk=self.users[who].pk).update(timezone=zone)

    @rule(by=jumps)
    def jump(self, by: timedelta) -> None:
        self.set_clock(self.at + by)

    @rule(who=somebody, amount=amounts, choice=which)
    def crash(self, who: int, amount: Decimal, choice: int) -> None:
        """A process dies with its transaction open: midway through a purchase, and midway through the end of one."""
        with pytest.raises(Crash):
            self.dying(who, amount, choice)

    @transaction.atomic
    def dying(self, who: int, amount: Decimal, choice: int) -> None:
        Budget.objects.update_or_create(
            user=self.users[who], defaults={"limit_usd": 1000, "max_job_usd": None}
        )
        TeamBudget.objects.filter(team=self.team).delete()
        Budget.objects.filter(user=self.users[who]).update(daily_limit_usd=None)
        reference = uuid.uuid4()
        self.reserving(who, reference, amount)
        self.capturing(reference, amount * 2)
        corrections.refund(reference=reference, amount_usd=amount, reason="blurred", by="ops")
        if self.has("held"):
            self.capturing(self.pick(choice, "held")[0], amount)
        raise Crash

    # --- The promises ---------------------------------------------------------------------------

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        found = BudgetPeriod.objects.values_list("pk", "spent_usd", "held_usd")
        booked = {pk: (spent, held) for pk, spent, held in found if spent or held}
        model = {pk: (b.spent, b.held) for pk, b in self.balances.items() if b.spent or b.held}
        assert booked == model

    @invariant()
    def no_promise_is_broken(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM pg_temp.violations()")
            assert cursor.fetchall() == []


def play(examples: int, steps: int) -> None:
    Ledger.team = factories.team()
    tier = factories.tier(monthly_budget_usd=Decimal(5))
    Ledger.users = [factories.user(team=Ledger.team, tier=tier) for _ in range(2)]
    run_state_machine_as_test(
        Ledger,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)  # a failing example is made small first
@pytest.mark.django_db(transaction=True)
def test_the_ledger_does_what_its_model_does_in_any_order() -> None:
    play(examples=30, steps=25)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(20))
@pytest.mark.django_db(transaction=True)
def test_the_ledger_does_what_its_model_does_for_long(part: int) -> None:
    """2,000 examples; in parts, so that both cores are used and what passed is known."""
    play(examples=100, steps=50)
