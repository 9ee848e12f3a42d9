"""The brokers that messages may go through: Redis, a Redis behind Sentinels, RabbitMQ. What each needs, as data.

A room of its own because nothing else here asks which broker it is. `kinds` reads the operator's URL into Celery's
settings; `drivers` is what kombu's two drivers differ in: a queue's arguments, and how a batch is published.
"""
