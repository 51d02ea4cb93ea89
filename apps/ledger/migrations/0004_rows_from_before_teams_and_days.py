from django.db import migrations

# Months of users are what there was. Their days until now become one day, and the team's month is the sum of them.
LINK = """
ALTER TABLE ledger_entry DISABLE TRIGGER ledger_entry_is_final;

UPDATE ledger_budgetperiod
SET scope = 'user_month', first_day = date_trunc('month', (ends_at - interval '15 days') AT TIME ZONE 'UTC')::date;

INSERT INTO ledger_budgetperiod (scope, user_id, first_day, starts_at, ends_at, spent_usd, held_usd)
SELECT 'user_day', user_id, first_day, starts_at,
       LEAST(ends_at, (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'),
       spent_usd, held_usd
FROM ledger_budgetperiod WHERE scope = 'user_month' AND starts_at < now();

INSERT INTO ledger_budgetperiod (scope, team_id, first_day, starts_at, ends_at, spent_usd, held_usd)
SELECT 'team_month', u.team_id, p.first_day, p.first_day::timestamp AT TIME ZONE 'UTC',
       (p.first_day + interval '1 month') AT TIME ZONE 'UTC', sum(p.spent_usd), sum(p.held_usd)
FROM ledger_budgetperiod p JOIN accounts_user u ON u.id = p.user_id
WHERE p.scope = 'user_month' AND u.team_id IS NOT NULL
GROUP BY u.team_id, p.first_day;

CREATE TEMPORARY TABLE linked ON COMMIT DROP AS
SELECT m.id AS period_id, d.id AS day_period_id, g.id AS team_period_id, m.user_id, g.team_id
FROM ledger_budgetperiod m
JOIN accounts_user u ON u.id = m.user_id
JOIN ledger_budgetperiod d ON d.scope = 'user_day' AND d.user_id = m.user_id AND d.first_day = m.first_day
JOIN ledger_budgetperiod g ON g.scope = 'team_month' AND g.team_id = u.team_id AND g.first_day = m.first_day
WHERE m.scope = 'user_month';

UPDATE ledger_entry e SET day_period_id = l.day_period_id, team_period_id = l.team_period_id, user_id = l.user_id,
                          team_id = l.team_id
FROM linked l WHERE e.period_id = l.period_id;

UPDATE ledger_hold h
SET day_period_id = l.day_period_id, team_period_id = l.team_period_id,
    captured_usd = (SELECT COALESCE(sum(spent_delta_usd), 0) FROM ledger_entry WHERE reference = h.reference)
FROM linked l WHERE h.period_id = l.period_id;

INSERT INTO ledger_usagerecord (reference, period_id, user_id, team_id, day, kind, model, provider, cached, jobs,
                                cost_usd, estimated_usd, saved_usd, generation_ms, at)
SELECT h.reference, h.period_id, l.user_id, l.team_id, l.first_day, '', 'unrecorded', '', false, 1,
       h.captured_usd, h.captured_usd, 0, 0, h.resolved_at
FROM ledger_hold h
JOIN (SELECT linked.*, p.first_day FROM linked JOIN ledger_budgetperiod p ON p.id = period_id) l USING (period_id)
WHERE h.state = 'captured';

INSERT INTO ledger_usageday (user_id, team_id, day, model, provider, cached, jobs,
                             cost_usd, estimated_usd, saved_usd, generation_ms)
SELECT user_id, team_id, day, model, provider, cached, sum(jobs), sum(cost_usd), sum(estimated_usd), 0, 0
FROM ledger_usagerecord GROUP BY user_id, team_id, day, model, provider, cached;

SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE ledger_entry ENABLE TRIGGER ledger_entry_is_final;
"""
# Records of usage are as final as entries, and neither table is emptied.
FINAL = """
CREATE TRIGGER ledger_usagerecord_is_final BEFORE UPDATE OR DELETE ON ledger_usagerecord
    FOR EACH ROW EXECUTE FUNCTION ledger_entry_is_final();
CREATE TRIGGER ledger_entry_is_kept BEFORE TRUNCATE ON ledger_entry EXECUTE FUNCTION ledger_entry_is_final();
CREATE TRIGGER ledger_usagerecord_is_kept BEFORE TRUNCATE ON ledger_usagerecord
    EXECUTE FUNCTION ledger_entry_is_final();
"""
NOT_FINAL = """
DROP TRIGGER ledger_usagerecord_is_final ON ledger_usagerecord;
DROP TRIGGER ledger_entry_is_kept ON ledger_entry;
DROP TRIGGER ledger_usagerecord_is_kept ON ledger_usagerecord;
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0003_periods_of_teams_and_days")]
    operations = [migrations.RunSQL(LINK, migrations.RunSQL.noop), migrations.RunSQL(FINAL, NOT_FINAL)]
