"""What a provider does wrong (apps/simulator/faults.py): with each handling of it the tests that miss it."""

from tests.mutants.mutant import Mutant

_SUITE = "tests/adapters/test_contract_suite.py"
_KIND = f"{_SUITE}::test_a_submit_that_goes_wrong_has_its_kind"
_POLL = f"{_SUITE}::test_a_poll_that_goes_wrong_is_not_the_end"
_SIGNED = f"{_SUITE}::test_a_webhook_that_is_not_genuine_is_rejected"
_FAULTS = "tests/jobs/test_provider_faults.py"
_DELIVERED = "tests/jobs/test_delivery_faults.py"
_UNKNOWN = "tests/jobs/test_unknown_outcomes.py"
_TOLD = "tests/jobs/test_provider_webhooks.py"
_WAITING = "tests/jobs/test_waiting.py"
_OUTPUT = "tests/validation/test_output.py"
_QUALITY = "tests/validation/test_quality.py"

_ANSWERS = "apps/providers/answers.py"
_HTTP = "apps/providers/http.py"
_ASKED = "apps/providers/asked.py"
_WIRE = "apps/providers/wire.py"
_ERRORS = "apps/providers/errors.py"
_SIGNATURES = "apps/providers/signatures.py"
_WAVESPEED = "apps/providers/adapters/wavespeed.py"
_REPLICATE = "apps/providers/adapters/replicate.py"
_FAL = "apps/providers/adapters/fal.py"
_CORE = "apps/core/http.py"
_RUN = "apps/jobs/run.py"
_STORE = "apps/artifacts/store.py"

