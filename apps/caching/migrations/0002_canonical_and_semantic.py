import apps.core.clock
import apps.core.ids
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0005_rate_buckets'),
        ('caching', '0001_initial'),
    ]

    operations = [
        # In production a superuser may have to create it once, or the provider's console: docs/howto/semantic-cache.md.
        migrations.RunSQL('CREATE EXTENSION IF NOT EXISTS vector', migrations.RunSQL.noop),
        migrations.AddField('cachedresult', 'canonical', models.BinaryField(max_length=32, null=True)),
        migrations.AddField('cachedresult', 'compatibility', models.BinaryField(default=bytes, max_length=32)),
        migrations.AddField('cachedresult', 'prompt', models.TextField(default='')),
        migrations.AddIndex('cachedresult', models.Index(condition=models.Q(('canonical__isnull', False)), fields=['team', 'canonical', '-created_at'], name='cached_by_canonical')),
        migrations.AddIndex('cachedresult', models.Index(fields=['source_id'], name='cached_by_source')),
        migrations.CreateModel(
            name='CachedVector',
            fields=[
                ('result', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to='caching.cachedresult')),
                ('compatibility', models.BinaryField(max_length=32)),
                ('embedder', models.CharField(max_length=100)),
                ('team', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='accounts.team')),
            ],
            options={
                'indexes': [models.Index(fields=['team', 'compatibility', 'embedder'], name='vector_by_compatibility')],
            },
        ),
        migrations.CreateModel(
            name='Tombstone',
            fields=[
                ('id', models.UUIDField(default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('asked', models.BinaryField(max_length=32)),
                ('source_id', models.UUIDField()),
                ('created_at', models.DateTimeField(default=apps.core.clock.now)),
                ('team', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='accounts.team')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('team', 'asked', 'source_id'), name='one_tombstone_per_pair')],
            },
        ),
        migrations.CreateModel(
            name='SemanticMatch',
            fields=[
                ('id', models.UUIDField(default=apps.core.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('subject_id', models.UUIDField(unique=True)),
                ('source_id', models.UUIDField()),
                ('served', models.BooleanField()),
                ('similarity', models.FloatField()),
                ('probability', models.FloatField()),
                ('signature', models.CharField(max_length=200)),
                ('saved_usd', models.DecimalField(decimal_places=10, max_digits=20)),
                ('judged', models.CharField(blank=True, choices=[('', 'not yet'), ('right', 'Right'), ('wrong', 'Wrong')], default='', max_length=5)),
                ('created_at', models.DateTimeField(default=apps.core.clock.now)),
                ('team', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='accounts.team')),
            ],
            options={
                'indexes': [models.Index(fields=['signature', 'judged'], name='match_by_signature')],
                'constraints': [models.CheckConstraint(condition=models.Q(('judged__in', ['', 'right', 'wrong'])), name='judged_known')],
            },
        ),
        # Column type and index of pgvector, which Django does not know. HNSW as measured in docs/reference/caching.md.
        migrations.RunSQL(
            """
            ALTER TABLE caching_cachedvector ADD COLUMN embedding halfvec(384) NOT NULL;
            CREATE INDEX vector_by_nearness ON caching_cachedvector USING hnsw (embedding halfvec_cosine_ops);
            """,
            'ALTER TABLE caching_cachedvector DROP COLUMN embedding',
        ),
    ]
