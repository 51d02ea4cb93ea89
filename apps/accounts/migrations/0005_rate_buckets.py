from django.db import migrations

# The rate limits while Redis is away (apps/accounts/throttling.py): when each user's bucket is full again. Unlogged: what
# it holds is worth a minute. No model: nothing but one statement reads or writes it.
CREATE = """
CREATE UNLOGGED TABLE accounts_ratebucket (
    name text PRIMARY KEY,
    full_at timestamptz NOT NULL
) WITH (fillfactor = 50);
"""
DROP = "DROP TABLE accounts_ratebucket;"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0004_open_jobs_and_team_admins")]
    operations = [migrations.RunSQL(CREATE, DROP)]