SUBMIT = (
    Mutant(
        ("500", "503"),
        _ANSWERS,
        "ErrorKind.SERVER_ERROR if status >= 500 else ErrorKind.MALFORMED",
        "ErrorKind.MALFORMED",
        (
            f"{_KIND}[wavespeed-500]",
            f"{_KIND}[fal-503]",
            f"{_FAULTS}::test_a_provider_that_fails_twice_is_tried_again",
        ),
    ),
    Mutant(
        ("500",),
        "apps/providers/permits.py",
        "elif error and error.policy.trips and error.kind not in _OUTCOMES:",
        "elif False:",
        (f"{_WAITING}::test_failures_of_some_jobs_keep_the_next_ones_away_from_the_provider",),
    ),
    Mutant(
        ("502",),
        _ANSWERS,
        "    502: ErrorKind.AMBIGUOUS,\n",
        "",
        (f"{_KIND}[wavespeed-502]", f"{_KIND}[stability-502]"),
    ),
    Mutant(("504",), _ANSWERS, "    504: ErrorKind.AMBIGUOUS,\n", "", (f"{_KIND}[wavespeed-504]",)),
    Mutant(("401",), _ANSWERS, "    401: ErrorKind.AUTHENTICATION,\n", "", (f"{_KIND}[replicate-401]",)),
    Mutant(
        ("401",),
        _ERRORS,
        "ErrorKind.AUTHENTICATION:     Policy(False,",
        "ErrorKind.AUTHENTICATION:     Policy(True,",
        (f"{_FAULTS}::test_a_provider_that_does_not_take_our_key_is_not_asked_again",),
    ),
    Mutant(("402",), _ANSWERS, "    402: ErrorKind.INSUFFICIENT_FUNDS,\n", "", (f"{_KIND}[wavespeed-402]",)),
    Mutant(
        ("404",),
        _ANSWERS,
        "kind = ErrorKind.INVALID_REQUEST if 400 <= status < 500 else server_error",
        "kind = server_error",
        ("tests/adapters/test_fal.py::test_a_refused_submit_has_its_kind",),
    ),
    Mutant(
        ("404",),
        _ERRORS,
        "ErrorKind.INVALID_REQUEST:    Policy(False, True,",
        "ErrorKind.INVALID_REQUEST:    Policy(False, False,",
        (f"{_FAULTS}::test_a_model_that_its_provider_retired_is_made_by_another_one",),
    ),
    Mutant(
        ("429", "429-absent"),
        _ANSWERS,
        "    429: ErrorKind.RATE_LIMITED,\n",
        "",
        (f"{_KIND}[wavespeed-429]", f"{_KIND}[replicate-429-absent]"),
    ),
    Mutant(
        ("429",),
        "apps/jobs/routing.py",
        "if name == newest and retry_after_s:",
        "if False:",
        (f"{_FAULTS}::test_retry_after_is_obeyed_to_the_second",),
    ),
    Mutant(
        ("429",),
        "apps/providers/permits.py",
        "limiter.throttled(permit.provider, pause_s=pause_s)",
        "pass",
        (f"{_WAITING}::test_a_429_makes_the_other_jobs_wait_as_long_as_it_asked",),
    ),
    Mutant(
        ("429-date",),
        _ANSWERS,
        "seconds = (_aware(parsedate_to_datetime(text)) - clock.now()).total_seconds()",
        "return None",
        (f"{_SUITE}::test_retry_after_is_read_and_held_within_reason[wavespeed-429-date=30-28-31]",),
    ),
    Mutant(
        ("429-absurd",),
        _ANSWERS,
        "min(max(seconds, 0.0), _RETRY_AFTER_MAX_S)",
        "max(seconds, 0.0)",
        (f"{_SUITE}::test_retry_after_is_read_and_held_within_reason[fal-429-absurd-600-600]",),
    ),
    Mutant(
        ("429-absent",),
        "apps/providers/permits.py",
        "        if pause_s is None:\n",
        "        if pause_s is None:\n            return\n",
        (f"{_WAITING}::test_a_429_that_does_not_say_how_long_makes_the_others_wait_a_moment",),
    ),
    Mutant(
        ("429-concurrency",),
        "apps/providers/limiter.py",
        "if open >= 2 then s.limit = math.max(1, math.floor(0.7 * open)); s.limit_cut = open end",
        "",
        (
            "tests/providers/test_limiter.py::"
            "test_a_429_allows_seven_tenths_of_what_was_under_way_and_successes_give_it_back",
        ),
        raises="KeyError",
    ),
    Mutant(
        ("429-concurrency",),
        "apps/providers/adapters/elevenlabs.py",
        '    "too_many_concurrent_requests": ErrorKind.RATE_LIMITED,\n',
        '    "too_many_concurrent_requests": ErrorKind.SERVER_ERROR,\n',
        (f"{_KIND}[elevenlabs-429-concurrency]",),
    ),
    Mutant(
        ("429-quota",),
        _ANSWERS,
        "if kind == ErrorKind.RATE_LIMITED and any(words in message.lower() for words in _SPENT):",
        "if False:",
        (f"{_KIND}[wavespeed-429-quota]",),
    ),
    Mutant(
        ("refused",),
        _ANSWERS,
        "if kind in (ErrorKind.INVALID_REQUEST, ErrorKind.AUTHENTICATION) and is_moderation(message):",
        "if False:",
        (f"{_KIND}[wavespeed-refused]", f"{_KIND}[replicate-refused]"),
    ),
    Mutant(
        ("refused", "nsfw"),
        "apps/jobs/outcomes.py",
        "if last and (last.error_kind == ErrorKind.CONTENT_REJECTED or unsafe > MAX_UNSAFE):",
        "if last and unsafe > MAX_UNSAFE:",
        (
            f"{_FAULTS}::test_what_the_provider_flags_as_unsafe_is_neither_delivered_nor_charged_nor_bought_elsewhere",
            f"{_FAULTS}::test_a_prompt_that_one_provider_refused_is_not_shown_to_another",
        ),
    ),
    Mutant(
        ("hang", "reset", "accept-reset", "accept-hang", "accept-short", "accept-cut"),
        _HTTP,
        "return ProviderError(ErrorKind.AMBIGUOUS, type(error).__name__)",
        "return ProviderError(ErrorKind.CONNECT, type(error).__name__)",
        (
            f"{_SUITE}::test_a_provider_that_says_nothing_is_ambiguous[wavespeed-hang]",
            f"{_KIND}[replicate-reset]",
            *(
                f"{_SUITE}::test_a_submit_is_sent_once_and_what_may_be_billed_is_never_called_free[wavespeed-{fault}]"
                for fault in ("accept-reset", "accept-hang", "accept-short", "accept-cut")
            ),
        ),
    ),
    Mutant(
        ("hang",),
        _ASKED,
        "connection.settimeout(wait_s)",
        "connection.settimeout(None)",
        ("tests/providers/test_asked.py::test_on_a_kept_connection_each_order_waits_as_long_as_it_may",),
    ),
    Mutant(
        ("accept-reset", "reset"),
        _RUN,
        'if error.policy.billed == "unknown":\n            _await_news(job, attempt)',
        'if error.policy.billed == "unknown":\n            outcomes.failed(job, attempt, error)',
        (
            f"{_UNKNOWN}::test_a_reset_after_the_order_was_accepted_completes_by_the_webhook",
            f"{_UNKNOWN}::test_a_reset_before_the_order_holds_the_money_until_the_policy_frees_it",
        ),
    ),
    Mutant(
        ("accept-reset",),
        _RUN,
        "if ticket is None and can.idempotent and not attempt.resends:",
        "if ticket is None and not attempt.resends:",
        (
            "tests/jobs/test_ambiguous_orders.py::"
            "test_an_order_whose_answer_was_lost_is_never_bought_twice[3-stability]",
        ),
    ),
    Mutant(
        ("accept-reset",),
        "apps/jobs/routing.py",
        'route["provider"] in silent\n            or name in given_up',
        "name in given_up",
        ("tests/jobs/test_routing.py::test_a_provider_whose_outcome_is_unknown_is_asked_for_nothing_more",),
    ),
    Mutant(
        ("accept-garbled", "accept-html", "poll-garbled"),
        _HTTP,
        'raise ProviderError(ErrorKind.MALFORMED, f"HTTP {self.status} without JSON")',
        'raise ProviderError(ErrorKind.GENERATION_FAILED, f"HTTP {self.status} without JSON")',
        (
            f"{_SUITE}::test_a_submit_is_sent_once_and_what_may_be_billed_is_never_called_free[wavespeed-accept-garbled]",
            f"{_SUITE}::test_a_submit_is_sent_once_and_what_may_be_billed_is_never_called_free[fal-accept-html]",
            f"{_POLL}[wavespeed-poll-garbled]",
        ),
    ),
    Mutant(
        ("accept-html",),
        _ANSWERS,
        'if answer.headers.get("content-type", "").startswith(_NO_FILE):',
        "if False:",
        (f"{_KIND}[stability-accept-html]", f"{_KIND}[elevenlabs-accept-html]"),
        raises="DidNotRaise",
    ),
)

