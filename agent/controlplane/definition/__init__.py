"""Task definitions as data: which fields there are, what they must be, what a run changes of them.

Pure: nothing here reads the store or the clock. Raises ``ClientException`` for a rule that is
broken, ``OverrideError`` for an override that does not fit its definition.
"""
