"""What befalls the platform itself: the rows of the fault matrix that jobs and providers answer for."""

from tests.mutants.mutant import Mutant

_LEASES = "apps/jobs/leases.py"
_RUN = "apps/jobs/run.py"
_SWEEP = "apps/jobs/sweep.py"
_LEASES_TEST = "tests/jobs/test_leases.py"
_SWEEP_TEST = "tests/jobs/test_sweep.py"
_CANCEL_TEST = "tests/jobs/test_cancel.py"
_STORAGE_TEST = "tests/jobs/test_storage.py"
_WAITING_TEST = "tests/jobs/test_waiting.py"
_ZOMBIE = f"{_LEASES_TEST}::test_who_lost_the_lease_writes_nothing"

# Each has a handling below.
ROWS = (
    "api killed between commit and ring",
    "worker killed: claimed",
    "worker killed: attempt written, request perhaps sent",
    "worker killed: ticket saved",
    "worker killed: download half",
    "worker killed: stored",
    "worker stopped and continued",
    "poison job",
    "redis flushed",
    "redis away",
    "messages doubled and shuffled",
    "two sweeps at once",
    "provider dead for a while",
    "provider bills a negative cost",
    "store away",
    "disk full",
    "client cancels: queued",
    "client cancels: generating",
    "client cancels: fetched",
    "late success after fallback",
    "equal requests at once",
)

