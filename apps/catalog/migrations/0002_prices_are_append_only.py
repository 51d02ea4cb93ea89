from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [
        migrations.RunSQL(
            sql="""
                CREATE FUNCTION catalog_price_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    RAISE EXCEPTION 'prices are append-only: add a new version'
                        USING ERRCODE = 'integrity_constraint_violation';
                END $$;
                CREATE TRIGGER catalog_price_is_append_only BEFORE UPDATE OR DELETE ON catalog_price
                    FOR EACH ROW EXECUTE FUNCTION catalog_price_is_append_only();
            """,
            reverse_sql="""
                DROP TRIGGER catalog_price_is_append_only ON catalog_price;
                DROP FUNCTION catalog_price_is_append_only();
            """,
        )
    ]