POLLS = (
    Mutant(
        ("stuck",),
        _RUN,
        "elif clock.now() >= job.deadline_at:",
        "elif False:",
        (
            "tests/jobs/test_deadlines.py::"
            "test_a_purchase_still_running_at_the_deadline_keeps_its_money_until_its_outcome_is_known",
        ),
    ),
    Mutant(
        ("unknown-status",),
        _WAVESPEED,
        '    return Pending(ticket, "submitted" if status == "created" else "generating")',
        '    if status not in ("created", "processing"):\n'
        '        raise ProviderError(ErrorKind.GENERATION_FAILED, "?")\n'
        '    return Pending(ticket, "submitted" if status == "created" else "generating")',
        (f"{_SUITE}::test_a_status_nobody_knows_is_still_pending[wavespeed]",),
        raises="ProviderError",
    ),
    Mutant(
        ("unknown-status",),
        _REPLICATE,
        "    return Pending(ticket, *_way(prediction))",
        '    if status not in ("starting", "processing"):\n'
        '        raise ProviderError(ErrorKind.GENERATION_FAILED, "?")\n'
        "    return Pending(ticket, *_way(prediction))",
        (f"{_SUITE}::test_a_status_nobody_knows_is_still_pending[replicate]",),
        raises="ProviderError",
    ),
    Mutant(
        ("unknown-status",),
        _FAL,
        'if status.get("status") != "COMPLETED":',
        'if status.get("status") in ("IN_QUEUE", "IN_PROGRESS"):',
        (f"{_SUITE}::test_a_status_nobody_knows_is_still_pending[fal]",),
        raises="ProviderError",
    ),
    Mutant(
        ("regress",),
        "apps/jobs/attempts.py",
        '""".format(open="status IN (\'started\', \'submitted\')")',
        '""".format(open="true")',
        ("tests/jobs/test_leases.py::test_an_earlier_status_heard_late_takes_nothing_back",),
    ),
    Mutant(
        ("forgetful",),
        _RUN,
        "error.kind == ErrorKind.NOT_FOUND and age_s > _FORGETFUL_S",
        "error.kind == ErrorKind.NOT_FOUND",
        (f"{_UNKNOWN}::test_a_ticket_the_provider_forgot_is_an_unknown_outcome_once_it_is_old",),
    ),
    Mutant(
        ("forgetful",),
        _WAVESPEED,
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.NOT_FOUND,",
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.GENERATION_FAILED,",
        (f"{_POLL}[wavespeed-forgetful]",),
    ),
    Mutant(
        ("forgetful",),
        _REPLICATE,
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.NOT_FOUND,",
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.GENERATION_FAILED,",
        (f"{_POLL}[replicate-forgetful]",),
    ),
    Mutant(
        ("forgetful",),
        _FAL,
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.NOT_FOUND,",
        "    if answer.status == 404:\n        raise ProviderError(ErrorKind.GENERATION_FAILED,",
        (f"{_POLL}[fal-forgetful]",),
    ),
    Mutant(
        ("poll-500", "poll-502", "poll-429", "poll-reset", "poll-garbled"),
        _RUN,
        "elif error.ends_generation or _is_lost(attempt, error):",
        "elif True:",
        (
            "tests/jobs/test_happy_path.py::test_a_provider_that_cannot_be_reached_for_a_poll_says_nothing_about_the_work",
        ),
    ),
    Mutant(
        ("poll-500", "poll-502", "poll-429", "poll-garbled"),
        _ERRORS,
        "        ErrorKind.CONTENT_REJECTED,\n        ErrorKind.GENERATION_FAILED,\n        ErrorKind.BAD_OUTPUT,\n",
        "        *ErrorKind,\n",
        tuple(
            f"{_POLL}[wavespeed-{fault}]" for fault in ("poll-500", "poll-502", "poll-429", "poll-garbled")
        ),
    ),
    Mutant(
        ("poll-reset",),
        _HTTP,
        "return ProviderError(ErrorKind.AMBIGUOUS, type(error).__name__)",
        "return ProviderError(ErrorKind.GENERATION_FAILED, type(error).__name__)",
        (f"{_POLL}[wavespeed-poll-reset]",),
    ),
    Mutant(
        ("poll-429",),
        _RUN,
        "next_poll(job, attempt, error.retry_after_s)",
        "next_poll(job, attempt)",
        ("tests/jobs/test_polls.py::test_a_poll_that_is_throttled_is_repeated_no_sooner_than_asked[False]",),
    ),
    Mutant(
        ("poll-429",),
        "apps/jobs/polls.py",
        "return _note(job, attempt, None, answer.retry_after_s)",
        "return _note(job, attempt, None, None)",
        ("tests/jobs/test_polls.py::test_a_poll_that_is_throttled_is_repeated_no_sooner_than_asked[True]",),
    ),
    Mutant(
        ("empty",),
        _WAVESPEED,
        "if not isinstance(urls, list) or not urls or not all(",
        "if not isinstance(urls, list) or not all(",
        (f"{_SUITE}::test_completed_without_outputs_is_a_bad_output[wavespeed]",),
    ),
    Mutant(
        ("empty",),
        _REPLICATE,
        "if not urls or not all(answers.is_address(url) for url in urls):",
        "if not all(answers.is_address(url) for url in urls):",
        (f"{_SUITE}::test_completed_without_outputs_is_a_bad_output[replicate]",),
    ),
    Mutant(
        ("empty",),
        _FAL,
        "if not urls or not all(answers.is_address(url) for url in urls):",
        "if not all(answers.is_address(url) for url in urls):",
        (f"{_SUITE}::test_completed_without_outputs_is_a_bad_output[fal]",),
    ),
    Mutant(
        ("empty",),
        "apps/providers/adapters/openai_batches.py",
        "    if not data:\n        raise ProviderError(ErrorKind.BAD_OUTPUT",
        "    if False:\n        raise ProviderError(ErrorKind.BAD_OUTPUT",
        (f"{_SUITE}::test_an_answer_without_outputs_is_a_bad_output[openai]",),
    ),
    Mutant(
        ("empty",),
        _ANSWERS,
        "    if not answer.body:\n",
        "    if False:\n",
        (f"{_SUITE}::test_an_answer_without_outputs_is_a_bad_output[stability]",),
    ),
    Mutant(
        ("cancel-race",),
        _REPLICATE,
        'return prediction.get("status") == "canceled" and prediction.get("started_at") is None',
        "return True",
        (f"{_SUITE}::test_what_a_cancel_took_back_is_never_billed",),
    ),
    Mutant(
        ("cancel-race",),
        _FAL,
        "            raise _refusal(answer)\n        return False",
        "            raise _refusal(answer)\n        return True",
        (f"{_SUITE}::test_what_a_cancel_took_back_is_never_billed",),
    ),
)

