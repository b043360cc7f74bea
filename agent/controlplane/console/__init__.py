"""The console: a page in the browser that shows clusters, hosts, services, tasks, logs and figures.

::

    page/          what the browser gets: HTML, CSS and JavaScript modules, served as they are
    files.py       serves them, with validators and a strict content security policy
    admission.py   which calls a page may make, and which of them need no key
    changes.py     what of a cluster a change of the store concerns. Pure
    stream.py      tells readers what has changed, and new figures, as they come

The page has no interface of its own: it calls the APIs of AWS that control serves, signed in the browser with
the operator's key, so that whatever a key may not do, the page may not do either. The key's secret is never sent.
From ``stream`` it learns what to read anew. Without a reader there is no work, and nothing is kept.

Reads the store and the metric store; writes nothing. Tests: ``tests/unit/controlplane/console``, and
``tests/integration/controlplane/test_console.py`` with a real browser.
"""
