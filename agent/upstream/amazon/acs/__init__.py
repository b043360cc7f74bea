"""ACS, the channel on which Amazon ECS gives its orders.

::

    session.py      the connection: opened, watched, opened again; what each message goes to
    lane.py         orders, one after the other, bounded, outliving a connection
    messages.py     what each message says and how it is answered (pure); by fields.py (pure)
    tasks.py        a task as ECS orders it -> an assignment of ours (pure)
    validity.py     what makes an interface or a volume usable (pure)
    payloads.py  manifests.py  credentials.py  attachments.py  updates.py    one kind of order each
"""