WEBHOOKS = (
    Mutant(
        ("lost-webhook",),
        _RUN,
        "at = clock.now() + timedelta(seconds=max(backoff_s,",
        "at = clock.now() + timedelta(seconds=max(3600.0, backoff_s,",
        (f"{_TOLD}::test_a_lost_webhook_costs_a_poll",),
    ),
    Mutant(
        ("lost-webhook",),
        _RUN,
        "    ticket = inbox.ticket(attempt.provider, attempt.pk, model=attempt.provider_model)\n",
        "    ticket = None\n",
        (f"{_UNKNOWN}::test_a_webhook_whose_ring_was_lost_is_found_in_the_inbox",),
    ),
    Mutant(
        ("double-webhook", "triple-webhook"),
        "apps/providers/inbox.py",
        "                event_id=event.event_id,\n",
        "                event_id=str(uuid.uuid4()),\n",
        (
            f"{_TOLD}::test_a_webhook_sent_a_hundred_times_counts_once",
            "tests/providers/test_inbox.py::test_a_hundred_at_once_store_one_row_and_ring_once",
        ),
    ),
    Mutant(
        ("double-webhook",),
        "apps/providers/inbox.py",
        "    except IntegrityError:\n        return None\n",
        "    except ZeroDivisionError:\n        return None\n",
        ("tests/providers/test_inbox.py::test_a_duplicate_is_welcomed_and_changes_nothing",),
        raises="IntegrityError",
    ),
    Mutant(
        ("early-webhook",),
        "apps/jobs/leases.py",
        "due_at = CASE WHEN due_at < lease_expires_at THEN due_at ELSE %(next_at)s END",
        "due_at = %(next_at)s",
        (
            f"{_TOLD}::test_a_webhook_before_the_submit_has_returned_is_not_lost",
            "tests/jobs/test_leases.py::test_news_during_a_held_lease_make_the_job_due_when_its_holder_leaves",
        ),
    ),
    Mutant(
        ("early-webhook",),
        "apps/jobs/polls.py",
        "WHERE j.id = n.job AND j.due_at = n.set_at AND n.next_at <> n.set_at\n",
        "WHERE j.id = n.job AND n.next_at <> n.set_at\n",
        ("tests/jobs/test_polls.py::test_a_nudge_during_the_look_is_not_lost",),
    ),
    Mutant(
        ("unordered-webhooks",),
        "apps/providers/inbox.py",
        "                event_id=event.event_id,\n",
        "                event_id=event.task_id,\n",
        ("tests/providers/test_inbox.py::test_two_events_of_one_task_are_both_stored",),
    ),
    Mutant(
        ("unordered-webhooks",),
        "apps/jobs/inbound.py",
        "        run.run(attempt.job_id)\n",
        '        Attempt.objects.filter(pk=attempt.pk).update(status="failed", finished_at=clock.now())\n',
        (f"{_TOLD}::test_a_webhook_that_claims_an_end_too_early_is_checked_with_the_provider",),
    ),
    Mutant(
        ("late-webhook",),
        "apps/jobs/inbound.py",
        "elif attempt.status == AttemptStatus.UNKNOWN:",
        "elif False:",
        (
            f"{_UNKNOWN}::test_work_that_turns_up_after_the_job_failed_is_the_platforms_loss",
            "tests/jobs/test_cancel.py::test_the_webhook_of_a_canceled_generation_settles_its_money_at_once",
        ),
    ),
    Mutant(
        ("bad-signature",),
        _WAVESPEED,
        'if not self._is_signed(event_id, timestamp, raw, headers.get("webhook-signature", "")):',
        "if False:",
        (
            f"{_SIGNED}[wavespeed-bad-signature]",
            f"{_TOLD}::test_a_forged_webhook_is_refused_and_moves_nothing",
        ),
    ),
    Mutant(
        ("bad-signature",),
        _SIGNATURES,
        "if not any(hmac.compare_digest(expected, one.encode()) for one in given):",
        "if False:",
        (f"{_SIGNED}[replicate-bad-signature]",),
    ),
    Mutant(
        ("bad-signature",),
        _SIGNATURES,
        "if not published(jwks_url).verify(signature, signed):",
        "if False:",
        (f"{_SIGNED}[fal-bad-signature]",),
    ),
    Mutant(
        ("old-timestamp",),
        _SIGNATURES,
        "if abs(clock.now().timestamp() - int(timestamp)) > TOLERANCE_S:",
        "if False:",
        (
            *(f"{_SIGNED}[{name}-old-timestamp=301]" for name in ("wavespeed", "replicate", "fal")),
            "tests/providers/test_inbox.py::test_a_replay_hours_later_is_refused",
        ),
    ),
    Mutant(
        ("rotated-key",),
        _WAVESPEED,
        'for one in given.split(" "))',
        "for one in [given])",
        (f"{_SUITE}::test_a_webhook_that_is_genuine_is_taken[wavespeed-rotated-key]",),
        raises="WebhookRejected",
    ),
    Mutant(
        ("rotated-key",),
        _SIGNATURES,
        'given = headers.get("webhook-signature", "").split(" ")',
        'given = [headers.get("webhook-signature", "")]',
        (f"{_SUITE}::test_a_webhook_that_is_genuine_is_taken[replicate-rotated-key]",),
        raises="WebhookRejected",
    ),
    Mutant(
        ("rotated-key",),
        _SIGNATURES,
        "            return True\n        self._fetch()\n",
        "            return True\n",
        ("tests/providers/test_signatures.py::test_a_new_key_is_fetched_when_its_first_signature_comes",),
        raises="WebhookRejected",
    ),
    Mutant(
        ("wrong-task",),
        "apps/jobs/inbound.py",
        "elif Ticket.from_json(attempt.ticket).task_id != event.task_id:",
        "elif False:",
        (f"{_TOLD}::test_a_webhook_about_another_task_moves_nothing",),
    ),
    Mutant(
        ("wrong-task",),
        _WAVESPEED,
        'if data["id"] != ticket.task_id:',
        "if False:",
        ("tests/adapters/test_wavespeed.py::test_the_answer_about_another_task_is_malformed",),
    ),
    Mutant(
        ("wrong-task",),
        _REPLICATE,
        'if prediction["id"] != ticket.task_id:',
        "if False:",
        ("tests/adapters/test_replicate.py::test_the_answer_about_another_prediction_is_malformed",),
    ),
    Mutant(
        ("wrong-task",),
        _FAL,
        'if status.get("request_id", ticket.task_id) != ticket.task_id:',
        "if False:",
        ("tests/adapters/test_fal.py::test_the_answer_about_another_request_is_malformed",),
    ),
    Mutant(
        ("reserialized",),
        _WAVESPEED,
        'signed = f"{event_id}.{timestamp}.".encode() + raw',
        'signed = f"{event_id}.{timestamp}.".encode() + json.dumps(json.loads(raw)).encode()',
        (f"{_SIGNED}[wavespeed-reserialized]",),
    ),
    Mutant(
        ("reserialized",),
        _SIGNATURES,
        'digest = hmac.digest(key, f"{named}.{timestamp}.".encode() + raw, "sha256")',
        'digest = hmac.digest(key, f"{named}.{timestamp}.".encode() + json.dumps(json.loads(raw)).encode(), "sha256")',
        (f"{_SIGNED}[replicate-reserialized]",),
    ),
    Mutant(
        ("reserialized",),
        _SIGNATURES,
        "{hashlib.sha256(raw).hexdigest()}",
        "{hashlib.sha256(json.dumps(json.loads(raw)).encode()).hexdigest()}",
        (f"{_SIGNED}[fal-reserialized]",),
    ),
)

