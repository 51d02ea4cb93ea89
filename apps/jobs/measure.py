"""How well each route works, from how its latest attempts ended: the figures that routing, selection and quotes use."""

from datetime import timedelta

from apps.core import clock, rows

# Enough for a p95, few enough to see a change within minutes of traffic.
_LATEST = 200
_WINDOW = timedelta(hours=24)

# One walk down the index `attempt_measured` for each route: the cost does not grow with the table. The time is from
# the row that precedes the order, not from the ticket: an adapter whose provider answers at once has none.
_MEASURE = """
INSERT INTO catalog_routestats (route_id, samples, success_rate, p50_s, p95_s, measured_at)
SELECT route.id, recent.samples, recent.success_rate, recent.times[1], recent.times[2], %(now)s
FROM catalog_route AS route CROSS JOIN LATERAL (
    SELECT count(*) AS samples,
           avg((status = 'accepted')::int) AS success_rate,
           percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY took_s)
               FILTER (WHERE status = 'accepted') AS times
    FROM (
        SELECT status, extract(epoch FROM finished_at - started_at)::float8 AS took_s
        FROM jobs_attempt
        WHERE route_id = route.id AND finished_at > %(since)s
          AND status IN ('accepted', 'rejected', 'failed')
          AND NOT (error_kind IN ('content_rejected', 'invalid_request', 'canceled'))
        ORDER BY finished_at DESC LIMIT %(latest)s
    ) AS latest
) AS recent
ON CONFLICT (route_id) DO UPDATE SET
    samples = EXCLUDED.samples, success_rate = EXCLUDED.success_rate,
    p50_s = EXCLUDED.p50_s, p95_s = EXCLUDED.p95_s, measured_at = EXCLUDED.measured_at
"""


def routes() -> int:
    """Measures every route. Returns how many."""
    now = clock.now()
    return rows.execute(_MEASURE, {"now": now, "since": now - _WINDOW, "latest": _LATEST})
