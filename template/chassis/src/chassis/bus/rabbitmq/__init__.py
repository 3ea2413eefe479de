"""RabbitMQ behind the bus port, on aiormq: AMQP 0-9-1, quorum queues, RabbitMQ 3.10 and later.

bus.py         the supervisor: connects, rebuilds after any loss, implements the port
link.py        one connection and everything on it, from connecting to its loss
consumer.py    one subscription on one channel, and its deliveries
acks.py        which delivery tags one frame may acknowledge
frames.py      reading a frame, whatever a publisher wrote into it
messages.py    headers and properties: outgoing events, retries, dead letters
topology.py    names and arguments of exchange and queues, and their declaration
errors.py      the errors of aiormq, in the words of the port
sweep.py       a pass over the dead letters
"""

from chassis.bus.rabbitmq.bus import RabbitBus

__all__ = ["RabbitBus"]