DELIVERIES = (
    Mutant(
        ("nsfw",),
        _RUN,
        "if any(output.flagged for output in result.outputs):",
        "if False:",
        (
            f"{_FAULTS}::test_what_the_provider_flags_as_unsafe_is_neither_delivered_nor_charged_nor_bought_elsewhere",
        ),
    ),
    Mutant(
        ("nsfw", "filtered"),
        _WAVESPEED,
        "flagged=index < len(flags) and flags[index] is True",
        "flagged=False",
        (
            f"{_SUITE}::test_an_unsafe_output_is_never_a_plain_success[wavespeed-nsfw]",
            f"{_SUITE}::test_an_unsafe_output_is_never_a_plain_success[wavespeed-filtered]",
        ),
    ),
    Mutant(
        ("nsfw", "filtered"),
        _FAL,
        "flagged=index < len(flags) and flags[index] is True",
        "flagged=False",
        (f"{_SUITE}::test_an_unsafe_output_is_never_a_plain_success[fal-filtered]",),
    ),
    Mutant(
        ("nsfw",),
        _REPLICATE,
        'rejected = status == "failed" and answers.is_moderation(message)',
        "rejected = False",
        (f"{_SUITE}::test_an_unsafe_output_is_never_a_plain_success[replicate-nsfw]",),
    ),
    Mutant(
        ("filtered",),
        "apps/providers/adapters/stability.py",
        'if reason != "SUCCESS":',
        "if False:",
        (f"{_SUITE}::test_what_moderation_stopped_is_a_refusal_and_was_not_bought[stability-filtered]",),
    ),
    Mutant(
        ("truncated",),
        "apps/validation/checks/technical.py",
        "    except decode.Undecodable as error:\n        return _failed([str(error)], {}), None",
        "    except decode.Undecodable:\n"
        '        good = CheckResult(NAME, "passed", True, 1.0, {}, version=VERSION)\n'
        "        return good, MediaInfo(64, 64)",
        (
            f"{_OUTPUT}::test_a_truncated_picture_fails",
            f"{_FAULTS}::test_a_broken_image_is_the_platforms_loss_not_the_users",
        ),
        raises="Undecodable",
    ),
    Mutant(
        ("truncated",),
        "apps/validation/checks/decode.py",
        "if announced_s - seen.ends_at_s > max(0.25, 0.05 * announced_s):",
        "if False:",
        (f"{_OUTPUT}::test_a_truncated_recording_fails",),
    ),
    Mutant(
        ("html-output",),
        _STORE,
        "    if found is None or found.mime not in _ALLOWED[kind]:",
        '    if found is None:\n        return "image/png", "png"\n    if found.mime not in _ALLOWED[kind]:',
        ("tests/artifacts/test_store.py::test_anything_else_is_bad_media_and_leaves_nothing",),
    ),
    Mutant(
        ("html-output",),
        _RUN,
        "    except artifacts.BadMedia as error:\n",
        "    except ZeroDivisionError as error:\n",
        (f"{_DELIVERED}::test_a_spoilt_output_is_bought_again_at_the_platforms_cost[html-output]",),
        raises="BadMedia",
    ),
    Mutant(
        ("wrong-type",),
        _ANSWERS,
        '_NO_FILE = ("text/html", "application/json")',
        '_NO_FILE = ("text/", "application/json")',
        (f"{_SUITE}::test_a_file_under_a_wrong_name_is_still_the_file",),
        raises="ProviderError",
    ),
    Mutant(
        ("blank", "black"),
        "apps/validation/checks/technical.py",
        "for name, score in scores.items() if name in picture.HARD and score == 0]",
        "for name, score in scores.items() if False]",
        (f"{_QUALITY}::test_a_useless_picture_is_refused_for_what_it_is",),
    ),
    Mutant(
        ("wrong-size",),
        "apps/validation/checks/technical.py",
        "if wanted and found is not None and abs(found - wanted) > SIZE_TOLERANCE * wanted:",
        "if False:",
        (
            f"{_OUTPUT}::test_the_size_is_what_was_asked_for",
            f"{_DELIVERED}::test_a_spoilt_output_is_bought_again_at_the_platforms_cost[wrong-size]",
        ),
    ),
    Mutant(
        ("wrong-n",),
        _RUN,
        "if len(result.outputs) < wanted:",
        "if False:",
        (f"{_DELIVERED}::test_fewer_pictures_than_ordered_are_not_the_order",),
    ),
    Mutant(
        ("wrong-n",),
        _RUN,
        "for output in result.outputs[:wanted]",
        "for output in result.outputs",
        (f"{_DELIVERED}::test_more_pictures_than_ordered_are_not_delivered",),
    ),
    Mutant(
        ("huge",),
        _CORE,
        "if declared.isdecimal() and int(declared) > max_bytes:",
        "if False:",
        ("tests/core/test_http.py::test_a_file_that_says_it_is_too_large_is_not_read",),
    ),
    Mutant(
        ("huge",),
        _CORE,
        "        if size > max_bytes:\n",
        "        if False:\n",
        ("tests/core/test_http.py::test_too_many_bytes_are_refused_when_announced_and_when_not",),
    ),
    Mutant(
        ("huge",),
        _WIRE,
        "            if body > max_bytes:\n",
        "            if False:\n",
        (
            f"{_SUITE}::test_a_result_that_does_not_arrive_whole_may_be_billed_and_is_not_ordered_again[stability-huge-malformed]",
        ),
    ),
    Mutant(
        ("expired",),
        _CORE,
        "    if reply.status != 200:\n",
        "    if False:\n",
        ("tests/core/test_http.py::test_download_of_anything_but_200_fails",),
    ),
    Mutant(
        ("expired", "short-output", "cut-output"),
        _RUN,
        "if attempt.polls >= _MAX_FETCHES and not store_away:",
        "if False:",
        (
            "tests/jobs/test_storage.py::test_a_provider_whose_files_cannot_be_downloaded_is_given_up_after_some_tries",
        ),
    ),
    Mutant(
        ("redirect-private",),
        _CORE,
        "if verdict.blocked or unallocated or address == _AZURE_HOST:",
        "if False:",
        ("tests/core/test_http.py::test_an_inner_or_odd_host_never_passes",),
    ),
    Mutant(
        ("short-output", "cut-output"),
        _CORE,
        'raise FetchFailed("truncated", str(error)) from None',
        "return",
        ("tests/core/test_http.py::test_fewer_bytes_than_announced_are_truncated",),
    ),
    Mutant(
        ("drip",),
        _CORE,
        "return self._inner.read(max_bytes, _remaining_s())",
        "return self._inner.read(max_bytes, 5.0)",
        ("tests/core/test_http.py::test_a_slow_drip_ends_at_the_deadline",),
    ),
    Mutant(
        ("drip",),
        _WIRE,
        "        if time.monotonic() > ends_at:\n",
        "        if False:\n",
        (
            "tests/adapters/test_wavespeed.py::test_an_answer_that_drips_is_cut_off",
            "tests/adapters/test_wavespeed.py::test_a_poll_whose_answer_drips_is_cut_off",
        ),
    ),
)

