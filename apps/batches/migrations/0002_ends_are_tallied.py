from django.db import migrations

# Written with the end of an item, whoever ends it, and with what is charged for it later. The row of the batch is not
# touched: its items would wait for each other there.
CREATE = """
CREATE FUNCTION batches_tally_item() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    ends boolean := OLD.status IN ('queued', 'running');
    late boolean := NEW.status = 'failed' AND NEW.finished_at >= NEW.deadline_at;
BEGIN
    INSERT INTO batches_tally (batch_id, completed, failed, canceled, expired, cached, cost_usd, saved_usd, freed_usd)
    VALUES (NEW.batch_id,
            (ends AND NEW.status = 'completed')::int, (ends AND NEW.status = 'failed' AND NOT late)::int,
            (ends AND NEW.status = 'canceled')::int, (ends AND late)::int,
            (NEW.cached_from IS NOT NULL AND OLD.cached_from IS NULL)::int,
            NEW.cost_usd - OLD.cost_usd, NEW.saved_usd - OLD.saved_usd,
            CASE WHEN ends THEN (NEW.quote->>'upper_bound_usd')::numeric ELSE 0 END);
    RETURN NULL;
END $$;

CREATE TRIGGER batches_tally_item AFTER UPDATE OF status, cost_usd, saved_usd, cached_from ON jobs_job
    FOR EACH ROW WHEN (NEW.batch_id IS NOT NULL AND NEW.status IN ('completed', 'failed', 'canceled')
                       AND (OLD.status, OLD.cost_usd, OLD.saved_usd, OLD.cached_from)
                           IS DISTINCT FROM (NEW.status, NEW.cost_usd, NEW.saved_usd, NEW.cached_from))
    EXECUTE FUNCTION batches_tally_item();
"""
DROP = """
DROP TRIGGER batches_tally_item ON jobs_job;
DROP FUNCTION batches_tally_item();
"""


class Migration(migrations.Migration):
    dependencies = [("batches", "0001_initial"), ("jobs", "0014_items_of_batches")]
    operations = [migrations.RunSQL(CREATE, DROP)]
