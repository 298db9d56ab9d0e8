from tortoise import migrations
from tortoise.migrations import operations as ops
import functools
from json import dumps, loads
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('coordinator', '0001_initial')]

    initial = False

    operations = [
        ops.CreateModel(
            name='OracleAlertRow',
            fields=[
                ('key', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('competition_id', fields.CharField(db_index=True, max_length=36)),
                ('kind', fields.CharField(max_length=48)),
                ('message', fields.TextField(unique=False)),
                ('evidence', fields.JSONField(encoder=functools.partial(dumps, separators=(',', ':')), decoder=loads)),
                ('noticed_at', fields.BigIntField()),
            ],
            options={'table': 'oracle_alerts', 'app': 'coordinator', 'pk_attr': 'key', 'table_description': 'What an oracle did that it must not do, with the evidence. Kept for good.'},
            bases=['Model'],
        ),
        ops.AddField(
            model_name='PayoutRow',
            name='destination',
            field=fields.TextField(default='', unique=False),
        ),
    ]