MONEY = (
    Mutant(
        ("failed",),
        _WAVESPEED,
        '    "failed": ErrorKind.GENERATION_FAILED,\n',
        "",
        (
            f"{_SUITE}::test_a_failed_generation_is_the_end_and_may_be_tried_again[wavespeed]",
            f"{_FAULTS}::test_a_generation_that_fails_is_not_charged_and_tried_again",
        ),
    ),
    Mutant(
        ("failed",),
        _ERRORS,
        'ErrorKind.GENERATION_FAILED:  Policy(True,  True,      True,  "no",',
        'ErrorKind.GENERATION_FAILED:  Policy(True,  True,      True,  "yes",',
        (f"{_FAULTS}::test_a_generation_that_fails_is_not_charged_and_tried_again",),
    ),
    Mutant(
        ("charge-failed", "refund", "cost", "double-charge"),
        "apps/ops/reconcile.py",
        "   OR (a.billed <> 'unknown' AND l.amount_usd <> CASE a.billed WHEN 'yes' THEN a.price_usd ELSE 0 END)",
        "",
        ("tests/jobs/test_money_faults.py::test_a_wrong_bill_is_an_alert_until_it_is_put_right",),
    ),
)

MUTANTS = (*SUBMIT, *POLLS, *WEBHOOKS, *DELIVERIES, *MONEY)
