from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('coordinator', '0002_oracle_alerts_payout_destination')]

    initial = False

    operations = [
        ops.AddField(
            model_name='CompetitionRow',
            name='lease_owner',
            field=fields.CharField(default='', max_length=36),
        ),
        ops.AddField(
            model_name='CompetitionRow',
            name='lease_until_at',
            field=fields.BigIntField(default=0),
        ),
    ]
