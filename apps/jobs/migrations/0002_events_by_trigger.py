from django.db import migrations

# A job only moves forward, and every move leaves an event: held here, so that no code path can forget it.
CREATE = """
CREATE FUNCTION jobs_job_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('completed', 'failed', 'canceled') THEN
        RAISE EXCEPTION 'job % has ended: % cannot become %', OLD.id, OLD.status, NEW.status;
    END IF;
    INSERT INTO jobs_jobevent (job_id, at, from_status, to_status)
    VALUES (NEW.id, clock_timestamp(), OLD.status, NEW.status);
    RETURN NULL;
END $$;

CREATE TRIGGER jobs_job_moved AFTER UPDATE OF status ON jobs_job
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION jobs_job_moved();
"""
DROP = """
DROP TRIGGER jobs_job_moved ON jobs_job;
DROP FUNCTION jobs_job_moved();
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
