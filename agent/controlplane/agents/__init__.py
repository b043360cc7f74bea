"""The agents' side of the control endpoint: registration, held polls, reports, metrics.

The messages are in ``agent.model.wire``. ``http`` answers the calls; the other modules do the work
behind them and know nothing of HTTP.
"""
