"""The container engine: one async protocol (``protocol``) and its Docker adapter (``docker``)."""
