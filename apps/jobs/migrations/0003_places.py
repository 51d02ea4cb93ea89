from django.db import migrations

# Claims of one user's jobs take turns, so that no two of them see the same last place free. A function, because each
# statement in it sees what was committed until then: the count comes after the wait.
CREATE = """
CREATE FUNCTION jobs_place_is_free(of_user uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(of_user::text, 0));
    RETURN (SELECT count(*) FROM jobs_job
            WHERE user_id = of_user AND status = 'running' AND due_at IS NOT NULL)
         < (SELECT t.concurrency FROM accounts_user u JOIN accounts_tier t ON t.slug = u.tier_id WHERE u.id = of_user);
END $$;
"""
DROP = "DROP FUNCTION jobs_place_is_free(uuid);"


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_events_by_trigger"), ("accounts", "0001_initial")]
    operations = [migrations.RunSQL(CREATE, DROP)]
