import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "0004_rows_from_before_teams_and_days")]
    operations = [
        migrations.AlterField(
            model_name='budgetperiod',
            name='first_day',
            field=models.DateField(help_text='The local date it is named by: 2026-11-01 is November'),
        ),
        migrations.AlterField(
            model_name='budgetperiod',
            name='scope',
            field=models.CharField(choices=[('user_month', "the user's month"), ('user_day', "the user's day"), ('team_month', "the team's month")], max_length=10),
        ),
        migrations.AlterField(
            model_name='entry',
            name='day_period',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.budgetperiod'),
        ),
        migrations.AlterField(
            model_name='entry',
            name='team',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='accounts.team'),
        ),
        migrations.AlterField(
            model_name='entry',
            name='team_period',
            field=models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.budgetperiod'),
        ),
        migrations.AlterField(
            model_name='entry',
            name='user',
            field=models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AlterField(
            model_name='hold',
            name='day_period',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.budgetperiod'),
        ),
        migrations.AlterField(
            model_name='hold',
            name='team_period',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='ledger.budgetperiod'),
        ),
        migrations.AddConstraint(
            model_name='budgetperiod',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('scope__in', ('user_month', 'user_day')), ('team__isnull', True), ('user__isnull', False)), models.Q(('scope', 'team_month'), ('team__isnull', False), ('user__isnull', True)), _connector='OR'), name='period_is_of_a_user_or_a_team'),
        ),
    ]