MUTANTS = (
    Mutant(
        ("api killed between commit and ring", "redis flushed"),
        _SWEEP,
        "WHEN 'batch' THEN %(unheard_batch_before)s ELSE %(unheard_before)s END",
        "WHEN 'batch' THEN %(unheard_batch_before)s END",
        (f"{_SWEEP_TEST}::test_a_job_whose_ring_was_lost_is_rung_again_after_a_moment",),
    ),
    Mutant(
        ("redis away",),
        _SWEEP,
        "AND (rung_at IS NULL OR",
        "AND (",
        (f"{_SWEEP_TEST}::test_news_are_rung_at_once",),
    ),
    Mutant(
        ("worker killed: claimed",),
        _SWEEP,
        " OR rung_at < lease_expires_at\n",
        "\n",
        (f"{_SWEEP_TEST}::test_what_a_dead_worker_had_in_hand_is_rung_again_whatever_waits",),
    ),
    Mutant(
        ("worker killed: claimed",),
        _LEASES,
        "  AND (j.lease_expires_at IS NULL OR j.lease_expires_at <= %(now)s)\n",
        "  AND j.lease_expires_at IS NULL\n",
        (f"{_LEASES_TEST}::test_a_lease_that_ran_out_goes_to_the_next_and_counts_as_a_crash",),
    ),
    Mutant(
        ("worker killed: attempt written, request perhaps sent",),
        _RUN,
        "    elif current.ticket is None:\n        _await_news(job, current)\n",
        "    elif current.ticket is None:\n        _send_again(job, current)\n",
        (f"{_LEASES_TEST}::test_a_crash_before_the_order_was_sent_is_not_answered_by_a_second_order",),
    ),
    Mutant(
        ("worker killed: attempt written, request perhaps sent",),
        "apps/jobs/attempts.py",
        "    except IntegrityError:\n        return None\n",
        "    except IntegrityError:\n        return Attempt.objects.get(job=job, number=number)\n",
        (f"{_LEASES_TEST}::test_two_holders_never_buy_twice",),
    ),
    Mutant(
        ("worker killed: ticket saved",),
        _RUN,
        "        _await_news(job, current)\n    else:\n        _poll(job, current)\n",
        "        _await_news(job, current)\n    else:\n        outcomes.unknown(job, current)\n",
        (f"{_LEASES_TEST}::test_a_crash_after_the_ticket_was_kept_goes_on_polling",),
    ),
    Mutant(
        ("worker killed: download half",),
        _RUN,
        "            attempts.found(attempt, answer.ticket)\n",
        "            pass\n",
        (f"{_LEASES_TEST}::test_a_crash_while_downloading_an_answer_that_was_the_result_buys_nothing_again",),
    ),
    Mutant(
        ("worker killed: stored",),
        _RUN,
        "    elif current and current.status == AttemptStatus.FETCHED:\n",
        "    elif False:\n",
        (f"{_LEASES_TEST}::test_what_is_stored_is_handed_on_to_be_checked_and_not_fetched_again",),
    ),
    Mutant(
        ("worker stopped and continued",),
        _LEASES,
        "WHERE id = %(job_id)s AND lease = %(lease)s AND status = 'running'",
        "WHERE id = %(job_id)s AND status = 'running'",
        (f"{_ZOMBIE}[leaves]",),
    ),
    Mutant(
        ("worker stopped and continued",),
        "apps/jobs/settle.py",
        "WHERE id = %(id)s AND lease = %(lease)s AND status = 'running'",
        "WHERE id = %(id)s AND status = 'running'",
        (f"{_ZOMBIE}[completes]", f"{_ZOMBIE}[fails]", f"{_ZOMBIE}[cancels]"),
    ),
    Mutant(
        ("worker stopped and continued",),
        "apps/jobs/polls.py",
        "FROM notes n WHERE a.id = n.attempt AND a.status = 'submitted' AND n.is_news\n",
        "FROM notes n WHERE a.id = n.attempt AND n.is_news\n",
        ("tests/jobs/test_polls.py::test_an_answer_that_comes_late_takes_nothing_from_who_has_the_job_now",),
    ),
    Mutant(
        ("worker killed: ticket saved",),
        "apps/jobs/polls.py",
        "next_at = at + timedelta(seconds=run.MAX_POLL_S)",
        "next_at = at + timedelta(hours=1)",
        ("tests/jobs/test_polls.py::test_jobs_of_a_worker_that_died_while_it_asked_are_asked_for_again",),
    ),
    Mutant(
        ("poison job",),
        _RUN,
        "    if job.crashes >= MAX_CRASHES:\n",
        "    if False:\n",
        (f"{_LEASES_TEST}::test_three_crashes_quarantine_the_job_and_free_its_money",),
    ),
    Mutant(
        ("poison job",),
        "apps/jobs/validate.py",
        " or job.crashes >= run.MAX_CRASHES:",
        ":",
        (f"{_LEASES_TEST}::test_a_validator_that_always_dies_is_quarantined_and_the_work_not_charged",),
    ),
    Mutant(
        ("redis flushed",),
        "apps/providers/breaker_store.py",
        "    if wish.ramp and s.successes < R.ramp then\n",
        "    if false then\n",
        ("tests/providers/test_pings.py::test_after_a_flush_a_dead_provider_gets_few_calls_at_once",),
    ),
    Mutant(
        ("redis away",),
        "apps/providers/breaker_store.py",
        "        return local.admit(wishes, token) or [UNKNOWN_GENERATION] * len(wishes)\n",
        "        return [UNKNOWN_GENERATION] * len(wishes)\n",
        (f"{_WAITING_TEST}::test_without_redis_a_process_leaves_a_dead_provider_alone_by_itself",),
    ),
    Mutant(
        ("redis away",),
        "apps/providers/breaker_store.py",
        "    except (redis.RedisError, OSError) as error:\n",
        "    except ZeroDivisionError as error:\n",
        (f"{_WAITING_TEST}::test_a_redis_that_hangs_up_stops_no_order",),
        raises="ConnectionError",
    ),
    Mutant(
        ("provider dead for a while",),
        "apps/providers/reach.py",
        "            breaker_store.report("
        'self.name, token=self.token, generation=self.generation, verdict="failure")\n',
        "",
        ("tests/providers/test_pings.py::test_a_provider_that_is_away_is_not_polled_for_each_of_its_jobs",),
    ),
    Mutant(
        ("provider dead for a while",),
        "apps/jobs/run.py",
        "at = clock.now() + timedelta(seconds=max(backoff_s, min(usual_s, MAX_POLL_S), not_before_s or 0.0))",
        "at = clock.now() + timedelta(seconds=1.0)",
        ("tests/jobs/test_happy_path.py::test_polls_become_rarer_up_to_the_longest_pause",),
    ),
    Mutant(
        ("provider bills a negative cost",),
        "apps/providers/adapters/litellm.py",
        "return cost_usd if cost_usd.is_finite() and cost_usd > 0 else None",
        "return cost_usd",
        ("tests/adapters/test_litellm.py::test_a_cost_that_is_none_is_unknown_and_never_free",),
    ),
    Mutant(
        ("messages doubled and shuffled",),
        _LEASES,
        "WHERE j.id = %(id)s AND j.status IN ('queued', 'running') AND j.due_at <= %(now)s\n"
        "  AND (j.lease_expires_at",
        "WHERE j.id = %(id)s AND j.status IN ('queued', 'running')\n  AND (j.lease_expires_at",
        ("tests/jobs/test_happy_path.py::test_a_touch_before_it_is_due_does_nothing",),
    ),
    Mutant(
        ("messages doubled and shuffled",),
        "apps/jobs/unknowns.py",
        "        if not closed:\n            return\n",
        "",
        (f"{_CANCEL_TEST}::test_an_outcome_that_two_learn_at_once_is_booked_once",),
    ),
    Mutant(
        ("two sweeps at once",),
        "apps/jobs/polls.py",
        "    ORDER BY j.due_at LIMIT %(batch)s FOR UPDATE OF j SKIP LOCKED\n",
        "    ORDER BY j.due_at LIMIT %(batch)s\n",
        ("tests/jobs/test_polls.py::test_what_another_worker_is_just_taking_is_passed_over",),
        raises="OperationalError",
    ),
    Mutant(
        ("store away",),
        _RUN,
        "store_away = isinstance(error, artifacts.StoreUnavailable)",
        "store_away = False",
        (f"{_STORAGE_TEST}::test_a_result_waits_until_the_store_is_back",),
    ),
    Mutant(
        ("store away",),
        "apps/jobs/validate.py",
        "    except artifacts.StoreUnavailable:\n        _wait_for_store(job, attempt)\n",
        "    except artifacts.StoreUnavailable:\n"
        '        outcomes.failed(job, attempt, ProviderError(ErrorKind.BAD_OUTPUT, ""), AttemptStatus.REJECTED)\n',
        (f"{_STORAGE_TEST}::test_what_is_kept_waits_for_its_check_until_the_store_can_be_read",),
    ),
    Mutant(
        ("disk full",),
        "apps/artifacts/store.py",
        "    except OSError as error:  # the temporary file: our disk is full\n",
        "    except ZeroDivisionError as error:\n",
        (f"{_STORAGE_TEST}::test_a_full_disk_is_waited_for_and_nothing_is_bought_again",),
        raises="FileNotFoundError",
    ),
    Mutant(
        ("client cancels: queued",),
        _RUN,
        "    elif job.cancel_requested_at:\n",
        "    elif False:\n",
        (f"{_CANCEL_TEST}::test_a_queued_job_ends_free_of_charge",),
    ),
    Mutant(
        ("client cancels: generating",),
        "apps/jobs/outcomes.py",
        "    elif stopped(current):\n",
        "    elif stopped(current) or True:\n",
        (f"{_CANCEL_TEST}::test_a_generation_under_way_is_paid_if_the_provider_delivers_it",),
    ),
    Mutant(
        ("client cancels: fetched",),
        "apps/jobs/outcomes.py",
        "        settle.cancel_billed(job, current)\n",
        "        settle.cancel(job, stopped=current)\n",
        (f"{_CANCEL_TEST}::test_fetched_work_is_charged_whichever_worker_sees_the_cancel",),
    ),
    Mutant(
        ("late success after fallback",),
        "apps/jobs/unknowns.py",
        "        if billed == Billed.YES:\n            holds.absorb(",
        "        if False:\n            holds.absorb(",
        (f"{_WAITING_TEST}::test_what_turns_up_at_the_first_provider_after_all_is_the_platforms_loss",),
    ),
    Mutant(
        ("equal requests at once",),
        "apps/jobs/submit.py",
        "        job.flight = Flight.LEADS\n",
        "        job.flight = Flight.ALONE\n",
        (
            "tests/jobs/test_single_flight.py::"
            "test_who_asks_for_what_is_on_its_way_waits_and_is_answered_with_it",
        ),
    ),
)
