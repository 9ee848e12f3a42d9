"""The table of reviews."""

from django.core.validators import MaxLengthValidator
from django.db import migrations, models


class Migration(migrations.Migration):
    """Make it."""

    initial = True
    dependencies = ()
    operations = (
        migrations.CreateModel(
            name="Review",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("author", models.CharField(max_length=100)),
                ("text", models.TextField(validators=[MaxLengthValidator(20_000)])),
                ("job_id", models.UUIDField()),
            ],
        ),
    )
